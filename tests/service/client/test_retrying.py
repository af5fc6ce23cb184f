"""What is sent again and what is not, by a scripted transport that sends nothing."""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import httpx
import httpx_retries.retry
import pytest

from service import schemas
from service.client import (
    AnswerTimeout,
    NotFound,
    ServiceFailed,
    ServiceUnreachable,
    TooManyRequests,
    Unavailable,
    UnexpectedAnswer,
)
from tests.service.client.conftest import opened

Step = httpx.Response | type[httpx.TransportError]

HEALTH = httpx.Response(200, json={"status": "alive", "version": "1"})
CLASS = schemas.Class.model_config["json_schema_extra"]["examples"][0]  # type: ignore[index,call-overload]
RESULTS = {"results": [], "model_id": "m"}


def refusal(status: int, **headers: str) -> httpx.Response:
    problem = {
        "type": "urn:avgzsl:problem:x",
        "title": "X",
        "status": status,
        "detail": "It cannot be; do something else.",
        "code": "x",
        "request_id": "r1",
    }
    return httpx.Response(status, json=problem, headers=headers)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited before each attempt; nobody really waits."""
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(httpx_retries.retry, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(httpx_retries.retry, "asyncio", SimpleNamespace(sleep=wait))
    return waited


class Script:
    """Answers with each step in turn, and remembers the bodies that came."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(request.content)
        step = self.steps.pop(0)
        if isinstance(step, httpx.Response):
            # A response is sent once only.
            return httpx.Response(step.status_code, headers=step.headers, content=step.content)
        raise step("scripted")


class Reading(httpx.MockTransport):
    """A transport that reads what is uploaded, as a server does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        sent = httpx.Request("POST", request.url, content=b"".join(request.stream))  # type: ignore[arg-type]
        sent.headers = request.headers
        return self.handler(sent)  # type: ignore[return-value]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = b"".join([piece async for piece in request.stream])  # type: ignore[union-attr]
        sent = httpx.Request("POST", request.url, content=content)
        sent.headers = request.headers
        return self.handler(sent)  # type: ignore[return-value]


@pytest.fixture
def scripted(kind: str, waits: list[float]) -> Iterator[Callable[..., Any]]:
    """Make a client whose requests meet a script."""
    with ExitStack() as stack:
        yield lambda script, **options: opened(
            stack, kind, "http://scripted", transport=Reading(script), **options
        )


def test_it_comes_again_when_the_service_says_so(
    scripted: Callable[..., Any], waits: list[float]
) -> None:
    script = Script(refusal(429, **{"Retry-After": "7"}), httpx.Response(201, json=CLASS))

    assert scripted(script).add_class("kettle").class_id == CLASS["class_id"]
    assert len(script.requests) == 2
    assert script.bodies[0] == script.bodies[1]
    (waited,) = waits
    assert 7.0 <= waited <= 7.0 * 1.25


def test_it_waits_longer_each_time_and_gives_up(
    scripted: Callable[..., Any], waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    script = Script(*[refusal(429) for _ in range(4)])

    with pytest.raises(TooManyRequests) as refused:
        scripted(script, retries=3).classify(b"clip")
    assert refused.value.request_id == "r1"
    assert waits == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("trouble", [refusal(503), httpx.ReadError, httpx.RemoteProtocolError])
def test_what_may_have_been_done_is_not_done_twice(
    scripted: Callable[..., Any], trouble: Step
) -> None:
    script = Script(trouble)

    with pytest.raises((Unavailable, ServiceUnreachable)):
        scripted(script).add_class("kettle")
    assert len(script.requests) == 1


@pytest.mark.parametrize("trouble", [refusal(503), httpx.ReadError, httpx.RemoteProtocolError])
def test_what_changes_nothing_is_asked_again(scripted: Callable[..., Any], trouble: Step) -> None:
    script = Script(trouble, httpx.Response(200, json=RESULTS))

    assert scripted(script).retrieve("rain").results == []
    assert len(script.requests) == 2


@pytest.mark.parametrize("trouble", [httpx.ConnectError, httpx.ConnectTimeout])
def test_what_never_arrived_is_sent_again(scripted: Callable[..., Any], trouble: Step) -> None:
    script = Script(trouble, httpx.Response(201, json=CLASS))

    assert scripted(script).add_class("kettle").name == CLASS["name"]


def test_a_slow_answer_is_not_asked_for_twice(scripted: Callable[..., Any]) -> None:
    script = Script(httpx.ReadTimeout)

    with pytest.raises(AnswerTimeout, match="timeout_seconds"):
        scripted(script).retrieve("rain")
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (500, ServiceFailed), (507, ServiceFailed)]
)
def test_a_refusal_for_good_is_raised_at_once(
    scripted: Callable[..., Any], status: int, error: type[Exception]
) -> None:
    script = Script(refusal(status))

    with pytest.raises(error):
        scripted(script).get_clip("x")
    assert len(script.requests) == 1


def test_not_ready_is_an_answer(scripted: Callable[..., Any]) -> None:
    script = Script(refusal(503))

    with pytest.raises(Unavailable):
        scripted(script).is_ready()
    assert len(script.requests) == 1


def test_a_file_is_sent_whole_again_and_a_pipe_is_not(scripted: Callable[..., Any]) -> None:
    script = Script(refusal(429), httpx.Response(200, json=RESULTS), refusal(429))
    client = scripted(script)

    client.retrieve_by_file(io.BytesIO(b"all of it"))
    assert all(body.count(b"all of it") == 1 for body in script.bodies)
    with pytest.raises(TooManyRequests):
        client.retrieve_by_file(Pipe(b"all of it"))
    assert len(script.requests) == 3


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


def test_it_sends_the_key_that_it_is_given_or_finds(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVGZSL_API_KEY", "from the environment")
    script = Script(HEALTH, HEALTH)

    scripted(script).is_alive()
    scripted(script, api_key="given").is_alive()

    sent = [request.headers["authorization"] for request in script.requests]
    assert sent == ["Bearer from the environment", "Bearer given"]


def test_it_sends_no_key_where_there_is_none(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AVGZSL_API_KEY", raising=False)
    script = Script(HEALTH)

    scripted(script).is_alive()

    assert "authorization" not in script.requests[0].headers


@pytest.mark.parametrize("page", [httpx.Response(200, text="<html>"), httpx.Response(502)])
def test_what_is_no_answer_of_the_service_is_told(
    scripted: Callable[..., Any], page: httpx.Response
) -> None:
    with pytest.raises(UnexpectedAnswer, match=f"answered {page.status_code}"):
        scripted(Script(page)).get_model()
