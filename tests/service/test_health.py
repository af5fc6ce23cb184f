import time
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from model.fake import FakeEmbedder
from tests.service.conftest import assert_problem, make_app, store


class MoodyEmbedder(FakeEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.failing = False
        self.calls = 0
        self.warmed_up = False

    def warm_up(self) -> None:
        self.warmed_up = True

    def embed_texts(self, texts: Any) -> Any:
        self.calls += 1
        if self.failing:
            raise RuntimeError("the device is lost")
        return super().embed_texts(texts)


class NanEmbedder(FakeEmbedder):
    def embed_texts(self, texts: Any) -> Any:
        return np.full((len(texts), 16), np.nan, np.float32)


def test_a_living_service_says_so(shared: TestClient) -> None:
    assert shared.get("/healthz").json()["status"] == "alive"
    assert shared.get("/readyz").json()["status"] == "ready"


def test_the_model_is_warm_before_the_first_request(tmp_path: Path) -> None:
    embedder = MoodyEmbedder()

    with TestClient(make_app(tmp_path, embedder=embedder)):
        assert embedder.warmed_up


def test_readiness_is_a_forward_pass_and_liveness_is_not(tmp_path: Path) -> None:
    embedder = MoodyEmbedder()
    app = make_app(tmp_path, embedder=embedder, readiness_cache_seconds=0)
    with TestClient(app) as client:
        assert client.get("/readyz").status_code == 200
        embedder.failing = True
        body = assert_problem(client.get("/readyz"), 503, "not_ready")
        assert "device" not in body["detail"]
        assert client.get("/healthz").status_code == 200
        embedder.failing = False
        assert client.get("/readyz").status_code == 200


def test_readiness_is_remembered_for_some_seconds(tmp_path: Path) -> None:
    embedder = MoodyEmbedder()
    app = make_app(tmp_path, embedder=embedder, readiness_cache_seconds=0.5)
    with TestClient(app) as client:
        at_start = embedder.calls
        for _ in range(5):
            client.get("/readyz")
        calls = embedder.calls
        time.sleep(0.6)
        client.get("/readyz")

    assert calls == at_start + 1
    assert embedder.calls == at_start + 2


def test_numbers_not_finite_are_not_ready(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path, embedder=NanEmbedder())) as client:
        assert_problem(client.get("/readyz"), 503, "not_ready")


def test_the_model_is_described(client: TestClient) -> None:
    store(client)

    body = client.get("/model").json()

    assert body["model_id"] == "fake"
    assert body["embedding_dim"] == 16
    assert (body["classes"], body["clips"], body["segments"]) == (3, 1, 1)
    assert body["vectors"]["labels"] == 3
    assert body["indexes"]["audio"] == {"kind": "exact", "recall": 1.0, "training": False}
