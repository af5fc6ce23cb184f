"""The application: routes, error handlers and the resources that live as long as it runs."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from model.embedding import ClipEmbedder
from service.admission import KEY_HEADER, Admission
from service.disconnect import StopWhenClientLeaves
from service.documentation import with_access, with_problems
from service.errors import install_error_handlers
from service.jobs import working
from service.observation import Observation
from service.request_context import REQUEST_ID_HEADER, RequestContext
from service.resources import log_broken, open_resources
from service.routes import (
    classes,
    classify,
    clips,
    docs,
    embed,
    health,
    jobs,
    metrics,
    model,
    page,
    retrieve,
    samples,
    session,
)
from service.security_headers import SecurityHeaders
from service.settings import Settings
from service.tracing import Tracing, provider_from_environment
from service.version import package_version

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)

EXPOSED_HEADERS = (
    "Content-Range",
    "ETag",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    REQUEST_ID_HEADER,
)
"""What a page of an allowed origin may read of an answer's head."""

ROUTES = (
    classify,
    retrieve,
    classes,
    clips,
    embed,
    model,
    samples,
    session,
    jobs,
    health,
    metrics,
    docs,
    page,
)

DESCRIPTION = """\
Name what is in a video or audio clip, with classes that are added while the service runs; store
clips and find them again by words, by another clip, by sound or by sight.

Errors are `application/problem+json` with a stable `code`; `detail` says what to do.
"""


class Application(FastAPI):
    """FastAPI, with a document that describes errors as they are answered here."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return with_access(with_problems(super().openapi()))


def create_app(
    settings: Settings,
    *,
    embedder: ClipEmbedder | None = None,
    tracer_provider: "TracerProvider | None" = None,
    on_broken: Callable[[str], None] = log_broken,
    swappable: bool = True,
) -> FastAPI:
    """Build the application.

    Nothing is loaded until its lifespan starts, which ends once the model is warm and the library
    open: a server that waits for it, as all do, accepts no request before it is ready.

    Args:
        settings: see `Settings`.
        embedder: used instead of the model that the settings name.
        tracer_provider: records traces, instead of what the OTEL_* variables ask for; shut down
            at the end of the lifespan.
        on_broken: called with a reason, from some thread, when the model fails or hangs and
            the process should end.
        swappable: whether the model may be changed while the application runs; not where it does
            not run in this process.
    """
    observation = Observation(tracing=Tracing(tracer_provider or provider_from_environment()))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as stack:
            stack.callback(observation.tracing.close)
            opening = open_resources(
                settings, embedder, observation, on_broken, swappable=swappable
            )
            app.state.resources = await run_in_threadpool(stack.enter_context, opening)
            async with working(app.state.resources.jobs):
                logger.info("ready", extra={"fields": {"data_dir": settings.data_dir}})
                yield

    app = Application(
        title="avgzsl",
        summary="Zero-shot audio-video classification and retrieval",
        description=DESCRIPTION,
        version=package_version(),
        lifespan=lifespan,
        # `service.routes.docs` has the page.
        docs_url=None,
        redoc_url=None,
    )
    # The last one added is the outermost.
    app.add_middleware(StopWhenClientLeaves)
    app.add_middleware(Admission, settings=settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "PATCH", "DELETE"),
            allow_headers=("Authorization", KEY_HEADER, "Content-Type", "Range", REQUEST_ID_HEADER),
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(RequestContext, metrics=observation.metrics)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(observation.tracing.around)
    install_error_handlers(app)
    for routes in ROUTES:
        app.include_router(routes.router)
    return app
