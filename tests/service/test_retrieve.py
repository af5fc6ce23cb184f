import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.service.conftest import assert_problem, file_part, store
from tests.service.media import mp4, wav


def hits(client: TestClient, **request: Any) -> list[dict[str, Any]]:
    reply = client.post("/retrieve", json=request)
    assert reply.status_code == 200, reply.text
    results: list[dict[str, Any]] = reply.json()["results"]
    return results


def ids(results: list[dict[str, Any]]) -> list[str]:
    return [hit["clip_id"] for hit in results]


def test_words_find_clips_best_first(client: TestClient) -> None:
    stored = {store(client, wav(hertz=h))["clip_id"] for h in (300, 400, 500)}

    results = hits(client, query="rain")

    assert set(ids(results)) == stored
    scores = [hit["score"] for hit in results]
    assert scores == sorted(scores, reverse=True)


def test_a_result_says_what_and_where_it_is(client: TestClient) -> None:
    clip = store(client, mp4(), name="beach.mp4", tags=["sea"])

    (hit,) = hits(client, query="rain")

    assert hit == {
        "clip_id": clip["clip_id"],
        "score": hit["score"],
        "start_seconds": 0.0,
        "end_seconds": pytest.approx(2.0, abs=0.2),
        "filename": "beach.mp4",
        "tags": ["sea"],
        "source": None,
        "media_url": f"/clips/{clip['clip_id']}/media",
        "thumbnail_url": f"/clips/{clip['clip_id']}/thumbnail",
    }


def test_a_clip_finds_others_but_not_itself(client: TestClient) -> None:
    first = store(client, wav(hertz=300))["clip_id"]
    second = store(client, wav(hertz=400))["clip_id"]

    assert ids(hits(client, clip_id=first)) == [second]


def test_a_file_finds_its_like(client: TestClient) -> None:
    store(client, wav(hertz=300))
    twin = store(client, wav(hertz=400))

    reply = client.post("/retrieve/by-file", files=file_part(wav(hertz=400)), data={"top_k": "1"})

    (hit,) = reply.json()["results"]
    assert hit["clip_id"] == twin["clip_id"]
    assert hit["score"] == pytest.approx(1.0, abs=1e-4)


def test_a_file_finds_the_same_video_by_both_modalities_and_each(client: TestClient) -> None:
    twin = store(client, mp4(seed=1))
    store(client, mp4(seed=2))

    for modality in ("both", "audio", "video"):
        data = {"modality": modality, "minus": ["thunder"]}
        reply = client.post("/retrieve/by-file", files=file_part(mp4(seed=1)), data=data)
        assert ids(reply.json()["results"])[0] == twin["clip_id"]


def test_by_file_takes_a_filter_as_json(client: TestClient) -> None:
    wanted = store(client, wav(hertz=300), tags=["sea"])
    store(client, wav(hertz=400))

    data = {"filter": json.dumps({"tags": ["sea"]})}
    reply = client.post("/retrieve/by-file", files=file_part(), data=data)

    assert ids(reply.json()["results"]) == [wanted["clip_id"]]


@pytest.mark.parametrize("value", ["{", "[]", '{"colour": "red"}', '{"tags": "sea"}'])
def test_by_file_refuses_a_filter_that_is_none(shared: TestClient, value: str) -> None:
    reply = shared.post("/retrieve/by-file", files=file_part(), data={"filter": value})

    body = assert_problem(reply, 422, "invalid_request")
    assert body["errors"][0]["pointer"].startswith("/filter")


def test_by_file_says_when_the_file_lacks_the_modality(shared: TestClient) -> None:
    reply = shared.post("/retrieve/by-file", files=file_part(), data={"modality": "video"})
    assert_problem(reply, 422, "modality_missing")
    reply = shared.post("/retrieve/by-file", files=file_part(wav(silent=True)))
    assert_problem(reply, 422, "modality_missing")


def test_a_modality_finds_only_clips_that_have_it(client: TestClient) -> None:
    sound = store(client)["clip_id"]
    silent_video = store(client, mp4(sound=False))["clip_id"]

    assert ids(hits(client, query="rain", modality="audio")) == [sound]
    assert ids(hits(client, query="rain", modality="video")) == [silent_video]
    assert set(ids(hits(client, query="rain"))) == {sound, silent_video}
    reply = client.post("/retrieve", json={"clip_id": sound, "modality": "video"})
    assert_problem(reply, 422, "modality_missing")


