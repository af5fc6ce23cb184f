from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.service.conftest import assert_problem, make_app, store
from tests.service.media import mp4, wav


@pytest.fixture(scope="module", params=["folder", "s3"])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """One library for all of these, its files in a folder or in S3.

    Each test stores what it looks at.
    """
    options = {}
    if request.param == "s3":
        options["media_url"] = f"{request.getfixturevalue('s3')}/service"
    with TestClient(make_app(tmp_path_factory.mktemp("media"), **options)) as client:
        yield client


@pytest.fixture(scope="module")
def url(client: TestClient) -> str:
    return str(store(client)["media_url"])


def test_the_file_comes_back_as_it_was(client: TestClient, url: str) -> None:
    reply = client.get(url)

    assert reply.status_code == 200
    assert reply.content == wav()
    assert reply.headers["content-type"] == "audio/wav"
    assert reply.headers["content-length"] == str(len(wav()))
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-disposition"].startswith("inline")


def test_head_tells_the_size_without_the_file(client: TestClient, url: str) -> None:
    reply = client.head(url)

    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-length"] == str(len(wav()))


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-99", slice(0, 100)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-100", slice(-100, None)),
        ("bytes=-99999999", slice(0, None)),
        ("bytes=10-99999999", slice(10, None)),
        ("bytes=0-0", slice(0, 1)),
    ],
)
def test_a_range_is_sent_alone(client: TestClient, url: str, header: str, part: slice) -> None:
    reply = client.get(url, headers={"range": header})

    assert reply.status_code == 206
    assert reply.content == wav()[part]
    first = part.indices(len(wav()))[0]
    last = first + len(reply.content) - 1
    assert reply.headers["content-range"] == f"bytes {first}-{last}/{len(wav())}"
    assert reply.headers["content-length"] == str(len(reply.content))


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=-0", "bytes=99999999-100000000"])
def test_a_range_behind_the_end_is_refused(client: TestClient, url: str, header: str) -> None:
    reply = client.get(url, headers={"range": header})

    assert_problem(reply, 416, "range_not_satisfiable")
    assert reply.headers["content-range"] == f"bytes */{len(wav())}"


@pytest.mark.parametrize(
    "header",
    ["bytes=-", "bytes=5-2", "bytes=a-b", "lines=0-9", "bytes", "bytes=0-9,20-29", "bytes=٣-٤"],
)
def test_a_range_that_makes_no_sense_is_ignored(client: TestClient, url: str, header: str) -> None:
    reply = client.get(url, headers={b"range": header.encode()})

    assert (reply.status_code, reply.content) == (200, wav())


def test_an_unchanged_file_is_not_sent_again(client: TestClient, url: str) -> None:
    etag = client.get(url).headers["etag"]

    for offered in (etag, f'"other", W/{etag}', "*"):
        reply = client.get(url, headers={"if-none-match": offered})
        assert (reply.status_code, reply.content) == (304, b"")
        assert reply.headers["etag"] == etag
    assert client.get(url, headers={"if-none-match": '"other"'}).status_code == 200


def test_if_range_decides_between_a_part_and_the_whole(client: TestClient, url: str) -> None:
    etag = client.get(url).headers["etag"]

    part = client.get(url, headers={"range": "bytes=0-9", "if-range": etag})
    whole = client.get(url, headers={"range": "bytes=0-9", "if-range": '"other"'})

    assert (part.status_code, whole.status_code) == (206, 200)


@pytest.mark.parametrize(
    ("name", "declared", "sent"),
    [
        ("page.html", "text/html", "application/octet-stream"),
        ("clip.wav", "text/html", "audio/wav"),
        ("clip.svg", "image/svg+xml", "application/octet-stream"),
        ("clip", "audio/wav; codecs=1", "audio/wav"),
        ("clip.xyz", "", "application/octet-stream"),
    ],
)
def test_a_file_is_never_sent_as_a_document(
    client: TestClient, name: str, declared: str, sent: str
) -> None:
    clip = client.post("/clips", files={"file": (name, wav(), declared)}).json()

    reply = client.get(clip["media_url"])

    assert reply.headers["content-type"] == sent
    assert "sandbox" in reply.headers["content-security-policy"]


def test_a_file_name_cannot_break_out_of_its_header(client: TestClient) -> None:
    clip = store(client)
    url = f"/clips/{clip['clip_id']}"
    client.patch(url, json={"filename": 'ü"; attachment; filename="x.html'})

    disposition = client.get(f"{url}/media").headers["content-disposition"]

    assert disposition.startswith('inline; filename="__; attachment; filename=_x.html";')
    assert "filename*=UTF-8''%C3%BC%22%3B" in disposition


def test_a_video_has_a_thumbnail(client: TestClient) -> None:
    clip = store(client, mp4(), name="beach.mp4")

    reply = client.get(clip["thumbnail_url"])

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "image/jpeg"
    assert reply.content.startswith(b"\xff\xd8")
    again = client.get(clip["thumbnail_url"], headers={"if-none-match": reply.headers["etag"]})
    assert again.status_code == 304


def test_a_sound_has_no_thumbnail(client: TestClient) -> None:
    clip = store(client)

    assert clip["thumbnail_url"] is None
    reply = client.get(f"/clips/{clip['clip_id']}/thumbnail")
    assert_problem(reply, 404, "thumbnail_not_found")


def test_a_file_that_vanished_is_a_storage_error(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path)) as client:
        clip = store(client)
        for path in (tmp_path / "library" / "media").rglob(clip["sha256"]):
            path.unlink()

        assert_problem(client.get(clip["media_url"]), 507, "storage_error")
