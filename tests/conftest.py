import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported, and for the servers that tests start: several processes with a
    # thread for each processor only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a bucket."""
    missing = [name for name in ("moto", "flask", "s3fs") if find_spec(name) is None]
    if missing:
        pytest.skip(f"no S3 server: {', '.join(missing)} is not installed")
    from tests.s3 import s3_server

    with s3_server() as bucket:
        yield bucket
