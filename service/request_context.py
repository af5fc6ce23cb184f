"""What every request gets: an id, a line in the access log, a place in the metrics, an answer."""

import asyncio
import logging
import math
import re
import time
import uuid
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import target_of
from service.errors import Problem, problem_response
from service.logs import log_context
from service.metrics import Metrics

access_logger = logging.getLogger("service.access")
logger = logging.getLogger("service.errors")

REQUEST_ID_HEADER = "X-Request-ID"
LINGER_SECONDS = 1.0
"""How long a connection stays open after a refusal, while the client is still sending.

Closed at once, the system resets it, and a client may lose the answer that is on its way.
"""

REST_BYTES = 1024 * 1024
"""So much of a refused body is read away, so that its connection can go on to be used."""

REST_SECONDS = 5.0
"""How long that may take; the answer waits for it."""

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestContext:
    """ASGI middleware around the whole application.

    It is here, not in a handler for `Exception`, that unexpected errors are answered: Starlette
    runs that handler outside of all middleware, where neither header nor log line would be written.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        state = scope.setdefault("state", {})
        state["request_id"] = exchange.request_id
        state["target"] = exchange.target
        with log_context(request_id=exchange.request_id), self._metrics.request_in_progress():
            try:
                await self.app(scope, exchange.receive, exchange.send)
            except Exception as error:
                await exchange.answer_unexpected(error)
            finally:
                exchange.write_access_log()
                self._metrics.observe_request(
                    method=scope["method"],
                    route=exchange.target.template,
                    status=exchange.final_status,
                    seconds=exchange.seconds,
                )


class _Exchange:
    """One request and what has been answered so far."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = time.perf_counter()
        self._declared_bytes = _declared_bytes(headers)
        self._unread = self._declared_bytes > 0
        self.request_id = _request_id(headers.get(REQUEST_ID_HEADER))
        self.target = target_of(scope["method"], scope["path"])
        self.status: int | None = None
        self._answered: float | None = None

    @property
    def final_status(self) -> int:
        """The answer's status.

        Without one the client left, or the service stopped, before there was an answer.
        """
        return self.status or 499

    @property
    def seconds(self) -> float:
        """How long it took, so far or to the answer's end."""
        return (self._answered or time.perf_counter()) - self._started

    async def receive(self) -> Message:
        """Pass a message on, noting the end of the body."""
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on, with what every answer has in its head."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            await self._read_away()
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID_HEADER] = self.request_id
            if self._unread:
                # Else the server would go on reading a refused upload to its end.
                headers["Connection"] = "close"
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._answered = time.perf_counter()
            if self._unread:
                await self._send({**message, "more_body": True})
                await asyncio.sleep(LINGER_SECONDS)
                message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _read_away(self) -> None:
        """Take what is left of the body where that is short, or of unknown length and turns out so.

        A client sends all of its request before it looks for an answer.
        """
        if REST_BYTES < self._declared_bytes < math.inf:
            return
        left = min(REST_BYTES, self._declared_bytes)
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                while self._unread and left > 0:
                    left -= len((await self.receive()).get("body", b""))

    async def answer_unexpected(self, error: Exception) -> None:
        """Log an error that nobody expected; answer 500, or re-raise where it is too late to."""
        logger.error(
            "unexpected error",
            exc_info=error,
            extra={"fields": {"request_id": self.request_id}},
        )
        if self.status is not None:
            raise error
        response = problem_response(
            self.request_id,
            Problem(500, "internal_error"),
            "The service failed on this request; its log tells why, under this request id.",
        )
        await response(self._scope, self.receive, self.send)

    def write_access_log(self) -> None:
        """Write the one line that this request leaves."""
        fields = {
            "request_id": self.request_id,
            "method": self._scope["method"],
            "path": self._scope["path"],
            "status": self.final_status,
            "milliseconds": round(1000 * self.seconds, 1),
        }
        if (key := self._scope["state"].get("key")) is not None:
            fields["key_id"] = key.key_id
        access_logger.info("request", extra={"fields": fields})


def _declared_bytes(headers: Headers) -> float:
    """Return how long the request says its body is: infinite where it does not know yet."""
    if "transfer-encoding" in headers:
        return math.inf
    declared = headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() else 0


def _request_id(offered: str | None) -> str:
    if offered is not None and SANE_REQUEST_ID.fullmatch(offered):
        return offered
    return uuid.uuid4().hex
