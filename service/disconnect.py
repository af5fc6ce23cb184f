"""Stopping work for clients that have left."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class StopWhenClientLeaves:
    """ASGI middleware that cancels the handling of a request once its client is gone.

    ASGI tells of it only whoever asks, and a handler that waits for a decoder does not. Work in
    threads goes on to its end where it is not told by a `Cancellation`: what is being stored is
    stored whole.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = _Client(receive, send)
        if not {"content-length", "transfer-encoding"} & set(Headers(scope=scope)):
            await client.read_ahead()
        handling = asyncio.ensure_future(self._app(scope, client.receive, client.send))
        watching = asyncio.ensure_future(client.watch(handling))
        try:
            await handling
        except asyncio.CancelledError:
            if not client.has_left:
                raise
        finally:
            watching.cancel()


class _Client:
    """The other end of one request."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.has_left = False
        self._receive = receive
        self._send = send
        self._ahead: Message | None = None
        self._body_is_over = asyncio.Event()
        self._line_is_over = asyncio.Event()
        self._is_answered = False

    async def read_ahead(self) -> None:
        """Take the one message of a request without a body, which a handler may never ask for."""
        self._ahead = await self._receive()
        self._note(self._ahead)

    async def receive(self) -> Message:
        """Pass a message on; after the body there is but one that can come."""
        if self._ahead is not None:
            message, self._ahead = self._ahead, None
            return message
        if self._body_is_over.is_set():
            await self._line_is_over.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._note(message)
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on, noting the end of the answer."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._is_answered = True
        await self._send(message)

    async def watch(self, handling: "asyncio.Future[None]") -> None:
        """Cancel `handling` if the client leaves after its body and before the answer's end."""
        await self._body_is_over.wait()
        message = await self._receive()
        if message["type"] != "http.disconnect":
            return
        self._line_is_over.set()
        if not self._is_answered:
            self.has_left = True
            handling.cancel()

    def _note(self, message: Message) -> None:
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._body_is_over.set()
