import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.service.conftest import assert_problem, file_part, make_app, store
from tests.service.media import mp4, wav


def test_a_clip_is_stored_shown_and_listed(client: TestClient) -> None:
    reply = client.post(
        "/clips", files=file_part(mp4(), "beach.mp4"), data={"tags": ["holiday", "sea"]}
    )

    clip = reply.json()
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/clips/{clip['clip_id']}"
    assert clip["filename"] == "beach.mp4"
    assert clip["content_type"] == "video/mp4"
    assert clip["sha256"] == hashlib.sha256(mp4()).hexdigest()
    assert clip["size_bytes"] == len(mp4())
    assert sorted(clip["tags"]) == ["holiday", "sea"]
    assert clip["modalities"]["audio"]["used"]
    assert clip["modalities"]["video"]["used"]
    assert clip["segment_count"] >= 1
    assert clip["model_id"] == "fake"
    assert client.get(reply.headers["location"]).json() == clip
    assert client.get("/clips").json()["items"] == [clip]


def test_clips_outlive_a_restart(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path)) as client:
        clip = store(client, tags=["sea"])

    with TestClient(make_app(tmp_path)) as client:
        assert client.get("/clips").json()["items"] == [clip]
        assert client.get(clip["media_url"]).content == wav()
        (hit,) = client.post("/retrieve", json={"query": "rain"}).json()["results"]

    assert hit["clip_id"] == clip["clip_id"]


def test_the_listing_is_paged_newest_first(client: TestClient) -> None:
    ids = [store(client, wav(hertz=h))["clip_id"] for h in (300, 400, 500)]

    page = client.get("/clips", params={"offset": 1, "limit": 1}).json()

    assert [item["clip_id"] for item in page["items"]] == [ids[1]]
    assert (page["total"], page["offset"], page["limit"]) == (3, 1, 1)


def test_the_listing_is_filtered(client: TestClient) -> None:
    first = store(client, wav(hertz=300), tags=["sea", "holiday"])
    second = store(client, wav(hertz=400), tags=["sea"])
    nearest = client.post("/classify", files=file_part(wav(hertz=300))).json()["labels"][0]["name"]

    def listed(**params: Any) -> set[str]:
        reply = client.get("/clips", params=params)
        assert reply.status_code == 200, reply.text
        return {item["clip_id"] for item in reply.json()["items"]}

    assert listed(tags="sea") == {first["clip_id"], second["clip_id"]}
    assert listed(tags=["sea", "holiday"]) == {first["clip_id"]}
    assert listed(tags="mountain") == set()
    assert first["clip_id"] in listed(**{"class": nearest})
    assert listed(**{"class": "no such class"}) == set()
    assert listed(created_after=first["created_at"]) == {second["clip_id"]}
    assert listed(created_after="2001-01-01") == {first["clip_id"], second["clip_id"]}
    assert listed(created_before=second["created_at"]) == {first["clip_id"]}
    assert listed(modality="audio") == {first["clip_id"], second["clip_id"]}
    assert listed(modality="video") == set()
    assert listed(created_after="2999-01-01T00:00:00+02:00") == set()


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": 10**9},
        {"offset": -1},
        {"offset": 10**30},
        {"created_after": "yesterday"},
        {"created_after": "0001-01-01T00:00:00+14:00"},
        {"created_before": "tomorrow"},
        {"modality": "smell"},
        {"colour": "red"},
        {"sha256": "abc"},
        {"sha256": "x" * 64},
    ],
)
def test_an_impossible_listing_is_refused(shared: TestClient, params: dict[str, Any]) -> None:
    assert_problem(shared.get("/clips", params=params), 422, "invalid_request")


def test_tags_and_file_name_can_be_changed(client: TestClient) -> None:
    clip = store(client, tags=["sea"])
    url = f"/clips/{clip['clip_id']}"

    assert client.patch(url, json={"tags": ["hill"]}).json() == {**clip, "tags": ["hill"]}
    renamed = client.patch(url, json={"filename": "../../hill.wav"}).json()
    assert renamed == {**clip, "tags": ["hill"], "filename": "hill.wav"}
    assert client.patch(url, json={}).json() == renamed


@pytest.mark.parametrize("tags", [[" "], ["x" * 1000], ["a\nb"]])
def test_an_impossible_tag_is_refused(client: TestClient, tags: list[str]) -> None:
    clip = store(client)

    reply = client.patch(f"/clips/{clip['clip_id']}", json={"tags": tags})
    assert_problem(reply, 422, "invalid_tag")
    reply = client.post("/clips", files=file_part(), data={"tags": tags})
    assert_problem(reply, 422, "invalid_tag")
    assert client.get("/clips").json()["total"] == 1


def test_too_many_tags_are_refused(shared: TestClient) -> None:
    data = {"tags": [f"t{i}" for i in range(51)]}

    assert_problem(shared.post("/clips", files=file_part(), data=data), 422, "invalid_request")


def test_a_clip_says_where_its_file_came_from(client: TestClient) -> None:
    clip = store(client, source="/films/../films/tone.wav")
    url = f"/clips/{clip['clip_id']}"

    assert clip["source"] == "/films/../films/tone.wav"
    (hit,) = client.post("/retrieve", json={"query": "a tone"}).json()["results"]
    assert hit["source"] == clip["source"]
    assert client.patch(url, json={"source": "s3://films/tone.wav"}).json() == {
        **clip,
        "source": "s3://films/tone.wav",
    }
    assert store(client, wav(hertz=300))["source"] is None
    assert_problem(client.patch(url, json={"source": "a\nb"}), 422, "invalid_request")


