import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from xdist.scheduler.loadfile import LoadFileScheduling

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported, and for the servers that tests start: several processes with a
    # thread for each processor only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

WHOLE_FOLDERS = ("tests/page/", "tests/story/", "tests/service/client/")
"""Of which one process runs all tests: they share a browser or a server."""


class WholeFiles(LoadFileScheduling):
    """Gives each process whole files, so that what their fixtures start is started once.

    Not by `xdist_group`: pytest 9.2 ignores the name by which pytest-xdist 3.8 marks a group.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return next((folder for folder in WHOLE_FOLDERS if file.startswith(folder)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> WholeFiles:
    return WholeFiles(config, log)


@pytest.fixture(autouse=True)
def same_priority() -> Iterator[None]:
    """A test that gives the process real-time priority starves what later tests start."""
    policy = getattr(os, "sched_getscheduler", lambda _: None)  # Linux has it
    before = policy(0)
    yield
    assert policy(0) == before


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a bucket."""
    missing = [name for name in ("moto", "flask", "s3fs") if find_spec(name) is None]
    if missing:
        pytest.skip(f"no S3 server: {', '.join(missing)} is not installed")
    from tests.s3 import s3_server

    with s3_server() as bucket:
        yield bucket
