"""Servers that benchmarks start, watch and stop: processes of their own, children included."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 180.0
STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Attributes:
        url: where it listens.
        ready_seconds: from its start to its first good answer.
        process: its main process; `usage` counts what that started too.
    """

    url: str
    ready_seconds: float
    process: psutil.Process

    def usage(self) -> "Usage":
        """Add up what the process and its children hold now."""
        usage = Usage(0, 0, 0)
        for process in (self.process, *self.process.children(recursive=True)):
            # A child may end while it is looked at.
            with contextlib.suppress(psutil.NoSuchProcess):
                usage += Usage(process.memory_full_info().pss, process.num_fds(), 1)
        return usage


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes (what processes share is divided among them: PSS), open descriptors, processes."""

    proportional_bytes: int
    descriptors: int
    processes: int

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.proportional_bytes + other.proportional_bytes,
            self.descriptors + other.descriptors,
            self.processes + other.processes,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str],
    port: int,
    *,
    health: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Start `command`, wait until `health` answers 200, and stop all of it at the end.

    Raises:
        RuntimeError: it ended or did not answer in time; its last lines are told.
    """
    url = f"http://127.0.0.1:{port}"
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(child, url + health, log)
            yield Server(url, time.perf_counter() - started, psutil.Process(child.pid))
        finally:
            _stop(child)


@contextlib.contextmanager
def avgzsl(**settings: str) -> Iterator[Server]:
    """Run this service with an empty library; `settings` are named as in the Settings class."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="avgzsl-bench-") as data_dir:
        environment = {"AVGZSL_DATA_DIR": data_dir, "AVGZSL_PORT": str(port)}
        environment |= {f"AVGZSL_{name.upper()}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "service", "serve"]
        with running(command, port, health="/readyz", environment=environment) as server:
            yield server


def _wait(child: subprocess.Popen[bytes], url: str, log: object) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=30.0).status_code == httpx.codes.OK:
                return
        if child.poll() is not None or time.monotonic() > deadline:
            log.seek(0)  # type: ignore[attr-defined]
            tail = log.read().decode("utf-8", "replace")[-3000:]  # type: ignore[attr-defined]
            raise RuntimeError(f"{child.args} did not start:\n{tail}")
        time.sleep(0.02)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # What it left behind is of its session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
