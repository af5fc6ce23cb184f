"""The dashboard, the scrape configuration and the documentation name metrics that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.access import ROUTES
from tests.service.conftest import file_part, make_app, store

ROOT = Path(__file__).parents[2]
WORDS = re.compile(r"\b(?:avgzsl|process|python)_[a-z_]+\b")
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count", "_info")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    with TestClient(make_app(tmp_path_factory.mktemp("dashboard"))) as client:
        store(client)
        client.post("/classify", files=file_part())
        text = client.get("/metrics").text
    families = text_string_to_metric_families(text)
    return {sample.name for family in families for sample in family.samples}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((ROOT / "docker/grafana/dashboards/avgzsl.json").read_text())
    return read


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if isinstance(variable["query"], dict):
            yield variable["query"]["query"]


def test_every_metric_of_the_dashboard_is_there(dashboard: dict[str, Any], names: set[str]) -> None:
    used = {word for expression in expressions(dashboard) for word in WORDS.findall(expression)}

    assert len(used) > 10
    assert used - names == set()


def test_the_dashboard_holds_together(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for expression in expressions(dashboard):
        assert expression.count("(") == expression.count(")")
        assert expression.count("{") == expression.count("}")
        assert set(re.findall(r"\$(\w+)", expression)) <= variables | {"__rate_interval"}


def test_prometheus_asks_where_the_metrics_are() -> None:
    config = yaml.safe_load((ROOT / "docker/prometheus.yml").read_text())

    (scrape,) = config["scrape_configs"]
    assert scrape["metrics_path"] in ROUTES


def test_every_metric_of_our_own_is_documented(names: set[str]) -> None:
    documented = set(WORDS.findall((ROOT / "docs/observability.md").read_text()))
    ours = {n for n in names if n.startswith("avgzsl_") and not n.endswith("_created")}

    for name in ours:
        families = {name.removesuffix(suffix) for suffix in ("_bucket", "_sum", "_count")}
        assert families & documented, name
    for word in documented - {"process_", "python_"}:
        assert any(word + suffix in names for suffix in SUFFIXES), word
