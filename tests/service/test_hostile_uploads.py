"""Uploads, names and ids made to reach, fetch or exhaust something, over HTTP.

What a decoder makes of such files is tested closer to it, in tests/model/media.
"""

import io
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.service.conftest import assert_problem, file_part, make_app, store
from tests.service.media import mp4, wav

SECRET = b"a secret that no answer may hold " * 8


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that lies beside the data folder."""
    path = tmp_path / "secret.ts"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def client(tmp_path: Path, outside: Path) -> Iterator[TestClient]:
    with TestClient(make_app(tmp_path / "data", max_upload_bytes=2_000_000)) as client:
        yield client
    assert outside.read_bytes() == SECRET
    assert {path.name for path in tmp_path.iterdir()} == {"data", outside.name}
    assert list((tmp_path / "data" / "uploads").iterdir()) == []


# Names and ids


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../secret.ts", "secret.ts"),
        ("..\\..\\secret.ts", "secret.ts"),
        ("/etc/passwd", "passwd"),
        ("C:\\Windows\\win.ini", "win.ini"),
        ("..", ".."),
        ("a\0b.wav", "ab.wav"),
        ("file:///etc/passwd", "passwd"),
        ("concat:a|b.wav", "concat:a|b.wav"),
        ("-i.wav", "-i.wav"),
        ("clip%d.wav", "clip%d.wav"),
        ("x" * 5000 + ".wav", None),
    ],
)
def test_a_file_name_is_shown_and_never_opened(
    client: TestClient, tmp_path: Path, name: str, kept: str | None
) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
        + name.replace("\\", "\\\\").encode()
        + b'"\r\n\r\n'
        + wav()
        + b"\r\n--b--\r\n"
    )
    reply = client.post(
        "/clips", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
    )

    if reply.status_code != 201:
        assert_problem(reply, 400, "malformed_multipart")
        return
    clip = reply.json()
    assert "/" not in clip["filename"]
    assert "\\" not in clip["filename"]
    assert kept is None or clip["filename"] == kept
    assert client.get(clip["media_url"]).content == wav()
    stored = [path.name for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert not any(kept and kept in path for path in stored)


@pytest.mark.parametrize(
    "clip_id",
    [
        "%2e%2e",
        "..%2f..%2fsecret.ts",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2fetc%2fpasswd",
        "..%5c..%5csecret.ts",
        "%00",
        "a%00b",
        "%ff%fe",
        "*",
        "' OR 1=1 --",
        "x" * 5000,
    ],
)
def test_an_id_is_looked_up_and_never_a_path(client: TestClient, clip_id: str) -> None:
    store(client)
    for method, path in (
        ("GET", f"/clips/{clip_id}/media"),
        ("GET", f"/clips/{clip_id}/thumbnail"),
        ("DELETE", f"/clips/{clip_id}"),
        ("GET", f"/classes/{clip_id}"),
    ):
        reply = client.request(method, path)
        assert reply.status_code in {404, 405}, (method, path)
        assert_problem(reply, reply.status_code, reply.json()["code"])
        assert SECRET not in reply.content
    assert client.get("/clips").json()["total"] == 1


def test_a_files_hash_is_no_id(client: TestClient) -> None:
    clip = store(client)

    assert_problem(client.get(f"/clips/{clip['sha256']}/media"), 404, "clip_not_found")


# Playlists and active content


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server


SCRIPTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
    "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile {}\n",
    "list.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    "<Period><AdaptationSet><Representation id='1'><BaseURL>{}</BaseURL></Representation>"
    "</AdaptationSet></Period></MPD>",
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:{}\n",
    "list.pls": "[playlist]\nFile1={}\nNumberOfEntries=1\nVersion=2\n",
    "list.asx": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>',
    "film.svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{}"/></svg>',
    "page.html": '<!doctype html><script src="{}"></script><video src="{}"></video>',
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_refers_to_other_files_is_refused_and_reaches_none(
    client: TestClient, outside: Path, listener: socket.socket, name: str
) -> None:
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/clip.ts"
    for reference in (address, str(outside), f"file://{outside}", f"../../{outside.name}"):
        content = SCRIPTS[name].replace("{}", reference).encode()
        for path in ("/clips", "/classify"):
            reply = client.post(path, files=file_part(content, name))
            assert_problem(reply, 415, "unsupported_media")
    with pytest.raises(TimeoutError):
        listener.accept()
    assert client.get("/clips").json()["total"] == 0


# Decoder bombs


def png(width: int, height: int) -> bytes:
    """A black picture of one bit a pixel: some thousand pixels a byte."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_small_file_of_a_huge_picture_is_refused_before_it_is_decoded(
    client: TestClient,
) -> None:
    bomb = png(12_000, 12_000)
    assert len(bomb) < 500_000

    for path in ("/classify", "/clips"):
        reply = client.post(path, files=file_part(bomb, "bomb.png"))
        assert reply.status_code in {413, 415}, reply.text
        assert reply.json()["code"] in {"frame_too_large", "unsupported_media"}


def test_a_film_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path, max_frame_pixels=64 * 48 - 1)) as client:
        assert_problem(
            client.post("/classify", files=file_part(mp4(), "a.mp4")), 413, "frame_too_large"
        )


def many_streams(count: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000) for _ in range(count)]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 80), np.int16), "s16", "mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
    return buffer.getvalue()


def test_very_many_streams_are_refused(client: TestClient) -> None:
    reply = client.post("/classify", files=file_part(many_streams(100), "many.mkv"))

    assert_problem(reply, 422, "too_many_streams")


def silence(seconds: int) -> bytes:
    """FLAC, of which an hour of silence is some hundred kilobytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        second = np.zeros((1, 8000), np.int16)
        for number in range(seconds):
            frame = av.AudioFrame.from_ndarray(second, "s16", "mono")
            frame.sample_rate, frame.pts = 8000, number * 8000
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def test_a_small_file_of_hours_is_refused(client: TestClient) -> None:
    content = silence(1200)
    assert len(content) < 500_000

    reply = client.post("/classify", files=file_part(content, "night.flac"))

    assert_problem(reply, 413, "duration_too_long")


def test_the_service_answers_on_after_all_of_them(client: TestClient) -> None:
    for content in (png(9_000, 9_000), many_streams(100), SCRIPTS["list.mpd"].encode()):
        client.post("/classify", files=file_part(content, "a.mp4"))
    reply: Any = client.post("/classify", files=file_part())

    assert reply.status_code == 200
    assert client.get("/readyz").status_code == 200
