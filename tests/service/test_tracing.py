"""Traces, recorded in memory."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from model.fake import FakeEmbedder
from service import tracing
from service.app import create_app
from service.settings import Settings
from service.tracing import provider_from_environment
from tests.service.conftest import HOSTS, file_part

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@contextmanager
def traced(data_dir: Path) -> Iterator[tuple[TestClient, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings = Settings(data_dir=data_dir, allowed_hosts=HOSTS)
    app = create_app(settings, embedder=FakeEmbedder(), tracer_provider=provider)
    with TestClient(app) as client:
        yield client, exporter


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_is_a_span_named_by_its_route_with_its_parts_below(tmp_path: Path) -> None:
    with traced(tmp_path) as (client, exporter):
        client.post("/classify", files=file_part())
        client.get("/clips/secret-name")
        spans = by_name(exporter)

    request = spans["POST /classify"]
    assert request.attributes is not None
    assert request.attributes["http.route"] == "/classify"
    for name, above in (
        ("embed", "POST /classify"),
        ("decode", "embed"),
        ("forward", "embed"),
        ("search", "POST /classify"),
    ):
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == spans[above].context.span_id, name
    assert "GET /clips/{clip_id}" in spans


def test_a_callers_trace_goes_on(tmp_path: Path) -> None:
    with traced(tmp_path) as (client, exporter):
        client.get("/model", headers={"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"})
        span = by_name(exporter)["GET /model"]

    assert format(span.context.trace_id, "032x") == TRACE_ID


def test_probes_are_not_traced(tmp_path: Path) -> None:
    with traced(tmp_path) as (client, exporter):
        for path in ("/healthz", "/readyz", "/metrics"):
            assert client.get(path).status_code == 200
        assert exporter.get_finished_spans() == ()


@pytest.fixture(autouse=True)
def _no_otel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OTEL_SDK_DISABLED",
        "OTEL_TRACES_EXPORTER",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_SERVICE_NAME",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, False),
    ],
)
def test_opentelemetrys_own_variables_turn_it_on(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    provider = provider_from_environment()

    assert (provider is not None) == wanted
    if provider is not None:
        assert provider.resource.attributes["service.name"] == "avgzsl"
        provider.shutdown()


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.asgi", None)

    assert tracing.provider_from_environment() is None
    assert "avgzsl[otel]" in caplog.text


def test_nobody_who_wants_no_traces_waits_for_its_libraries() -> None:
    code = (
        "import service.app, sys\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "[]"
