"""Running the application under uvicorn, from start to a shutdown that lets requests finish."""

import logging
import os
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from index.errors import LibraryError
from model.errors import ModelError
from service.app import create_app
from service.errors import ModelFailed
from service.settings import Settings

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept: longer than clients and proxies keep theirs (httpx 5 s, most
load balancers 60 s), for a request sent as the service closes the connection is lost."""


class ServerFailed(Exception):
    """The server could not start or go on; the message says why."""


class Server(uvicorn.Server):
    """Uvicorn, telling when it accepts requests."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self.failure: str | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def fail(self, reason: str) -> None:
        """Stop as a signal would, for a reason that is told at the end; from any thread."""
        logger.critical("%s", reason)
        self.failure = reason
        self.should_exit = True


class StartupGuard:
    """Keeps the error that stopped the start, so that it is told once, without a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, or the application's lifespan."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, _without_traceback(send))
        except BaseException as error:
            self.error = error
            raise


def run_server(settings: Settings, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve on a bound socket until a signal stops the process.

    Raises:
        ServerFailed: the model or the library could not be opened, the model has failed too often,
            or several processes were asked for.
    """
    _refuse_workers(os.environ.get("WEB_CONCURRENCY", ""))
    if (warning := exposure_warning(settings)) is not None:
        logger.warning(warning)

    def give_up(reason: str) -> None:
        server.fail(reason)

    guard = StartupGuard(create_app(settings, on_broken=give_up))
    server = Server(uvicorn_config(guard, settings), on_ready)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        # Uvicorn raises it again once it has shut down: Ctrl-C is the usual way to stop.
        return
    except SystemExit:
        if isinstance(guard.error, (ModelError, ModelFailed, LibraryError)):
            raise ServerFailed(str(guard.error)) from guard.error
        if guard.error is not None:
            raise guard.error from None
        raise
    if server.failure is not None:
        raise ServerFailed(server.failure)


def uvicorn_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How uvicorn runs the service: logs and limits are the service's own."""
    return uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.shutdown_timeout_seconds,
    )


def exposure_warning(settings: Settings) -> str | None:
    """Return what to tell whoever lets others in without keys; None where nobody is let in."""
    if settings.is_local or settings.require_api_keys:
        return None
    return (
        f"AVGZSL_HOST is {settings.host!r}, so everybody who reaches this machine can read, change "
        "and delete what is stored. Make keys with `avgzsl keys create` and start with "
        "AVGZSL_REQUIRE_API_KEYS=true, or listen on 127.0.0.1."
    )


def _refuse_workers(wanted: str) -> None:
    # Uvicorn would silently serve with one process, as a library is open in one process only.
    if wanted.strip() not in {"", "1"}:
        raise ServerFailed(
            f"WEB_CONCURRENCY is {wanted!r}, but one process serves one library, with threads of "
            "its own; unset it. For more than one process start several services, each with its "
            "own AVGZSL_DATA_DIR, that share AVGZSL_CATALOGUE_URL and AVGZSL_MEDIA_URL."
        )


def _without_traceback(send: Send) -> Send:
    async def quiet(message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            message = {"type": "lifespan.startup.failed"}
        await send(message)

    return quiet
