"""What a newcomer does, over HTTP against the real server: classify, name, store, find, restart."""

from pathlib import Path

import httpx
import pytest

from tests.story.conftest import SAMPLES, ServerProcess, post_file

AUDIO_SUFFIXES = (".wav", ".mp3", ".m4a", ".ogg", ".flac", ".opus")
ABOVE_ALL_LIMITS = 10**9


def samples(*suffixes: str) -> list[Path]:
    found = sorted(p for p in SAMPLES.iterdir() if p.suffix in suffixes)
    assert found, f"no sample with {suffixes}"
    return found


def classify(client: httpx.Client, path: Path, **fields: object) -> dict[str, object]:
    reply = post_file(client, "/classify", path, **fields)
    assert reply.status_code == httpx.codes.OK, reply.text
    body: dict[str, object] = reply.json()
    return body


def assert_problem(reply: httpx.Response, status: int, code: str) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["detail"]
    assert body["request_id"] == reply.headers["x-request-id"]


# --- classify ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_every_audio_format_is_classified_by_ear_alone(server: httpx.Client, suffix: str) -> None:
    for path in samples(suffix):
        body = classify(server, path)

        assert [label["probability"] for label in body["labels"]] == sorted(
            (label["probability"] for label in body["labels"]), reverse=True
        )
        assert len(body["labels"]) == 5
        assert body["modalities"]["audio"] == {"used": True, "reason": None}
        assert not body["modalities"]["video"]["used"]
        assert "no pictures" in body["modalities"]["video"]["reason"]
        assert body["labels"][0]["by_modality"]["video"] is None


def test_a_video_with_sound_uses_both_and_a_silent_one_says_why_not(server: httpx.Client) -> None:
    used = set()
    for path in samples(".mp4", ".webm"):
        modalities = classify(server, path)["modalities"]
        assert modalities["video"]["used"], path.name
        assert modalities["audio"]["used"] or modalities["audio"]["reason"]
        used.add(modalities["audio"]["used"])

    assert used == {True, False}, "the samples should hold videos with sound and one without"


def test_candidate_labels_rank_just_the_names_given_and_store_nothing(server: httpx.Client) -> None:
    before = server.get("/classes").json()["total"]

    body = classify(server, samples(".wav")[0], candidate_labels=["a zither", "a yodel"])

    assert {label["name"] for label in body["labels"]} == {"a zither", "a yodel"}
    assert sum(label["probability"] for label in body["labels"]) == pytest.approx(1.0)
    assert server.get("/classes").json()["total"] == before


def test_windows_cover_the_clip(server: httpx.Client) -> None:
    body = classify(server, samples(".mp4")[0], windows="true")

    assert body["windows"][0]["start_seconds"] == 0
    assert body["windows"][-1]["end_seconds"] == pytest.approx(body["duration_seconds"])
    assert all(window["labels"] for window in body["windows"])


# --- the library, and a restart ------------------------------------------------------------------


