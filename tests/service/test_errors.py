"""One table, one shape: every error that is raised on purpose has a status and a stable code."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from index.errors import LibraryError, VectorStoreUnavailable
from index.exact_store import ExactStore
from model.errors import MediaError
from model.fake import FakeEmbedder
from service.errors import PROBLEMS, ServiceError, shown
from tests.service.conftest import assert_problem, file_part, make_app, store


def subclasses(base: type[Exception]) -> Iterator[type[Exception]]:
    for kind in base.__subclasses__():
        yield kind
        yield from subclasses(kind)


@pytest.mark.parametrize("base", [ServiceError, MediaError, LibraryError])
def test_every_error_raised_on_purpose_is_in_the_table(base: type[Exception]) -> None:
    for kind in subclasses(base):
        assert kind in PROBLEMS, kind


def test_the_table_keeps_the_codes_that_the_model_gives() -> None:
    for kind, problem in PROBLEMS.items():
        if issubclass(kind, MediaError):
            assert problem.code == kind.code
            assert 400 <= problem.status < 500


def test_a_path_that_is_not_there_is_not_found(shared: TestClient) -> None:
    for path in ("/nowhere", "/classes/a/b", "/" + "x" * 3000):
        assert_problem(shared.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/classes", "GET, POST"),
        ("GET", "/classify", "POST"),
        ("POST", "/clips/x", "DELETE, GET, PATCH"),
        ("DELETE", "/clips/x/media", "GET, HEAD"),
        ("BREW", "/model", "GET, POST"),
    ],
)
def test_a_method_that_is_not_there_names_those_that_are(
    shared: TestClient, method: str, path: str, allowed: str
) -> None:
    reply = shared.request(method, path)

    assert_problem(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == allowed


class BrokenEmbedder(FakeEmbedder):
    def finish(self, forwarded: Any) -> Any:
        raise RuntimeError("secret: the password is swordfish")


def test_an_unexpected_error_is_told_without_its_text_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        TestClient(make_app(tmp_path, embedder=BrokenEmbedder())) as client,
        caplog.at_level(logging.ERROR),
    ):
        reply = client.post("/classify", files=file_part(), headers={"x-request-id": "call-7"})

    body = assert_problem(reply, 500, "internal_error")
    assert "swordfish" not in reply.text
    assert body["request_id"] == "call-7"
    (record,) = [r for r in caplog.records if r.name == "service.errors"]
    assert record.exc_info is not None
    assert record.__dict__["fields"]["request_id"] == "call-7"


def test_one_bad_request_leaves_the_next_unharmed(shared: TestClient) -> None:
    shared.post("/classify", files=file_part(b"no media"))

    assert shared.post("/classify", files=file_part()).status_code == 200


def test_shown_values_are_short_and_printable() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 1000)) < 100
    assert len(shown(list(range(1000)))) < 100


def test_a_vector_store_out_of_reach_is_told_so_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise VectorStoreUnavailable("Could not search the vector store http://milvus:19530.")

    with TestClient(make_app(tmp_path, vector_store="exact")) as client:
        store(client)
        with monkeypatch.context() as away:
            away.setattr(ExactStore, "search", refuse)
            for reply in (
                client.post("/retrieve", json={"query": "rain"}),
                client.post("/classify", files=file_part()),
            ):
                body = assert_problem(reply, 503, "vector_store_unavailable")
                assert "http://milvus:19530" in body["detail"]
            assert client.get("/readyz").status_code == 200
        assert client.post("/retrieve", json={"query": "rain"}).json()["results"]
        assert client.post("/classify", files=file_part()).json()["labels"]
