from pathlib import Path

import pytest
from starlette.testclient import TestClient

from model.fake import FakeEmbedder
from tests.service.conftest import assert_problem, file_part, make_app
from tests.service.media import mp4, wav


def test_a_clip_is_ranked_against_all_classes_best_first(shared: TestClient) -> None:
    body = shared.post("/classify", files=file_part()).json()

    probabilities = [label["probability"] for label in body["labels"]]
    assert [label["name"] for label in body["labels"]] != []
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1.0)
    assert 0 <= body["unknown_probability"] <= 1
    assert body["model_id"] == "fake"
    assert body["windows"] == []
    assert body["duration_seconds"] == pytest.approx(1.0)


def test_a_video_with_sound_is_judged_by_both_and_by_each(shared: TestClient) -> None:
    body = shared.post("/classify", files=file_part(mp4(), "clip.mp4")).json()

    assert body["modalities"]["audio"] == {"used": True, "reason": None}
    assert body["modalities"]["video"] == {"used": True, "reason": None}
    for label in body["labels"]:
        assert 0 <= label["by_modality"]["audio"] <= 1
        assert 0 <= label["by_modality"]["video"] <= 1


def test_a_missing_modality_is_null_and_its_reason_told(shared: TestClient) -> None:
    body = shared.post("/classify", files=file_part()).json()

    assert body["modalities"]["video"]["used"] is False
    assert body["modalities"]["video"]["reason"]
    assert body["labels"][0]["by_modality"]["video"] is None


def test_one_modality_can_be_asked_for(shared: TestClient) -> None:
    reply = shared.post("/classify", files=file_part(mp4(), "clip.mp4"), data={"modality": "video"})

    assert reply.json()["modalities"]["audio"]["used"] is False
    assert reply.json()["labels"][0]["by_modality"]["audio"] is None


def test_a_modality_that_the_file_lacks_is_refused(shared: TestClient) -> None:
    reply = shared.post("/classify", files=file_part(), data={"modality": "video"})

    assert_problem(reply, 422, "modality_missing")


def test_windows_are_ranked_when_asked_for(shared: TestClient) -> None:
    body = shared.post("/classify", files=file_part(wav(6.0)), data={"windows": "true"}).json()

    assert len(body["windows"]) > 1
    assert body["windows"][0]["start_seconds"] == 0
    assert body["windows"][-1]["end_seconds"] == pytest.approx(6.0)
    assert all(len(window["labels"]) == 3 for window in body["windows"])


def test_top_k_limits_the_labels_of_clip_and_windows(shared: TestClient) -> None:
    data = {"top_k": "1", "windows": "true"}
    body = shared.post("/classify", files=file_part(), data=data).json()

    assert len(body["labels"]) == len(body["windows"][0]["labels"]) == 1


def test_candidate_labels_are_ranked_alone_and_not_stored(shared: TestClient) -> None:
    before = shared.get("/classes").json()["total"]

    data = {"candidate_labels": ["a zither", "a yodel"]}
    body = shared.post("/classify", files=file_part(), data=data).json()

    assert {label["name"] for label in body["labels"]} == {"a zither", "a yodel"}
    assert not any(label["seen"] for label in body["labels"])
    assert shared.get("/classes").json()["total"] == before


def test_a_candidate_that_names_a_class_scores_as_that_class(shared: TestClient) -> None:
    every = shared.post("/classify", files=file_part()).json()["labels"]
    data = {"candidate_labels": ["DOG", "a yodel"]}
    chosen = shared.post("/classify", files=file_part(), data=data).json()["labels"]

    (dog,) = [label for label in chosen if label["name"] == "DOG"]
    (stored,) = [label for label in every if label["name"] == "dog"]
    assert dog["seen"] is True
    assert dog["score"] == pytest.approx(stored["score"])


def test_candidates_that_differ_in_case_or_spacing_are_one(shared: TestClient) -> None:
    data = {"candidate_labels": ["A  yodel", "a YODEL", " a yodel ", "rain"]}
    body = shared.post("/classify", files=file_part(), data=data).json()

    assert sorted(label["name"] for label in body["labels"]) == ["A yodel", "rain"]


@pytest.mark.parametrize("name", ["", "   ", "\u200b", "x" * 10_000, "a\x07b", "a\nb"])
def test_an_impossible_candidate_is_refused(shared: TestClient, name: str) -> None:
    reply = shared.post("/classify", files=file_part(), data={"candidate_labels": ["dog", name]})

    assert_problem(reply, 422, "invalid_class_name")


def test_too_many_candidates_are_refused(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path, max_candidate_labels=3)) as client:
        data = {"candidate_labels": ["a", "b", "c", "d"]}
        reply = client.post("/classify", files=file_part(), data=data)

    assert "limit is 3" in assert_problem(reply, 422, "too_many_labels")["detail"]


def test_a_clip_without_anything_to_perceive_is_probably_unknown(shared: TestClient) -> None:
    for content in (wav(silent=True), mp4(sound=False, blank=True)):
        data = {"windows": "true"}
        body = shared.post("/classify", files=file_part(content), data=data).json()

        assert body["labels"] == []
        assert body["unknown_probability"] == 1.0
        assert body["warnings"]
        assert all(window["labels"] == [] for window in body["windows"])


def test_without_any_class_the_answer_says_what_to_do(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path, embedder=FakeEmbedder(vocabulary=()))) as client:
        assert_problem(client.post("/classify", files=file_part()), 409, "no_classes")
        data = {"candidate_labels": ["a yodel"]}
        assert client.post("/classify", files=file_part(), data=data).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_k", "0"),
        ("top_k", "1000000000"),
        ("top_k", "many"),
        ("modality", "smell"),
        ("windows", "perhaps"),
        ("colour", "red"),
        ("top_k", ["1", "2"]),
    ],
)
def test_a_bad_field_is_refused_by_name(
    shared: TestClient, field: str, value: str | list[str]
) -> None:
    reply = shared.post("/classify", files=file_part(), data={field: value})

    body = assert_problem(reply, 422, "invalid_request")
    assert body["errors"][0]["pointer"] == f"/{field}"
    assert field in body["detail"]


def test_blank_fields_of_a_browser_form_mean_the_defaults(shared: TestClient) -> None:
    data = {"top_k": "", "modality": " ", "windows": ""}

    assert shared.post("/classify", files=file_part(), data=data).status_code == 200


def test_a_class_added_a_moment_ago_is_ranked(client: TestClient) -> None:
    client.post("/classes", json={"name": "kettle whistling"})

    body = client.post("/classify", files=file_part()).json()

    assert "kettle whistling" in {label["name"] for label in body["labels"]}
