"""Requests made up from the OpenAPI document: no answer is a fault, and each is as documented."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from model.fake import FakeEmbedder
from service.app import create_app
from service.settings import Settings
from tests.service.media import mp4, wav
from tests.service.test_server import running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
OPERATIONS = {
    operation.label: operation
    for operation in (
        result.ok()
        for result in schemathesis.openapi.from_dict(
            create_app(Settings()).openapi()
        ).get_all_operations()
    )
}
EXAMPLES = 10
MANY_EXAMPLES = 300


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, running(tmp_path_factory.mktemp("schema")) as url:
        # Some requests ask for the bundled model.
        patch.setattr("service.resources.load_embedder", lambda settings: FakeEmbedder())
        for name, content in (("a.wav", wav()), ("a.mp4", mp4())):
            httpx.post(f"{url}/clips", files={"file": (name, content)}).raise_for_status()
        yield url


def try_out(label: str, url: str, **options: Any) -> None:
    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), **options)
    @given(case=OPERATIONS[label].as_strategy())
    def answers_as_documented(case: Any) -> None:
        case.call_and_validate(base_url=url, checks=CHECKS)

    answers_as_documented()


@pytest.mark.parametrize("label", OPERATIONS)
def test_it_answers_as_documented(label: str, url: str) -> None:
    try_out(label, url, max_examples=EXAMPLES, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("label", OPERATIONS)
def test_it_answers_as_documented_to_many_requests(label: str, url: str) -> None:
    try_out(label, url, max_examples=MANY_EXAMPLES)
