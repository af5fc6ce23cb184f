"""`/clips/{clip_id}/waveform` and `/spectrogram`."""

import io
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.service import decoders
from tests.service.conftest import assert_problem, make_app, store
from tests.service.media import mp4, wav


def url_of(client: TestClient, content: bytes | None = None) -> str:
    return f"/clips/{store(client, content)['clip_id']}"


def test_a_stored_clip_has_a_waveform(client: TestClient) -> None:
    url = url_of(client, wav(2.0))

    body = client.get(f"{url}/waveform", params={"buckets": 20}).json()

    assert body["duration_seconds"] == pytest.approx(2.0)
    assert len(body["lowest"]) == len(body["highest"]) == 20
    assert max(body["highest"]) == pytest.approx(12_000 / 32_768, abs=0.01)
    assert min(body["lowest"]) == pytest.approx(-12_000 / 32_768, abs=0.01)
    assert len(client.get(f"{url}/waveform").json()["lowest"]) == 1000


def test_a_stored_clip_has_a_spectrogram(client: TestClient) -> None:
    reply = client.get(f"{url_of(client, mp4())}/spectrogram", params={"width": 300, "height": 64})

    assert reply.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(reply.content)).size == (300, 64)


@pytest.mark.parametrize(
    ("view", "other"), [("waveform?buckets=5", "waveform?buckets=6"), ("spectrogram", "waveform")]
)
def test_what_the_client_has_is_not_made_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, view: str, other: str
) -> None:
    url = url_of(client)
    tag = client.get(f"{url}/{view}").headers["etag"]
    assert client.get(f"{url}/{other}").headers["etag"] != tag

    def decoding(*_: object, **__: object) -> None:
        pytest.fail("it was made again")

    monkeypatch.setattr("service.decoding.DecodePool.stream", decoding)
    reply = client.get(f"{url}/{view}", headers={"if-none-match": tag})

    assert (reply.status_code, reply.content) == (304, b"")


@pytest.mark.parametrize("view", ["waveform", "spectrogram"])
def test_a_clip_without_sound_has_neither(client: TestClient, view: str) -> None:
    assert_problem(client.get(f"{url_of(client, mp4(sound=False))}/{view}"), 404, "sound_not_found")
    assert_problem(client.get(f"/clips/nobody/{view}"), 404, "clip_not_found")


@pytest.mark.parametrize(
    "query",
    [
        "waveform?buckets=0",
        "waveform?buckets=4001",
        "spectrogram?width=100000",
        "spectrogram?height=1",
        "spectrogram?size=3",
    ],
)
def test_sizes_have_limits(client: TestClient, query: str) -> None:
    assert_problem(client.get(f"{url_of(client)}/{query}"), 422, "invalid_request")


def test_it_is_made_where_a_file_can_do_no_harm(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_of(client)
    monkeypatch.setattr("service.routes.clips.read_waveform", decoders.abort_at_once)

    assert_problem(client.get(f"{url}/waveform"), 422, "decoder_crashed")

    monkeypatch.undo()
    assert client.get(f"{url}/waveform").status_code == 200


def test_a_clip_longer_than_uploads_may_be_now_is_still_shown(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path)) as client:
        url = url_of(client, wav(3.0))
    with TestClient(make_app(tmp_path, max_duration_seconds=1.0)) as client:
        assert client.get(f"{url}/waveform").status_code == 200


def test_a_file_that_is_gone_is_told_as_such(client: TestClient, tmp_path: Path) -> None:
    url = url_of(client)
    for file in (tmp_path / "library" / "media").rglob("*"):
        if file.is_file():
            file.unlink()

    assert_problem(client.get(f"{url}/waveform"), 507, "storage_error")
