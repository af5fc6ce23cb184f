"""The real server in a thread: its life from ready to stopped."""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.fake import FakeEmbedder
from service import server as server_module
from service.server import Server, ServerFailed, exposure_warning, run_server, uvicorn_config
from service.settings import Settings
from tests.service.conftest import MAX_UPLOAD_BYTES, make_app
from tests.service.media import wav

CLIENTS_KEEP_SECONDS = 5
"""How long httpx and others keep an idle connection, and uvicorn by default too."""


@contextmanager
def running(data_dir: Path) -> Iterator[str]:
    ready = threading.Event()
    config = uvicorn_config(make_app(data_dir), Settings(data_dir=data_dir))
    server = Server(config, ready.set)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            assert ready.wait(20)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def test_it_is_ready_when_it_says_so_and_stops_when_told(tmp_path: Path) -> None:
    with running(tmp_path) as url:
        assert httpx.get(f"{url}/readyz").status_code == 200
        reply = httpx.post(f"{url}/classify", files={"file": ("a.wav", wav())})
        assert reply.status_code == 200

    with running(tmp_path) as url:
        assert httpx.get(f"{url}/classes").json()["total"] == 3


def test_a_connection_that_rested_as_long_as_clients_keep_theirs_still_answers(
    tmp_path: Path,
) -> None:
    with (
        running(tmp_path) as url,
        closing(http.client.HTTPConnection(url.removeprefix("http://"))) as connection,
    ):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        first = connection.sock
        time.sleep(CLIENTS_KEEP_SECONDS + 1)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        assert connection.sock is first


@pytest.mark.parametrize("pause_seconds", [0.0, 0.5])
def test_a_refused_upload_is_answered_to_its_end_and_its_connection_goes_on(
    tmp_path: Path, pause_seconds: float
) -> None:
    def body() -> Iterator[bytes]:
        yield bytes(100_000)
        time.sleep(pause_seconds)
        yield bytes(200_000)

    with (
        running(tmp_path) as url,
        closing(http.client.HTTPConnection(url.removeprefix("http://"))) as connection,
    ):
        headers = {"content-type": "text/plain", "content-length": "300000"}
        connection.request("POST", "/classify", body(), headers)
        first = connection.sock
        assert connection.getresponse().read().startswith(b'{"type"')
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        assert connection.sock is first


def test_an_upload_over_the_limit_is_answered_while_it_is_still_sent(tmp_path: Path) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        for _ in range(2000):
            sent += 1
            yield bytes(MAX_UPLOAD_BYTES)

    with running(tmp_path) as url:
        reply = httpx.post(
            f"{url}/classify",
            content=body(),
            headers={"content-type": "multipart/form-data; boundary=b"},
        )
        assert reply.status_code == 413
        assert reply.json()["code"] == "file_too_large"
        assert sent < 200
        assert httpx.get(f"{url}/readyz").status_code == 200


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"host": "127.0.0.1"}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "192.0.2.7"}, True),
        ({"host": "0.0.0.0", "require_api_keys": True}, False),
    ],
)
def test_who_lets_everybody_in_is_warned(settings: dict[str, Any], warned: bool) -> None:
    warning = exposure_warning(Settings(**settings))

    assert (warning is not None) == warned
    if warning is not None:
        assert settings["host"] in warning
        assert "AVGZSL_REQUIRE_API_KEYS" in warning


def test_the_warning_is_logged_before_anything_is_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0", model=str(tmp_path / "nowhere"))
    with caplog.at_level("WARNING"), pytest.raises(ServerFailed):
        start(settings)

    assert [r.getMessage() for r in caplog.records if r.name == "service.server"] == [
        exposure_warning(settings)
    ]


def test_more_processes_than_one_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")

    with pytest.raises(ServerFailed, match="WEB_CONCURRENCY is '4', but one process serves"):
        start(Settings(data_dir=tmp_path))


def start(settings: Settings) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        run_server(settings, listener, on_ready=lambda: None)


def test_a_model_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="nowhere"):
        start(Settings(data_dir=tmp_path, model=str(tmp_path / "nowhere")))


def test_a_data_folder_in_use_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_fake(settings: Settings, **_: Any) -> Any:
        return make_app(settings.data_dir)

    monkeypatch.setattr(server_module, "create_app", with_fake)

    with running(tmp_path), pytest.raises(ServerFailed, match="in use"):
        start(Settings(data_dir=tmp_path))


class LostDevice(FakeEmbedder):
    lost = False

    def embed_texts(self, texts: Any) -> Any:
        if self.lost:
            raise RuntimeError("the device is lost")
        return super().embed_texts(texts)


def test_pain_02_a_model_that_fails_too_often_ends_the_process_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = LostDevice()

    def with_fake(settings: Settings, *, on_broken: Callable[[str], None]) -> Any:
        options = {"max_model_failures": 2, "readiness_cache_seconds": 0}
        return make_app(settings.data_dir, embedder=embedder, on_broken=on_broken, **options)

    def probe(url: str) -> None:
        embedder.lost = True
        for _ in range(2):
            statuses.append(httpx.get(f"{url}/readyz", timeout=60).status_code)

    statuses: list[int] = []
    monkeypatch.setattr(server_module, "create_app", with_fake)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        prober = threading.Thread(target=probe, args=(url,))
        with pytest.raises(ServerFailed, match=r"2 times in a row on texts.*the device is lost"):
            run_server(Settings(data_dir=tmp_path), listener, on_ready=prober.start)
        prober.join(60)

    assert statuses == [503, 503]


class Hanging(FakeEmbedder):
    """Answers until it is told to hang."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = threading.Event()
        self.is_over = threading.Event()

    def forward(self, prepared: Any) -> Any:
        if self.hangs.is_set():
            self.is_over.wait()
        return super().forward(prepared)


def test_pain_01_a_model_that_hangs_costs_its_callers_503_and_ends_the_process_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = Hanging()

    def with_fake(settings: Settings, *, on_broken: Callable[[str], None]) -> Any:
        options = {"model_timeout_seconds": 1.0}
        return make_app(settings.data_dir, embedder=embedder, on_broken=on_broken, **options)

    def classify(url: str) -> None:
        embedder.hangs.set()
        reply = httpx.post(f"{url}/classify", files={"file": ("a.wav", wav())}, timeout=60)
        replies.append((reply.status_code, reply.json()["code"]))

    replies: list[tuple[int, str]] = []
    monkeypatch.setattr(server_module, "create_app", with_fake)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        caller = threading.Thread(target=classify, args=(url,))
        with pytest.raises(ServerFailed, match=r"not answered for 1 s on chunks of clips"):
            run_server(Settings(data_dir=tmp_path), listener, on_ready=caller.start)
        caller.join(60)
    embedder.is_over.set()

    assert replies == [(503, "model_failed")]
