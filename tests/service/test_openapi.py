"""The document that clients are generated from."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

OPERATIONS = {
    ("post", "/classify"),
    ("post", "/retrieve"),
    ("post", "/retrieve/by-file"),
    ("get", "/classes"),
    ("post", "/classes"),
    ("get", "/classes/{class_id}"),
    ("patch", "/classes/{class_id}"),
    ("delete", "/classes/{class_id}"),
    ("get", "/clips"),
    ("post", "/clips"),
    ("get", "/clips/{clip_id}"),
    ("patch", "/clips/{clip_id}"),
    ("delete", "/clips/{clip_id}"),
    ("get", "/clips/{clip_id}/media"),
    ("get", "/clips/{clip_id}/thumbnail"),
    ("get", "/clips/{clip_id}/waveform"),
    ("get", "/clips/{clip_id}/spectrogram"),
    ("post", "/embed"),
    ("post", "/jobs/import"),
    ("get", "/jobs"),
    ("get", "/jobs/{job_id}"),
    ("delete", "/jobs/{job_id}"),
    ("get", "/jobs/{job_id}/items"),
    ("get", "/jobs/{job_id}/events"),
    ("post", "/jobs/{job_id}/retry"),
    ("get", "/model"),
    ("post", "/model"),
    ("delete", "/model/swap"),
    ("get", "/session"),
    ("post", "/session"),
    ("delete", "/session"),
    ("get", "/metrics"),
    ("get", "/samples"),
    ("get", "/samples/{name}"),
    ("get", "/healthz"),
    ("get", "/readyz"),
}


@pytest.fixture(scope="module")
def document(shared: TestClient) -> dict[str, Any]:
    made: dict[str, Any] = shared.get("/openapi.json").json()
    return made


def operations(document: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield (method, path), operation


def values_of(key: str, node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values_of(key, value)
    elif isinstance(node, list):
        for value in node:
            yield from values_of(key, value)


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        found: dict[str, Any] = document["components"]["schemas"][name]
        return found
    return schema


def has_example(document: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether a schema, or one that it is made of, has an example."""
    references = [{"$ref": reference} for reference in values_of("$ref", schema)]
    return "examples" in schema or any(
        has_example(document, resolved(document, reference)) for reference in references
    )


def test_it_holds_every_route_and_no_other(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert {key for key, _ in operations(document)} == OPERATIONS


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in values_of("$ref", document):
        assert resolved(document, {"$ref": reference})


def test_operations_have_distinct_ids_and_a_summary(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]

    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] for _, operation in operations(document))


def test_every_body_and_answer_has_an_example(document: dict[str, Any]) -> None:
    for key, operation in operations(document):
        bodies = operation.get("requestBody", {}).get("content", {})
        for body in bodies.values():
            schema = resolved(document, body["schema"])
            assert list(values_of("examples", schema)) or "file" in schema["properties"], key
        for status, reply in operation["responses"].items():
            content = reply.get("content", {}).get("application/json")
            if status.startswith("2") and content:
                assert has_example(document, content["schema"]), key


@pytest.mark.parametrize("path", ["/classify", "/retrieve/by-file", "/clips", "/embed"])
def test_files_can_be_uploaded_from_the_docs(document: dict[str, Any], path: str) -> None:
    body = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]

    assert body["schema"]["properties"]["file"]["format"] == "binary"
    assert body["schema"]["required"] == ["file"]


def test_errors_are_described_as_they_are_answered(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for key, operation in operations(document):
        for status, reply in operation["responses"].items():
            if status.startswith(("4", "5")):
                assert set(reply["content"]) == {"application/problem+json"}, (key, status)


def test_the_page_that_shows_it_is_there(shared: TestClient) -> None:
    assert "swagger" in shared.get("/docs").text.lower()
