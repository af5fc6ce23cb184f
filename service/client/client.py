"""`Client` and `AsyncClient`: sending calls, with blocking or with awaiting."""

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from httpx_retries import RetryTransport

from service.client import in_process
from service.client.calls import Answer, Call, compact_json
from service.client.endpoints import Endpoints
from service.client.errors import AnswerTimeout, ServiceUnreachable
from service.client.retrying import retry_policy
from service.settings import DEFAULT_URL, ClientSettings

if TYPE_CHECKING:
    from starlette.applications import Starlette

T = TypeVar("T")

TIMEOUT_SECONDS = 300.0
"""A clip of ten minutes takes a while on a CPU, and may wait for others."""

CONNECT_TIMEOUT_SECONDS = 10.0
RETRIES = 4


class Client(Endpoints):
    """Talks to the service; every method blocks until its answer is there.

    It may be used by several threads at once. Use it in a `with` statement, or `close` it.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        app: "Starlette | None" = None,
        api_key: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            url: where the service is; by default AVGZSL_URL, else http://127.0.0.1:8000.
            app: an application of `service.app.create_app`, to run in this process instead.
            api_key: by default AVGZSL_API_KEY, else none is sent.
            timeout_seconds: how long the service may be silent; connecting has 10 seconds.
            retries: how often a request is sent again where that may help.
            transport: how requests get there, for proxies and tests.

        Raises what the start of `app` raises.
        """
        self._retries = retries
        with ExitStack() as stack:
            if app is not None:
                transport = stack.enter_context(in_process.running(app))
            self._http = stack.enter_context(
                httpx.Client(
                    **_options(None if app is None else in_process.URL, url, api_key),
                    timeout=_timeout(timeout_seconds),
                    transport=RetryTransport(transport or httpx.HTTPTransport()),
                )
            )
            self._opened = stack.pop_all()

    def send(self, call: Call[T]) -> T:
        """Send a call and return its result. Raises ClientError."""
        with _request(call, self._retries) as options, self._http.stream(**options) as response:
            answer = Answer(call, response)
            for piece in response.iter_bytes():
                answer.feed(piece)
        return answer.result()

    def close(self) -> None:
        """Close the connections, and stop the application if there is one in this process."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(Endpoints):
    """Talks to the service; every method is awaited. Its arguments are those of `Client`.

    Use it in an `async with` statement, which is also what starts an `app`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        app: "Starlette | None" = None,
        api_key: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Prepare a client; nothing is sent yet."""
        self._app = app
        self._retries = retries
        if app is not None:
            transport = httpx.ASGITransport(app)
        self._http = httpx.AsyncClient(
            **_options(None if app is None else in_process.URL, url, api_key),
            timeout=_timeout(timeout_seconds),
            transport=RetryTransport(transport or httpx.AsyncHTTPTransport()),
        )
        self._opened = AsyncExitStack()

    async def send(self, call: Call[T]) -> T:
        """Send a call and return its result. Raises ClientError."""
        with _request(call, self._retries) as options:
            async with self._http.stream(**options) as response:
                answer = Answer(call, response)
                async for piece in response.aiter_bytes():
                    answer.feed(piece)
        return answer.result()

    async def aclose(self) -> None:
        """Close the connections, and stop the application if there is one in this process."""
        await self._opened.aclose()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        if self._app is not None:
            await self._opened.enter_async_context(self._app.router.lifespan_context(self._app))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


def _options(in_process_url: str | None, url: str | None, api_key: str | None) -> dict[str, Any]:
    settings = ClientSettings()
    key = api_key or settings.api_key.get_secret_value()
    return {
        "base_url": in_process_url or url or settings.url or DEFAULT_URL,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
    }


def _timeout(seconds: float) -> httpx.Timeout:
    # Waiting for a free connection of the pool is waiting for this client's own other requests.
    return httpx.Timeout(seconds, connect=CONNECT_TIMEOUT_SECONDS, pool=None)


@contextmanager
def _request(call: Call[T], retries: int) -> Iterator[dict[str, Any]]:
    """Yield what httpx sends; tell its errors in the client's words."""
    options: dict[str, Any] = {
        "method": call.method,
        "url": call.path,
        "params": call.params,
        "extensions": {"retry": retry_policy(call, retries)},
    }
    with ExitStack() as stack:
        if call.upload is not None:
            file = stack.enter_context(call.upload.opened())
            options |= {"files": {"file": (call.upload.name, file)}, "data": call.form}
        elif call.json is not None:
            options |= {
                "content": compact_json(call.json),
                "headers": {"Content-Type": "application/json"},
            }
        try:
            yield options
        except httpx.TimeoutException as error:
            raise AnswerTimeout(
                f"{call.method} {call.path} got no answer in time; the service is busy or stuck. "
                "Send less at a time, or wait longer with timeout_seconds."
            ) from error
        except httpx.TransportError as error:
            raise ServiceUnreachable(
                f"{call.method} {call.path} got no answer: {error}; is the service running, and "
                "is the URL right?"
            ) from error
