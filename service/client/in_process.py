"""The application in the client's own process: the same requests, without a socket.

Its lifespan begins and ends with the client: the model is loaded and the library opened and closed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

if TYPE_CHECKING:
    from starlette.applications import Starlette

URL = "http://localhost"
"""A name that the service is called by unless AVGZSL_ALLOWED_HOSTS says another."""


@contextmanager
def running(app: "Starlette") -> Iterator[httpx.BaseTransport]:
    """Run an application in a thread of its own; yield what a blocking client reaches it by.

    Raises what the application's start raises.
    """
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
    ):
        yield PortalTransport(app, portal)


class PortalTransport(httpx.BaseTransport):
    """Hands requests of any thread to an application that runs in the portal's."""

    def __init__(self, app: "Starlette", portal: BlockingPortal) -> None:
        self._inner = httpx.ASGITransport(app)
        self._portal = portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the application's whole answer."""
        return self._portal.call(self._handled, request)

    async def _handled(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        body = await answer.aread()
        return httpx.Response(answer.status_code, headers=answer.headers.raw, content=body)
