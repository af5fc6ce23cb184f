import asyncio
import threading
from contextvars import ContextVar
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from model.embedding import ForwardedChunk, WindowEmbedding
from model.fake import FakeEmbedder
from service.cancellation import Cancellation
from service.errors import Overloaded
from service.pool import BoundedPool
from tests.service.conftest import assert_problem, file_part, make_app
from tests.service.test_jobs import wait_for


def test_a_full_pool_refuses_and_recovers() -> None:
    gate = threading.Event()

    async def scenario() -> None:
        pool = BoundedPool("test", threads=1, places=2)
        calls = [asyncio.create_task(pool.run(lambda _: gate.wait())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 requests"):
            await pool.run(lambda _: gate.wait())
        gate.set()
        assert await asyncio.gather(*calls) == [True, True]
        assert await pool.run(lambda _: "again") == "again"
        pool.close()

    asyncio.run(scenario())


def test_a_call_that_is_cancelled_while_it_waits_is_never_made() -> None:
    gate = threading.Event()
    made: list[str] = []

    async def scenario() -> None:
        pool = BoundedPool("test", threads=1, places=2)
        first = asyncio.create_task(pool.run(lambda _: gate.wait()))
        second = asyncio.create_task(pool.run(lambda _: made.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        pool.require_room()
        gate.set()
        await first
        pool.close()

    asyncio.run(scenario())

    assert made == []


def test_a_call_that_is_cancelled_while_it_is_made_is_told() -> None:
    async def scenario() -> None:
        pool = BoundedPool("test", threads=1, places=1)
        begun, told = threading.Event(), threading.Event()

        def work(cancellation: Cancellation) -> None:
            with cancellation.calling(told.set):
                begun.set()
                assert told.wait(30)
                cancellation.check()

        call = asyncio.create_task(pool.run(work))
        assert await asyncio.to_thread(begun.wait, 30)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        pool.close()
        assert told.is_set()
        assert pool.taken == 0

    asyncio.run(scenario())


def test_a_failing_call_gives_its_place_back() -> None:
    async def scenario() -> None:
        pool = BoundedPool("test", threads=1, places=1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await pool.run(lambda _: 1 // 0)
        pool.close()

    asyncio.run(scenario())


class SlowEmbedder(FakeEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.gate = threading.Event()

    def finish(self, forwarded: ForwardedChunk) -> list[WindowEmbedding]:
        self.started.set()
        assert self.gate.wait(60)
        return super().finish(forwarded)


def test_an_overloaded_service_says_when_to_come_again_and_still_answers_texts(
    tmp_path: Path,
) -> None:
    embedder = SlowEmbedder()
    app = make_app(tmp_path, embedder=embedder, decode_workers=1, queue_size=0)
    with TestClient(app) as client:
        replies: list[int] = []
        busy = threading.Thread(
            target=lambda: replies.append(client.post("/classify", files=file_part()).status_code)
        )
        busy.start()
        assert embedder.started.wait(60)
        try:
            reply = client.post("/classify", files=file_part())
            assert_problem(reply, 429, "overloaded")
            assert int(reply.headers["retry-after"]) >= 1
            # A job waits on the disk, and not in the queue.
            later = client.post("/classify", params={"mode": "async"}, files=file_part())
            assert later.status_code == 202
            assert client.get("/readyz").status_code == 200
            assert client.post("/retrieve", json={"query": "rain"}).status_code == 200
        finally:
            embedder.gate.set()
            busy.join()
        assert replies == [200]
        wait_for(client, later.json()["job_id"], "done")
        assert client.post("/classify", files=file_part()).status_code == 200


def test_a_call_is_made_in_the_context_of_its_caller() -> None:
    variable: ContextVar[str] = ContextVar("variable")

    async def scenario() -> None:
        pool = BoundedPool("test", threads=1, places=2)
        variable.set("mine")
        assert await pool.run(lambda _: variable.get()) == "mine"
        pool.close()

    asyncio.run(scenario())
