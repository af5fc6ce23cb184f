import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from model.embedding import ClassText
from model.fake import DIM, FakeEmbedder, hashed_vector
from tests.service.conftest import assert_problem, file_part, make_app


class WordyEmbedder(FakeEmbedder):
    """Takes synonyms and description into account, so that a new embedding shows."""

    def __init__(self, vocabulary: Any = ("dog",), seconds: float = 0.0) -> None:
        self._seconds = seconds
        super().__init__(vocabulary)

    def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        time.sleep(self._seconds)
        vectors = [hashed_vector(repr(words).encode()) for words in classes]
        return np.array(vectors, np.float32).reshape(-1, DIM)


def score_of(client: TestClient, name: str) -> float:
    labels = client.post("/classify", files=file_part()).json()["labels"]
    (score,) = [label["score"] for label in labels if label["name"] == name]
    return float(score)


def test_a_class_is_added_shown_and_listed(client: TestClient) -> None:
    body = {"name": "kettle whistling", "synonyms": ["boiling kettle"], "description": "A tone."}
    reply = client.post("/classes", json=body)

    created = reply.json()
    assert reply.status_code == 201
    assert created.items() >= {**body, "seen": False, "enabled": True}.items()
    assert reply.headers["location"] == f"/classes/{created['class_id']}"
    assert client.get(reply.headers["location"]).json() == created
    assert created in client.get("/classes").json()["items"]


def test_the_model_s_own_classes_are_there_from_the_start(shared: TestClient) -> None:
    body = shared.get("/classes").json()

    assert body["total"] == 3
    assert {item["name"]: item["seen"] for item in body["items"]} == dict.fromkeys(
        ("dog", "rain", "speech"), True
    )


def test_the_listing_is_paged_and_filtered(client: TestClient) -> None:
    client.post("/classes", json={"name": "kettle whistling"})

    page = client.get("/classes", params={"offset": 1, "limit": 2}).json()
    assert (len(page["items"]), page["total"], page["offset"], page["limit"]) == (2, 4, 1, 2)
    unseen = client.get("/classes", params={"seen": "false"}).json()["items"]
    assert [item["name"] for item in unseen] == ["kettle whistling"]
    found = client.get("/classes", params={"query": "KETTLE"}).json()["items"]
    assert [item["name"] for item in found] == ["kettle whistling"]


@pytest.mark.parametrize("params", [{"limit": 0}, {"offset": -1}, {"offset": 1e30}, {"page": 2}])
def test_an_impossible_page_is_refused(shared: TestClient, params: dict[str, Any]) -> None:
    body = assert_problem(shared.get("/classes", params=params), 422, "invalid_request")

    assert body["errors"][0]["in"] == "query"


@pytest.mark.parametrize(
    "name", ["", "   ", "\u200b", "x" * 10_000, "a\x07b", "a\nb", "tab\there", "nul\x00"]
)
def test_an_impossible_name_is_refused(shared: TestClient, name: str) -> None:
    reply = shared.post("/classes", json={"name": name})

    body = assert_problem(reply, 422, "invalid_class_name")
    assert len(body["detail"]) < 300


def test_impossible_synonyms_and_descriptions_are_refused(shared: TestClient) -> None:
    for extra in ({"synonyms": [" "]}, {"synonyms": ["x"] + [f"s{i}" for i in range(60)]}):
        reply = shared.post("/classes", json={"name": "kettle", **extra})
        assert_problem(reply, 422, "invalid_class_name")
    reply = shared.post("/classes", json={"name": "kettle", "description": "x" * 5000})
    assert_problem(reply, 422, "invalid_class_name")


@pytest.mark.parametrize("name", ["dog", "DOG", " Dog ", "\uff24\uff2f\uff27"])
def test_a_name_that_is_taken_is_refused_in_any_spelling(shared: TestClient, name: str) -> None:
    assert_problem(shared.post("/classes", json={"name": name}), 409, "class_exists")


def test_a_lone_surrogate_is_refused(shared: TestClient) -> None:
    reply = shared.post(
        "/classes",
        content=b'{"name": "a\\ud800b"}',
        headers={"content-type": "application/json"},
    )

    assert reply.status_code == 422
    assert reply.json()["code"] in {"invalid_request", "invalid_class_name"}