def test_the_clip_of_a_file_is_found_by_its_sha256(client: TestClient) -> None:
    first, second = store(client, wav(hertz=300)), store(client, wav(hertz=400))
    digest = hashlib.sha256(wav(hertz=300)).hexdigest()

    assert client.get("/clips", params={"sha256": digest}).json()["items"] == [first]
    assert client.get("/clips", params={"sha256": digest.upper()}).json()["items"] == [first]
    assert client.get("/clips", params={"sha256": second["sha256"]}).json()["items"] == [second]
    assert client.get("/clips", params={"sha256": "0" * 64}).json()["total"] == 0


def test_the_same_file_is_stored_twice_unless_told_otherwise(client: TestClient) -> None:
    first = store(client, tags=["sea"])
    second = store(client, if_duplicate="store")

    assert second["clip_id"] != first["clip_id"]
    reply = client.post("/clips", files=file_part(), data={"if_duplicate": "skip", "tags": ["x"]})
    assert reply.status_code == 200
    assert reply.json() == first
    assert reply.headers["location"] == f"/clips/{first['clip_id']}"
    assert client.get("/clips").json()["total"] == 2


def test_a_file_that_is_not_there_yet_is_stored_with_skip(client: TestClient) -> None:
    store(client, wav(hertz=300))

    assert store(client, wav(hertz=400), if_duplicate="skip")["sha256"] != ""
    assert client.get("/clips").json()["total"] == 2


def test_of_equal_files_sent_at_once_with_skip_one_is_stored(client: TestClient) -> None:
    def send(_: int) -> tuple[int, str]:
        reply = client.post("/clips", files=file_part(), data={"if_duplicate": "skip"})
        return reply.status_code, reply.json()["clip_id"]

    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(send, range(8)))

    assert sorted(status for status, _ in replies) == [200] * 7 + [201]
    assert len({clip_id for _, clip_id in replies}) == 1


def test_a_removed_clip_is_gone(client: TestClient) -> None:
    clip = store(client)
    url = f"/clips/{clip['clip_id']}"

    assert client.delete(url).status_code == 204
    for reply in (
        client.get(url),
        client.delete(url),
        client.patch(url, json={"tags": []}),
        client.get(f"{url}/media"),
        client.get(f"{url}/thumbnail"),
        client.post("/retrieve", json={"clip_id": clip["clip_id"]}),
    ):
        assert_problem(reply, 404, "clip_not_found")
    assert client.post("/retrieve", json={"query": "rain"}).json()["results"] == []


@pytest.mark.parametrize("clip_id", ["nobody", "0" * 5000, "%00", "%F0%9F%90%95", "a%0Ab"])
def test_an_unknown_id_is_not_found(shared: TestClient, clip_id: str) -> None:
    for url in (f"/clips/{clip_id}", f"/clips/{clip_id}/media", f"/clips/{clip_id}/thumbnail"):
        body = assert_problem(shared.get(url), 404, "clip_not_found")
        assert len(body["detail"]) < 600


@pytest.mark.parametrize(
    "path",
    [
        "/clips/..%2F..%2Fetc%2Fpasswd/media",
        "/clips/%2E%2E/media",
        "/clips/..%5C..%5Ccatalogue.sqlite/media",
        "/clips/%2Fetc%2Fpasswd/media",
    ],
)
def test_an_id_is_never_a_path(shared: TestClient, path: str) -> None:
    assert shared.get(path).status_code == 404


def test_a_clip_without_anything_to_perceive_can_be_stored(client: TestClient) -> None:
    clip = store(client, wav(silent=True))

    assert not clip["modalities"]["audio"]["used"]
    reply = client.post("/retrieve", json={"clip_id": clip["clip_id"]})
    assert_problem(reply, 422, "modality_missing")


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("../../../etc/passwd", "passwd"),
        ("C:\\clips\\dog.wav", "dog.wav"),
        ("a\x07b.wav", "ab.wav"),
        ("ü🐕.wav", "ü🐕.wav"),
        ("x" * 400 + ".wav", "x" * 251 + ".wav"),
        ("..", ".."),
    ],
)
def test_a_file_name_is_a_name_only(client: TestClient, name: str, stored: str) -> None:
    body = b"\r\n".join(
        [
            b"--b",
            b'Content-Disposition: form-data; name="file"; filename="' + name.encode() + b'"',
            b"",
            wav(),
            b"--b--",
            b"",
        ]
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}

    assert client.post("/clips", content=body, headers=headers).json()["filename"] == stored


def test_nothing_is_left_in_the_upload_folder(client: TestClient, tmp_path: Path) -> None:
    store(client)
    client.post("/clips", files=file_part(b"no media"))

    assert list((tmp_path / "uploads").iterdir()) == []


def test_what_a_crash_left_in_the_upload_folder_is_swept(tmp_path: Path) -> None:
    leftover = tmp_path / "uploads" / "leftover"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half a clip")

    with TestClient(make_app(tmp_path)):
        assert not leftover.exists()
