"""How much one caller may ask for: over HTTP, and counted by itself."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from index.api_keys import ApiKeyStore
from model.fake import FakeEmbedder
from service.errors import RateLimited, TooManyConcurrent
from service.keyring import new_key
from service.limiter import Limiter, caller_at
from tests.service.conftest import assert_problem, file_part, make_app

# A span so long that no test sees its end, unless it begins in the last moment of one.
RATE = "3/day"


@contextmanager
def running(tmp_path: Path, **settings: Any) -> Iterator[TestClient]:
    with TestClient(make_app(tmp_path, **settings)) as client:
        yield client


def test_no_limit_is_the_default(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        replies = [client.get("/model") for _ in range(50)]

    assert {reply.status_code for reply in replies} == {200}
    assert "ratelimit" not in replies[0].headers


def test_a_rate_is_told_on_every_answer_and_kept(tmp_path: Path) -> None:
    with running(tmp_path, rate_limit=RATE) as client:
        left = []
        for _ in range(3):
            reply = client.get("/model")
            assert reply.status_code == 200
            assert reply.headers["ratelimit-policy"] == '"default";q=3;w=86400'
            match = re.fullmatch(r'"default";r=(\d+);t=(\d+)', reply.headers["ratelimit"])
            assert match is not None
            left.append(int(match[1]))
            assert 1 <= int(match[2]) <= 86_400
        assert left == [2, 1, 0]

        reply = client.get("/classes/nobody")
        body = assert_problem(reply, 429, "rate_limited")
        assert "3 requests in 86400 seconds" in body["detail"]
        assert 1 <= int(reply.headers["retry-after"]) <= 86_400
        assert '"default";r=0;' in reply.headers["ratelimit"]


def test_what_is_open_is_not_counted(tmp_path: Path) -> None:
    with running(tmp_path, rate_limit="1/day") as client:
        assert client.get("/model").status_code == 200
        assert client.get("/model").status_code == 429
        for path in ("/healthz", "/readyz", "/docs", "/session"):
            assert client.get(path).status_code == 200


def test_each_key_has_a_count_and_perhaps_a_limit_of_its_own(tmp_path: Path) -> None:
    store = ApiKeyStore.open(tmp_path / "library")
    headers = []
    for name, rate in (("a", None), ("b", None), ("c", "5/day")):
        new, token = new_key(name, "read", rate=rate)
        store.add(new)
        headers.append({"x-api-key": token})
    store.close()
    with running(tmp_path, rate_limit=RATE, require_api_keys=True) as client:
        answered = [
            [client.get("/model", headers=h).status_code for _ in range(6)].count(200)
            for h in headers
        ]

    assert answered == [3, 3, 5]


class WaitingEmbedder(FakeEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()

    def finish(self, forwarded: Any) -> Any:
        self.begun.release()
        assert self.go_on.wait(60)
        return super().finish(forwarded)


def test_more_requests_at_once_than_allowed_are_refused(tmp_path: Path) -> None:
    embedder = WaitingEmbedder()
    app = make_app(tmp_path, embedder=embedder, concurrency_limit=2)
    with TestClient(app) as client:
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(client.post("/classify", files=file_part()).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert embedder.begun.acquire(timeout=60)

        reply = client.post("/retrieve", json={"query": "rain"})
        assert_problem(reply, 429, "too_many_concurrent")
        assert int(reply.headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200

        embedder.go_on.set()
        for thread in threads:
            thread.join(60)
        assert statuses == [200, 200]
        assert client.get("/model").status_code == 200


def test_a_request_that_failed_is_no_longer_under_way() -> None:
    limiter = Limiter(rate=None, concurrency=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limiter.one_more("a"):
            raise ZeroDivisionError
    with limiter.one_more("a"), limiter.one_more("b"):
        with pytest.raises(TooManyConcurrent), limiter.one_more("a"):
            pytest.fail("one is under way")
        with limiter.one_more("a", own_concurrency=2):
            pass


def test_callers_are_counted_apart() -> None:
    limiter = Limiter(rate="1/day", concurrency=None)
    limiter.count("a")
    limiter.count("b")
    with pytest.raises(RateLimited):
        limiter.count("a")


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_one_subscriber_is_one_caller(address: str, caller: str) -> None:
    assert caller_at(address) == caller
