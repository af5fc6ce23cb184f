"""Traces by OpenTelemetry, where the extra `otel` is installed and its variables ask for them."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.access import target_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer
    from starlette.types import ASGIApp, Scope

logger = logging.getLogger(__name__)

PROBES = "healthz,readyz,metrics"
"""Not worth a trace: they come every few seconds."""

EXPORTERS = ("otlp", "console")


def provider_from_environment() -> "TracerProvider | None":
    """Return what records traces, by OpenTelemetry's own variables; None where none are wanted.

    `OTEL_TRACES_EXPORTER` (otlp, console), or an endpoint (`OTEL_EXPORTER_OTLP_ENDPOINT`) alone,
    asks for them; `OTEL_SDK_DISABLED` and all others work as the SDK has them.
    """
    exporter = _wanted_exporter()
    if exporter is None:
        return None
    try:
        return _provider(exporter)
    except ImportError as error:
        logger.warning(
            "OTEL_* asks for traces, but there are none: %s. Install them with "
            "`pip install 'avgzsl[otel]'`.",
            error,
        )
        return None


class Tracing:
    """Records spans of one application; without a provider it does nothing."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._tracer: Tracer | None = None
        if provider is not None:
            self._tracer = provider.get_tracer("avgzsl")

    def around(self, app: "ASGIApp") -> "ASGIApp":
        """Return the application with a span around each request."""
        if self._provider is None:
            return app
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # noqa: PLC0415

        traced: ASGIApp = OpenTelemetryMiddleware(
            app,
            excluded_urls=PROBES,
            default_span_details=_span_details,
            tracer_provider=self._provider,
            exclude_spans=["receive", "send"],
        )
        return traced

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Record a part of the request that is being answered."""
        if self._tracer is None:
            yield
            return
        with self._tracer.start_as_current_span(name):
            yield

    def start(self, name: str) -> Callable[[], None]:
        """Begin a part that ends elsewhere; return what ends it, in whichever thread."""
        if self._tracer is None:
            return lambda: None
        return self._tracer.start_span(name).end

    def close(self) -> None:
        """Send what was recorded."""
        if self._provider is not None:
            self._provider.shutdown()


def _wanted_exporter() -> str | None:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter in EXPORTERS:
        return exporter
    if exporter not in {"", "none"}:
        logger.warning(
            "OTEL_TRACES_EXPORTER is %r, so there are no traces; use %s.",
            exporter,
            " or ".join(EXPORTERS),
        )
        return None
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if exporter == "" and any(os.environ.get(name, "").strip() for name in endpoints):
        return "otlp"
    return None


def _provider(exporter: str) -> "TracerProvider":
    import opentelemetry.instrumentation.asgi  # noqa: F401, PLC0415 - is it installed?
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415
        BatchSpanProcessor,
        ConsoleSpanExporter,
        SpanExporter,
    )

    sender: SpanExporter
    if exporter == "console":
        sender = ConsoleSpanExporter()
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        sender = OTLPSpanExporter()
    named = {SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME") or "avgzsl"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(sender))
    return provider


def _span_details(scope: "Scope") -> tuple[str, dict[str, str]]:
    template = target_of(scope["method"], scope["path"]).template
    return f"{scope['method']} {template}", {"http.route": template}
