"""The proxy of the cluster between two stand-ins for replicas."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.docker.files import DOCKER

TIMEOUT_SECONDS = 60.0
UPLOAD_BYTES = 64 * 2**20
CHUNK = b"x" * 2**16


class Replica(ThreadingHTTPServer):
    """Says whether it is ready, counts the bytes of uploads, and sends one event, then waits."""

    daemon_threads = True

    def __init__(self, name: str, *, ready: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name
        self.ready = ready
        self.event_was_seen = threading.Event()
        self.first_bytes_came = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Replica

    def do_GET(self) -> None:
        if self.path == "/events":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: one\n\n")
            self.wfile.flush()
            self.server.event_was_seen.wait(TIMEOUT_SECONDS)
            return
        ready = self.path != "/readyz" or self.server.ready
        self._answer(200 if ready else 503, self.server.name)

    def do_POST(self) -> None:
        size = 0
        left = int(self.headers["content-length"])
        while left and (chunk := self.rfile.read(min(left, len(CHUNK)))):
            self.server.first_bytes_came.set()
            size += len(chunk)
            left -= len(chunk)
        self._answer(200, str(size))

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(name: str, *, ready: bool) -> Iterator[Replica]:
    server = Replica(name, ready=ready)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def proxying(folder: Path, *replicas: Replica) -> Iterator[httpx.Client]:
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("caddy is not installed")
    port = free_port()
    # Its own port for administration, as another may run on this machine.
    config = (DOCKER / "Caddyfile").read_text("utf-8").replace("{\n", "{\n\tadmin off\n", 1)
    (folder / "Caddyfile").write_text(config)
    upstreams = " ".join(f"127.0.0.1:{replica.server_port}" for replica in replicas)
    process = subprocess.Popen(
        [caddy, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")],
        env={"HOME": str(folder), "SITE_ADDRESS": f"http://:{port}", "REPLICAS": upstreams},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS) as client:
            yield client
    finally:
        process.terminate()
        process.wait(timeout=TIMEOUT_SECONDS)


def wait_until_answered_by(client: httpx.Client, names: set[str]) -> None:
    """Wait until the last answers came from these replicas and from no other."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    answers: list[str] = []
    while time.monotonic() < deadline:
        try:
            answers = [client.get("/").text for _ in range(20)]
        except httpx.TransportError:
            answers = []
        if set(answers) == names:
            return
        time.sleep(0.2)
    pytest.fail(f"answered by {set(answers)}, not by {names}")


def test_a_replica_that_is_not_ready_gets_no_requests_until_it_is(tmp_path: Path) -> None:
    with (
        listening("first", ready=True) as first,
        listening("second", ready=False) as second,
        proxying(tmp_path, first, second) as client,
    ):
        wait_until_answered_by(client, {"first"})
        second.ready = True
        wait_until_answered_by(client, {"first", "second"})


def test_uploads_are_passed_on_while_they_come_in_and_events_at_once(tmp_path: Path) -> None:
    with listening("only", ready=True) as replica, proxying(tmp_path, replica) as client:
        wait_until_answered_by(client, {"only"})

        def upload() -> Iterator[bytes]:
            for number in range(UPLOAD_BYTES // len(CHUNK)):
                yield CHUNK
                if number == UPLOAD_BYTES // len(CHUNK) // 2:
                    assert replica.first_bytes_came.wait(TIMEOUT_SECONDS)

        headers = {"content-length": str(UPLOAD_BYTES)}
        assert client.post("/clips", content=upload(), headers=headers).text == str(UPLOAD_BYTES)
        with client.stream("GET", "/events") as response:
            assert next(response.iter_lines()) == "data: one"
            replica.event_was_seen.set()