def test_a_sound_finds_pictures_and_pictures_find_a_sound(client: TestClient) -> None:
    sound = store(client, wav(hertz=300))["clip_id"]
    silent_video = store(client, mp4(sound=False))["clip_id"]

    heard = hits(client, clip_id=sound, query_modality="audio", modality="video")
    seen = hits(client, clip_id=silent_video, query_modality="video", modality="audio")
    data = {"query_modality": "audio", "modality": "video"}
    by_file = client.post("/retrieve/by-file", files=file_part(wav(hertz=300)), data=data)

    assert ids(heard) == [silent_video]
    assert ids(seen) == [sound]
    assert by_file.json()["results"] == heard
    reply = client.post("/retrieve", json={"clip_id": sound, "query_modality": "video"})
    assert "query_modality" in assert_problem(reply, 422, "modality_missing")["detail"]


def test_minus_lowers_what_is_like_it(client: TestClient) -> None:
    store(client)
    (plain,) = hits(client, query="rain")

    (lowered,) = hits(client, query="rain", minus=["rain"])

    assert lowered["score"] == pytest.approx(plain["score"] / 2, abs=1e-5)


def test_filters_restrict_what_is_found(client: TestClient) -> None:
    first = store(client, wav(hertz=300), tags=["sea"])
    second = store(client, wav(hertz=400))

    def found(**filter: Any) -> set[str]:
        return set(ids(hits(client, query="rain", filter=filter)))

    assert found(tags=["sea"]) == {first["clip_id"]}
    assert found(clip_ids=[second["clip_id"], "nobody"]) == {second["clip_id"]}
    assert found(clip_ids=[]) == set()
    assert found(created_after=first["created_at"]) == {second["clip_id"]}
    assert found(created_before=second["created_at"]) == {first["clip_id"]}
    assert found(modality="video") == set()
    assert found(modality="audio") == {first["clip_id"], second["clip_id"]}
    assert found() == {first["clip_id"], second["clip_id"]}
    nearest = client.post("/classify", files=file_part(wav(hertz=300))).json()["labels"][0]["name"]
    assert first["clip_id"] in found(**{"class": nearest})


def test_top_k_may_be_larger_than_the_library(client: TestClient) -> None:
    store(client)

    assert len(hits(client, query="rain", top_k=1000)) == 1


def test_an_empty_library_finds_nothing(shared: TestClient) -> None:
    assert shared.post("/retrieve", json={"query": "rain"}).json() == {
        "results": [],
        "model_id": "fake",
    }


@pytest.mark.parametrize(
    ("request_body", "pointer"),
    [
        ({}, ""),
        ({"query": "rain", "clip_id": "x"}, ""),
        ({"query": ""}, "/query"),
        ({"query": "   "}, "/query"),
        ({"query": "x" * 1001}, "/query"),
        ({"query": 7}, "/query"),
        ({"query": "rain", "top_k": 0}, "/top_k"),
        ({"query": "rain", "top_k": 10**9}, "/top_k"),
        ({"query": "rain", "top_k": 1.5}, "/top_k"),
        ({"query": "rain", "modality": "auto"}, "/modality"),
        ({"query": "rain", "query_modality": "audio"}, ""),
        ({"clip_id": "x", "query_modality": "auto"}, "/query_modality"),
        ({"query": "rain", "minus": ["x"] * 21}, "/minus"),
        ({"query": "rain", "minus": [" "]}, "/minus/0"),
        ({"query": "rain", "filter": {"colour": "red"}}, "/filter/colour"),
        ({"query": "rain", "filter": {"created_after": "soon"}}, "/filter/created_after"),
        ({"query": "rain", "filter": {"modality": "both"}}, "/filter/modality"),
        ({"query": "rain", "filter": {"clip_ids": ["x"] * 1001}}, "/filter/clip_ids"),
        ({"query": "rain", "page": 1}, "/page"),
    ],
)
def test_an_impossible_request_is_refused_at_its_place(
    shared: TestClient, request_body: dict[str, Any], pointer: str
) -> None:
    body = assert_problem(shared.post("/retrieve", json=request_body), 422, "invalid_request")

    assert body["errors"][0]["pointer"] == pointer
    assert len(body["detail"]) < 300


@pytest.mark.parametrize("clip_id", ["nobody", "../../etc/passwd", "x' OR 1=1 --", "\u0000"])
def test_an_unknown_clip_is_not_found(shared: TestClient, clip_id: str) -> None:
    assert_problem(shared.post("/retrieve", json={"clip_id": clip_id}), 404, "clip_not_found")
