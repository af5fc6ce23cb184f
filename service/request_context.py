"""What every request gets: an id, a line in the access log, and an answer whatever happens."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Problem, problem_response

access_logger = logging.getLogger("service.access")
logger = logging.getLogger("service.errors")

REQUEST_ID_HEADER = "X-Request-ID"
SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestContext:
    """ASGI middleware around the whole application.

    It is here, not in a handler for `Exception`, that unexpected errors are answered: Starlette
    runs that handler outside of all middleware, where neither header nor log line would be written.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        try:
            await self.app(scope, receive, exchange.send)
        except Exception as error:
            await exchange.answer_unexpected(error, receive)
        finally:
            exchange.write_access_log()


class _Exchange:
    """One request and what has been answered so far."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._started = time.perf_counter()
        self.request_id = _request_id(Headers(scope=scope).get(REQUEST_ID_HEADER))
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        """Pass a message on, with the id in its head."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID_HEADER] = self.request_id
        await self._send(message)

    async def answer_unexpected(self, error: Exception, receive: Receive) -> None:
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
        await response(self._scope, receive, self.send)

    def write_access_log(self) -> None:
        """Write the one line that this request leaves."""
        fields = {
            "request_id": self.request_id,
            "method": self._scope["method"],
            "path": self._scope["path"],
            # Without a status the client left, or the service stopped, before there was an answer.
            "status": self.status or 499,
            "milliseconds": round(1000 * (time.perf_counter() - self._started), 1),
        }
        access_logger.info("request", extra={"fields": fields})


def _request_id(offered: str | None) -> str:
    if offered is not None and SANE_REQUEST_ID.fullmatch(offered):
        return offered
    return uuid.uuid4().hex
