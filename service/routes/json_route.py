"""The route class of everything that takes a JSON body."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from service.bodies import parse_json, read_body
from service.resources import get_resources


class JsonRoute(APIRoute):
    """A route whose body, where it takes one, is checked before FastAPI sees it.

    FastAPI on its own reads a body of any length into memory before it looks at anything else.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind the check of the body."""
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def checked(request: Request) -> Response:
            limit = get_resources(request).settings.max_json_bytes
            body = await read_body(request, limit=limit)
            parse_json(body)
            return await handler(Request(request.scope, _replay(body)))

        return checked


def _replay(body: bytes) -> Callable[[], Coroutine[Any, Any, Message]]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
