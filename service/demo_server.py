"""A server of the demo's own, with an empty library in a temporary folder."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

READY_TIMEOUT_SECONDS = 180.0
LOG_LINES = 30


class DemoFailed(Exception):
    """Something was not as the demo expects; the message says what."""


@contextmanager
def own_server(console: Console, command: Sequence[str] | None = None) -> Iterator[str]:
    """Start a server with an empty library; yield its URL once it is ready, and stop it at the end.

    Args:
        console: where progress is shown.
        command: what to start, less its port; `python -m service serve` by default.

    Raises:
        DemoFailed: it stopped, or was not ready in time; the message ends with its log.
    """
    port = _free_port()
    command = command or (sys.executable, "-m", "service", "serve", "--host", "127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="avgzsl-demo-") as folder:
        log = Path(folder) / "server.log"
        environment = {**os.environ, "AVGZSL_DATA_DIR": str(Path(folder) / "data")}
        # A catalogue elsewhere would be somebody's library.
        environment.pop("AVGZSL_CATALOGUE_URL", None)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--port", str(port)], env=environment, stdout=output, stderr=output
            )
        try:
            url = f"http://127.0.0.1:{port}"
            with console.status("Starting a server: it loads the model and warms up ..."):
                _wait_until_ready(url, process, log)
            yield url
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoFailed(
                f"the server stopped with status {process.returncode}. Its log:\n{_tail(log)}"
            )
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise DemoFailed(
        f"the server was not ready after {READY_TIMEOUT_SECONDS:.0f} s. Its log:\n{_tail(log)}"
    )


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
