"""The real server, as a process of its own on a free port, with the bundled model."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import httpx
import pytest

ROOT = Path(__file__).parent.parent.parent
SAMPLES = ROOT / "samples"
START_SECONDS = 120.0


class ServerProcess:
    """`avgzsl serve` on a data directory; a context manager that hands out an HTTP client."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._environment = {
            **os.environ,
            "AVGZSL_DATA_DIR": str(data_dir),
            "AVGZSL_PORT": str(self.port),
            **{f"AVGZSL_{name.upper()}": value for name, value in settings.items()},
        }
        self.log = data_dir.parent / f"server-{self.port}.log"

    def __enter__(self) -> httpx.Client:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60.0)
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start:\n{self.log.read_text('utf-8', 'replace')}")
            time.sleep(0.1)
        return self.client

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) in (0, -signal.SIGTERM)

    def _ready(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One server for tests that leave no trace in it that another test would mind."""
    with ServerProcess(tmp_path_factory.mktemp("story") / "data") as client:
        yield client


def post_file(client: httpx.Client, url: str, path: Path, **fields: object) -> httpx.Response:
    """Upload a file with form fields, as `curl -F` does."""
    with path.open("rb") as file:
        return client.post(url, files={"file": (path.name, file)}, data=fields)
