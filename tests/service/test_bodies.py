"""JSON bodies that are none, of another kind, or too long."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.service.conftest import assert_problem, make_app

JSON = {"content-type": "application/json"}
PATHS = ["/classes", "/retrieve", "/embed"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"name": ', b"name=kettle", b"{'name': 'a'}", b"\xff\xfe", b'{"name": "\xe9"}',
     b"[" * 100_000, b"\xef\xbb\xbf{}", b'{"top_k": ' + b"1" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_json_is_malformed(shared: TestClient, path: str, content: bytes) -> None:
    assert_problem(shared.post(path, content=content, headers=JSON), 400, "malformed_json")


@pytest.mark.parametrize("path", [*PATHS, "/session"])
def test_many_unknown_names_are_told_in_few_words(shared: TestClient, path: str) -> None:
    reply = shared.post(path, json={f"a{number}": 0 for number in range(900)})

    body = assert_problem(reply, 422, "invalid_request")
    assert len(body["errors"]) == 20
    assert " more; `errors` has 20)" in body["detail"]


@pytest.mark.parametrize("path", [*PATHS, "/session"])
def test_an_object_of_too_many_names_is_refused(shared: TestClient, path: str) -> None:
    reply = shared.post(path, json={f"a{number}": 0 for number in range(1001)})

    assert "1001 names; the limit is 1000" in assert_problem(reply, 400, "malformed_json")["detail"]


def test_of_a_very_long_list_no_more_than_the_limit_is_looked_at(shared: TestClient) -> None:
    reply = shared.post("/classes", json={"name": "kettle", "synonyms": [1] * 100_000})

    (error,) = assert_problem(reply, 422, "invalid_request")["errors"]
    assert error["pointer"] == "/synonyms"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "text/json", ""]
)
def test_another_content_type_is_refused(shared: TestClient, path: str, kind: str) -> None:
    reply = shared.post(path, content=b'{"name": "kettle"}', headers={"content-type": kind})

    assert_problem(reply, 415, "unsupported_media_type")


def test_a_suffix_and_a_charset_are_understood(shared: TestClient) -> None:
    for kind in ("application/json; charset=utf-8", "application/merge-patch+json"):
        reply = shared.post(
            "/retrieve", content=b'{"query": "rain"}', headers={"content-type": kind}
        )
        assert reply.status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_body_over_the_limit_is_not_read_to_its_end(tmp_path: Path, path: str) -> None:
    taken = 0
    answer: list[Any] = []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b" " * 1024, "more_body": True}

    async def send(message: Any) -> None:
        answer.append(message)

    async def post() -> None:
        app = make_app(tmp_path, max_json_bytes=4096)
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json")],
        }
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)

    asyncio.run(post())

    assert answer[0]["status"] == 413
    assert b"body_too_large" in answer[1]["body"]
    assert taken == 5
