import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.service.conftest import assert_problem, file_part
from tests.service.media import mp4, wav


def test_texts_become_unit_vectors_in_their_order(shared: TestClient) -> None:
    body = shared.post("/embed", json={"texts": ["rain", "a dog", "rain"]}).json()

    vectors = np.array(body["vectors"])
    assert vectors.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert body["model_id"] == "fake"


def test_a_file_becomes_vectors_for_clip_and_windows(shared: TestClient) -> None:
    body = shared.post("/embed", files=file_part(mp4(), "clip.mp4")).json()

    assert len(body["audio"]) == len(body["video"]) == 16
    assert len(body["windows"][0]["audio"]) == 16
    assert body["windows"][0]["start_seconds"] == 0
    assert body["modalities"]["audio"]["used"]


def test_a_missing_modality_is_null(shared: TestClient) -> None:
    body = shared.post("/embed", files=file_part()).json()

    assert body["video"] is None
    assert body["windows"][0]["video"] is None
    assert shared.post("/embed", files=file_part(wav(silent=True))).json()["audio"] is None


@pytest.mark.parametrize(
    "body", [{}, {"texts": []}, {"texts": [""]}, {"texts": ["x"] * 1001}, {"texts": "x"}, []]
)
def test_impossible_texts_are_refused(shared: TestClient, body: object) -> None:
    assert_problem(shared.post("/embed", json=body), 422, "invalid_request")


@pytest.mark.parametrize("kind", ["text/plain", "audio/wav", ""])
def test_another_content_type_is_refused(shared: TestClient, kind: str) -> None:
    reply = shared.post("/embed", content=wav(), headers={"content-type": kind})

    assert_problem(reply, 415, "unsupported_media_type")


def test_malformed_json_is_refused(shared: TestClient) -> None:
    reply = shared.post(
        "/embed", content=b'{"texts": [', headers={"content-type": "application/json"}
    )

    assert_problem(reply, 400, "malformed_json")
