"""The application: routes, error handlers and the resources that live as long as it runs."""

import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from model.embedding import ClipEmbedder
from service.documentation import with_problems
from service.errors import install_error_handlers
from service.request_context import RequestContext
from service.resources import open_resources
from service.routes import classes, classify, clips, embed, health, model, retrieve
from service.settings import Settings
from service.version import package_version

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Name what is in a video or audio clip, with classes that are added while the service runs; store
clips and find them again by words, by another clip, by sound or by sight.

Errors are `application/problem+json` with a stable `code`; `detail` says what to do.
"""


class Application(FastAPI):
    """FastAPI, with a document that describes errors as they are answered here."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return with_problems(super().openapi())


def create_app(settings: Settings, *, embedder: ClipEmbedder | None = None) -> FastAPI:
    """Build the application.

    Nothing is loaded until its lifespan starts, which ends once the model is warm and the library
    open: a server that waits for it, as all do, accepts no request before it is ready.

    Args:
        settings: see `Settings`.
        embedder: used instead of the model that the settings name.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as stack:
            opening = open_resources(settings, embedder)
            app.state.resources = await run_in_threadpool(stack.enter_context, opening)
            logger.info("ready", extra={"fields": {"data_dir": settings.data_dir}})
            yield

    app = Application(
        title="avgzsl",
        summary="Zero-shot audio-video classification and retrieval",
        description=DESCRIPTION,
        version=package_version(),
        lifespan=lifespan,
    )
    app.add_middleware(RequestContext)
    install_error_handlers(app)
    for routes in (classify, retrieve, classes, clips, embed, model, health):
        app.include_router(routes.router)
    return app