def test_what_is_named_and_stored_is_found_at_once_and_after_a_restart(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    clip = samples(".mp4")[0]
    with ServerProcess(data_dir) as client:
        created = client.post("/classes", json={"name": "Glockenspiel solo"})
        assert created.status_code == httpx.codes.CREATED
        assert created.json()["seen"] is False
        total = client.get("/classes").json()["total"]
        top = classify(client, clip, top_k=1000)["labels"]
        assert len(top) == 1000
        stored = [post_file(client, "/clips", path, tags=["sample"]) for path in samples(".mp4")]
        assert all(reply.status_code == httpx.codes.CREATED for reply in stored)
        ids = {reply.json()["clip_id"] for reply in stored}
        found = retrieve(client, query="a dog barks")
        similar = retrieve(client, clip_id=stored[0].json()["clip_id"])
        assert {hit["clip_id"] for hit in similar} == ids - {stored[0].json()["clip_id"]}

    with ServerProcess(data_dir) as client:
        assert client.get("/classes").json()["total"] == total
        named = client.get(f"/classes/{created.json()['class_id']}").json()
        assert named["name"] == "Glockenspiel solo"
        assert retrieve(client, query="a dog barks") == found
        duplicate = client.post("/classes", json={"name": "GLOCKENSPIEL  solo"})
        assert_problem(duplicate, 409, "class_exists")
        media = client.get(f"/clips/{stored[0].json()['clip_id']}/media")
        assert media.content == clip.read_bytes()


def retrieve(client: httpx.Client, **request: object) -> list[dict[str, object]]:
    reply = client.post("/retrieve", json={"top_k": 50, **request})
    assert reply.status_code == httpx.codes.OK, reply.text
    hits: list[dict[str, object]] = reply.json()["results"]
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    for hit in hits:
        assert 0 <= hit["start_seconds"] < hit["end_seconds"]
    return hits


def test_a_new_class_is_known_to_the_very_next_classify(server: httpx.Client) -> None:
    dog = SAMPLES / "dog_bark.wav"
    name = "puppy barking at the door"
    assert name not in {label["name"] for label in classify(server, dog, top_k=1000)["labels"]}

    created = server.post("/classes", json={"name": name})
    try:
        labels = {label["name"]: label for label in classify(server, dog, top_k=1000)["labels"]}
        assert labels[name]["seen"] is False
    finally:
        assert server.delete(created.headers["location"]).status_code == 204
    assert name not in {label["name"] for label in classify(server, dog, top_k=1000)["labels"]}


@pytest.mark.parametrize(("modality", "suffix"), [("audio", ".wav"), ("video", ".mp4")])
def test_a_stored_clip_is_found_by_the_modality_that_it_has(
    server: httpx.Client, modality: str, suffix: str
) -> None:
    clip_id = post_file(server, "/clips", samples(suffix)[0]).json()["clip_id"]
    try:
        for searched in ("both", modality):
            hits = retrieve(server, query="a dog barks", modality=searched)
            assert clip_id in {hit["clip_id"] for hit in hits}
    finally:
        assert server.delete(f"/clips/{clip_id}").status_code == 204
    hits = retrieve(server, query="a dog barks", modality=modality)
    assert clip_id not in {hit["clip_id"] for hit in hits}


# --- bad input -----------------------------------------------------------------------------------


def test_bad_files_are_refused_with_a_code_and_nothing_is_stored(
    server: httpx.Client, tmp_path: Path
) -> None:
    video = samples(".mp4")[0].read_bytes()
    bad = {
        "empty.mp4": (b"", "empty_file"),
        "text.mp4": (b"this is no video\n" * 50, "unsupported_media"),
        "cut.mp4": (video[: len(video) // 2].replace(b"moov", b"free"), "unsupported_media"),
    }
    before = server.get("/clips").json()["total"]
    for name, (content, code) in bad.items():
        path = tmp_path / name
        path.write_bytes(content)
        for url in ("/classify", "/clips", "/retrieve/by-file", "/embed"):
            reply = post_file(server, url, path)
            assert reply.status_code in range(400, 500), (name, url, reply.text)
            assert reply.json()["code"] == code, (name, url, reply.text)
    assert server.get("/clips").json()["total"] == before
    assert server.get("/readyz").status_code == httpx.codes.OK


@pytest.mark.parametrize("name", ["", "   ", "x" * 10_000])
def test_an_impossible_class_name_is_refused(server: httpx.Client, name: str) -> None:
    reply = server.post("/classes", json={"name": name})

    assert reply.status_code == 422
    assert reply.json()["code"] in {"invalid_class_name", "invalid_request"}


@pytest.mark.parametrize("top_k", [0, ABOVE_ALL_LIMITS])
def test_top_k_out_of_range_is_refused(server: httpx.Client, top_k: int) -> None:
    assert_problem(
        server.post("/retrieve", json={"query": "rain", "top_k": top_k}), 422, "invalid_request"
    )
    assert_problem(
        post_file(server, "/classify", samples(".wav")[0], top_k=top_k), 422, "invalid_request"
    )


def test_an_unknown_clip_is_not_found(server: httpx.Client) -> None:
    assert_problem(server.get("/clips/nobody"), 404, "clip_not_found")
    assert_problem(server.post("/retrieve", json={"clip_id": "nobody"}), 404, "clip_not_found")


def test_malformed_bodies_are_refused(server: httpx.Client) -> None:
    multipart = {"content-type": "multipart/form-data; boundary=b"}
    assert_problem(
        server.post("/classify", content=b"--b\r\nno header", headers=multipart),
        400,
        "malformed_multipart",
    )
    assert_problem(
        server.post("/classes", content=b'{"name": ', headers={"content-type": "application/json"}),
        400,
        "malformed_json",
    )


def test_an_upload_over_the_limit_is_refused_before_it_is_read_to_its_end(tmp_path: Path) -> None:
    sent = 0

    def body() -> object:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        for _ in range(400):
            sent += 1
            yield bytes(256 * 1024)
        yield b"\r\n--b--\r\n"

    with ServerProcess(tmp_path / "data", max_upload_bytes="1000000") as client:
        reply = client.post(
            "/classify",
            content=body(),
            headers={"content-type": "multipart/form-data; boundary=b"},
        )
        assert_problem(reply, 413, "file_too_large")
        assert sent < 400
        assert client.get("/readyz").status_code == httpx.codes.OK