@pytest.mark.parametrize(
    "body", [{}, {"name": 7}, {"name": None}, {"name": "a", "colour": "red"}, [], "dog"]
)
def test_a_body_of_another_shape_is_refused(shared: TestClient, body: Any) -> None:
    reply = shared.post("/classes", json=body)

    assert assert_problem(reply, 422, "invalid_request")["errors"]


def test_changing_words_embeds_the_class_anew(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path, embedder=WordyEmbedder())) as client:
        class_id = client.post("/classes", json={"name": "kettle"}).json()["class_id"]
        for change in ({"synonyms": ["pot"]}, {"description": "A pot that boils water."}):
            before = score_of(client, "kettle")
            reply = client.patch(f"/classes/{class_id}", json=change)
            assert reply.json().items() >= change.items()
            assert not np.isclose(score_of(client, "kettle"), before)
        renamed = client.patch(f"/classes/{class_id}", json={"name": "tea kettle"}).json()
        assert renamed["name"] == "tea kettle"
        assert renamed["synonyms"] == ["pot"]
        score_of(client, "tea kettle")


def test_two_changes_at_once_leave_words_and_vector_in_agreement(tmp_path: Path) -> None:
    app = make_app(tmp_path, embedder=WordyEmbedder(vocabulary=(), seconds=0.05))
    with TestClient(app) as client:
        url = f"/classes/{client.post('/classes', json={'name': 'kettle'}).json()['class_id']}"
        changes = [{"synonyms": ["pot"]}, {"description": "A pot that boils water."}]
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda change: client.patch(url, json=change), changes))
        library = app.state.resources.library
        words = ClassText("kettle", ("pot",), "A pot that boils water.")
        scores = library.label_similarities(hashed_vector(repr(words).encode())[None])

    assert scores.similarity[0, 0] == pytest.approx(1.0, abs=1e-5)


def test_a_patch_that_changes_nothing_leaves_the_class(client: TestClient) -> None:
    created = client.post("/classes", json={"name": "kettle"}).json()

    assert client.patch(f"/classes/{created['class_id']}", json={}).json() == created


def test_a_disabled_class_is_not_named(client: TestClient) -> None:
    class_id = client.post("/classes", json={"name": "kettle"}).json()["class_id"]

    assert client.patch(f"/classes/{class_id}", json={"enabled": False}).json()["enabled"] is False
    labels = client.post("/classify", files=file_part()).json()["labels"]
    assert "kettle" not in {label["name"] for label in labels}


def test_a_patch_may_not_take_another_s_name(client: TestClient) -> None:
    class_id = client.post("/classes", json={"name": "kettle"}).json()["class_id"]

    reply = client.patch(f"/classes/{class_id}", json={"name": "Dog"})
    assert_problem(reply, 409, "class_exists")
    assert client.get(f"/classes/{class_id}").json()["name"] == "kettle"


def test_a_removed_class_is_gone_and_its_name_free(client: TestClient) -> None:
    class_id = client.post("/classes", json={"name": "kettle"}).json()["class_id"]

    reply = client.delete(f"/classes/{class_id}")
    assert (reply.status_code, reply.content) == (204, b"")
    assert_problem(client.get(f"/classes/{class_id}"), 404, "class_not_found")
    assert_problem(client.delete(f"/classes/{class_id}"), 404, "class_not_found")
    assert client.post("/classes", json={"name": "kettle"}).status_code == 201


@pytest.mark.parametrize("class_id", ["nobody", "0" * 5000, "..%2e", "%00", "%F0%9F%90%95"])
def test_an_unknown_id_is_not_found(shared: TestClient, class_id: str) -> None:
    url = f"/classes/{class_id}"
    for reply in (shared.get(url), shared.patch(url, json={"name": "x"}), shared.delete(url)):
        body = assert_problem(reply, 404, "class_not_found")
        assert len(body["detail"]) < 600


def test_classes_outlive_a_restart(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path)) as client:
        client.post("/classes", json={"name": "kettle"})
        dog = next(c for c in client.get("/classes").json()["items"] if c["name"] == "dog")
        client.delete(f"/classes/{dog['class_id']}")

    with TestClient(make_app(tmp_path)) as client:
        names = [item["name"] for item in client.get("/classes").json()["items"]]

    assert names == ["rain", "speech", "kettle"]
