"""What servers of models are known to suffer from, each as a client would meet it here.

The numbers are those of the list in the design. What one part alone answers for is tested with it:
2, 3, 4 and 6 in `test_batching.py`, 5, 8 and 11 in `test_decoding.py`, 12 in `test_upload.py`.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from model.embedding import ForwardedChunk, PreparedChunk
from model.errors import OutOfMemory
from model.fake import FakeEmbedder
from tests.service import decoders
from tests.service.conftest import assert_problem, file_part, make_app
from tests.service.media import wav
from tests.service.test_decoding import is_gone

SECONDS = 60


class TroubledEmbedder(FakeEmbedder):
    """Fails as it is told, on sounds; its own check, which is silent, fails only where `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.poison = b""
        self.fits = 1000
        self.forwarded: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()

    def forward(self, prepared: Sequence[PreparedChunk]) -> list[ForwardedChunk]:
        if self.broken:
            raise RuntimeError("the device is lost")
        loud = [p for p in prepared if p.audio is not None and p.audio.any()]
        if loud:
            self.forwarded.append(len(loud))
            self.begun.set()
            assert self.gate.wait(SECONDS)
        if any(
            self.poison and self.poison in p.audio.tobytes() for p in loud if p.audio is not None
        ):
            raise ValueError("poisoned")
        if sum(p.rows for p in loud) > self.fits:
            raise OutOfMemory("the device has not enough memory for this; send shorter clips")
        return super().forward(prepared)


@pytest.fixture
def embedder() -> TroubledEmbedder:
    return TroubledEmbedder()


@pytest.fixture
def reasons() -> list[str]:
    return []


@pytest.fixture
def client(
    tmp_path: Path,
    embedder: TroubledEmbedder,
    reasons: list[str],
) -> Iterator[TestClient]:
    settings = {"readiness_cache_seconds": 0, "max_model_failures": 3, "queue_size": 4}
    app = make_app(tmp_path, embedder=embedder, on_broken=reasons.append, **settings)
    with TestClient(app) as client:
        yield client


def classify(client: TestClient, content: bytes | None = None, **fields: Any) -> Any:
    return client.post("/classify", files=file_part(content), data=fields)


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (decoders.hang_on_clip, "decode_timeout"),
        (decoders.abort_on_clip, "decoder_crashed"),
        (decoders.allocate_on_clip, "decode_memory_exceeded"),
    ],
)
def test_pain_01_a_bad_file_costs_one_answer_and_the_next_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Callable[..., Any], code: str
) -> None:
    with TestClient(make_app(tmp_path, decode_timeout_seconds=1.0)) as client:
        with monkeypatch.context() as patch:
            patch.setattr("service.pipeline.decode_clip", task)
            assert_problem(classify(client), 422, code)
        assert client.get("/readyz").status_code == 200
        assert classify(client).status_code == 200


def test_pain_01_and_10_a_broken_model_is_not_ready_but_alive(
    client: TestClient, embedder: TroubledEmbedder
) -> None:
    embedder.broken = True

    assert_problem(classify(client), 503, "model_failed")
    body = assert_problem(client.get("/readyz"), 503, "not_ready")
    assert "device" not in body["detail"]
    assert client.get("/healthz").status_code == 200

    embedder.broken = False
    assert client.get("/readyz").status_code == 200
    assert classify(client).status_code == 200


def test_pain_10_readiness_needs_a_decoder(client: TestClient) -> None:
    decoder = client.app.state.resources.intake.decoder  # type: ignore[attr-defined]
    assert client.get("/readyz").status_code == 200

    decoder.close()

    body = assert_problem(client.get("/readyz"), 503, "not_ready")
    assert "decodes" in body["detail"]


def test_pain_02_a_model_that_goes_on_failing_is_given_up(
    client: TestClient, embedder: TroubledEmbedder, reasons: list[str]
) -> None:
    embedder.broken = True

    for _ in range(2):
        assert_problem(classify(client), 503, "model_failed")
    assert reasons == []
    assert_problem(client.get("/readyz"), 503, "not_ready")

    assert len(reasons) == 1
    assert "3 times in a row" in reasons[0]


def test_pain_02_clips_that_do_not_fit_together_are_run_apart(
    client: TestClient, embedder: TroubledEmbedder
) -> None:
    embedder.fits = 1
    statuses = at_once(client, embedder, [wav(hertz=200.0 + i) for i in range(4)])

    assert statuses == [200] * 4
    reply = classify(client, wav(6.0))
    assert_problem(reply, 503, "out_of_memory")
    assert client.get("/readyz").status_code == 200


def test_pain_03_a_bad_clip_fails_alone(client: TestClient, embedder: TroubledEmbedder) -> None:
    clips = [wav(hertz=200.0 + i) for i in range(4)]
    embedder.poison = poison_of(client, embedder, clips[2])

    assert at_once(client, embedder, clips) == [200, 200, 503, 200]
    assert client.get("/readyz").status_code == 200


def poison_of(client: TestClient, embedder: TroubledEmbedder, clip: bytes) -> bytes:
    """Return what the model sees of a clip."""
    seen: list[bytes] = []
    prepare = embedder.prepare

    def noting(chunk: Any) -> PreparedChunk:
        prepared = prepare(chunk)
        seen.append(b"" if prepared.audio is None else prepared.audio.tobytes())
        return prepared

    embedder.prepare = noting  # type: ignore[method-assign]
    assert classify(client, clip).status_code == 200
    embedder.prepare = prepare  # type: ignore[method-assign]
    return seen[0]


def at_once(client: TestClient, embedder: TroubledEmbedder, clips: list[bytes]) -> list[int]:
    """Classify clips that are all decoded while the model is busy with another."""
    embedder.begun.clear()
    embedder.gate.clear()
    statuses: dict[int, int] = {}

    def ask(number: int, clip: bytes) -> None:
        statuses[number] = classify(client, clip).status_code

    first = threading.Thread(target=ask, args=(-1, wav(hertz=100.0)))
    first.start()
    assert embedder.begun.wait(SECONDS)
    threads = [threading.Thread(target=ask, args=pair) for pair in enumerate(clips)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    embedder.gate.set()
    for thread in (first, *threads):
        thread.join(SECONDS)
    return [statuses[number] for number in range(len(clips))]


def test_pain_04_callers_are_answered_when_the_batch_thread_dies(
    client: TestClient, embedder: TroubledEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = client.app.state.resources.serving.current.engine.chunks  # type: ignore[attr-defined]

    def fatal(*_: object) -> None:
        raise SystemExit("not even an Exception")

    with monkeypatch.context() as patch:
        patch.setattr(batcher, "_forward", fatal)
        assert_problem(classify(client), 503, "model_failed")

    assert classify(client).status_code == 200


class Leaving:
    """A client that sends a whole request and hangs up when it is told to."""

    def __init__(self, app: FastAPI, content: bytes) -> None:
        self._app = app
        self._body = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
            + content
            + b"\r\n--b--\r\n"
        )
        self._sent = False
        self._leaves = asyncio.Event()
        self.answer: list[Any] = []

    def hang_up(self) -> None:
        self._leaves.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.answer.append(message)

    async def post(self, path: str) -> None:
        headers = {
            "content-type": "multipart/form-data; boundary=b",
            "content-length": str(len(self._body)),
            "host": "testserver",
        }
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            "server": ("testserver", 80),
            "client": ("127.0.0.1", 50_000),
        }
        await self._app(scope, self._receive, self._send)


@pytest.mark.parametrize("path", ["/classify", "/clips", "/embed", "/retrieve/by-file"])
def test_pain_05_the_decoder_of_a_client_that_left_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    embedder = TroubledEmbedder()
    app = make_app(tmp_path, embedder=embedder, decode_timeout_seconds=600.0, queue_size=0)
    monkeypatch.setattr("service.pipeline.decode_clip", decoders.hang_on_clip)
    hanging = tmp_path / "hanging"

    async def scenario() -> None:
        async with app.router.lifespan_context(app):
            intake = app.state.resources.intake
            client = Leaving(app, wav())
            request = asyncio.create_task(client.post(path))
            while not hanging.exists() or not hanging.read_text():
                await asyncio.sleep(0.05)
            client.hang_up()
            await asyncio.wait_for(request, SECONDS)
            assert client.answer == []
            assert is_gone(int(hanging.read_text()))
            async with asyncio.timeout(SECONDS):
                while intake.clips.taken:
                    await asyncio.sleep(0.05)
            intake.require_room()
            assert list((tmp_path / "uploads").iterdir()) == []

    asyncio.run(scenario())

    assert embedder.forwarded == []


def test_pain_05_a_clip_that_waits_for_the_model_is_dropped(tmp_path: Path) -> None:
    embedder = TroubledEmbedder()
    app = make_app(tmp_path, embedder=embedder)

    async def scenario() -> None:
        async with app.router.lifespan_context(app):
            engine = app.state.resources.serving.current.engine
            embedder.gate.clear()
            staying, leaving = Leaving(app, wav()), Leaving(app, wav(hertz=900.0))
            first = asyncio.create_task(staying.post("/classify"))
            assert await asyncio.to_thread(embedder.begun.wait, SECONDS)
            second = asyncio.create_task(leaving.post("/classify"))
            async with asyncio.timeout(SECONDS):
                while not engine.chunks._waiting:
                    await asyncio.sleep(0.05)
            leaving.hang_up()
            await asyncio.wait_for(second, SECONDS)
            embedder.gate.set()
            await asyncio.wait_for(first, SECONDS)
            assert staying.answer[0]["status"] == 200
            assert leaving.answer == []

    asyncio.run(scenario())

    assert embedder.forwarded == [1]


def test_pain_09_overload_is_429_with_a_time_to_come_again(
    client: TestClient, embedder: TroubledEmbedder
) -> None:
    embedder.gate.clear()
    threads = [threading.Thread(target=classify, args=(client,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    pool = client.app.state.resources.intake.clips  # type: ignore[attr-defined]
    deadline = time.monotonic() + SECONDS
    while pool.taken < 5 and time.monotonic() < deadline:
        time.sleep(0.05)

    reply = classify(client)
    embedder.gate.set()
    for thread in threads:
        thread.join(SECONDS)

    assert_problem(reply, 429, "overloaded")
    assert int(reply.headers["retry-after"]) >= 1
    assert classify(client).status_code == 200


@pytest.mark.slow
def test_pain_08_memory_does_not_grow_over_many_uploads(client: TestClient) -> None:
    decoder = client.app.state.resources.intake.decoder  # type: ignore[attr-defined]

    def resident() -> tuple[int, int]:
        [worker] = decoder._idle
        return resident_bytes("self"), resident_bytes(str(worker.process_id))

    for number in range(50):
        assert classify(client, wav(hertz=200.0 + number)).status_code == 200
    before = resident()
    for number in range(300):
        assert classify(client, wav(hertz=200.0 + number)).status_code == 200
    after = resident()

    assert [late - early < 16 * 2**20 for early, late in zip(before, after, strict=True)] == [
        True,
        True,
    ]


def resident_bytes(process: str) -> int:
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * 4096


def test_pain_18_the_first_request_finds_a_decoder_and_a_warm_model(tmp_path: Path) -> None:
    warmed: list[str] = []

    class Noting(FakeEmbedder):
        def warm_up(self) -> None:
            warmed.append("up")

        def forward(self, prepared: Sequence[PreparedChunk]) -> list[ForwardedChunk]:
            warmed.append("forward")
            return super().forward(prepared)

        def embed_texts(self, texts: Any) -> Any:
            warmed.append("texts")
            return super().embed_texts(texts)

    with TestClient(make_app(tmp_path, embedder=Noting())) as client:
        assert {"up", "forward", "texts"} <= set(warmed)
        assert client.app.state.resources.intake.decoder.alive == 1  # type: ignore[attr-defined]
