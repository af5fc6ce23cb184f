import socket
import struct
import subprocess
import sys
import time
import wave
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import Pictures, Render, Sound

from model.errors import EmptyFile, FileTooLarge, MediaError, TooManyStreams, UnsupportedMedia
from model.media.boxes import encrypted_track_ids
from model.media.limits import MediaLimits
from model.media.probe import open_container, probe

LIMITS = MediaLimits()


def test_importing_the_decoder_brings_in_no_torch():
    code = "import sys, model.media.clip; assert not {'torch', 'service', 'index'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sound_and_pictures_are_found_with_what_they_declare(render: Render):
    path = render("clip.mp4", pictures=Pictures(), sound=Sound())
    info = probe(path, LIMITS)
    assert info.declared_duration_seconds == pytest.approx(2.0, abs=0.1)
    assert info.video is not None
    assert (info.video.codec, info.video.width, info.video.height) == ("h264", 192, 64)
    assert info.audio is not None
    assert (info.audio.sample_rate, info.audio.channels) == (44100, 2)
    assert (info.audio_reason, info.video_reason, info.encrypted) == (None, None, False)


def test_a_missing_track_has_a_reason(render: Render):
    assert probe(render("a.wav", sound=Sound(codec="pcm_s16le")), LIMITS).video_reason == (
        "the file has no pictures"
    )
    assert probe(render("v.mp4", pictures=Pictures()), LIMITS).audio_reason == (
        "the file has no sound"
    )


def _jpeg(tmp_path: Path) -> bytes:
    path = tmp_path / "cover.jpg"
    av.VideoFrame(32, 32, "rgb24").save(str(path))
    return path.read_bytes()


@pytest.mark.parametrize(("name", "codec"), [("song.mp3", "libmp3lame"), ("song.flac", "flac")])
def test_cover_art_is_no_video(render: Render, tmp_path: Path, name: str, codec: str):
    info = probe(render(name, sound=Sound(codec=codec), cover=_jpeg(tmp_path)), LIMITS)
    assert info.video is None
    assert info.video_reason == "the file's only picture is its cover"
    assert info.audio is not None


@pytest.mark.parametrize("name", ["song.mkv", "song.mov", "song.avi"])
def test_a_lone_jpeg_beside_music_is_no_video_even_if_not_marked(render: Render, name: str):
    picture = Pictures(count=1, codec="mjpeg", pix_fmt="yuvj420p", options=())
    info = probe(render(name, pictures=picture, sound=Sound()), LIMITS)
    assert info.video is None
    assert info.audio is not None


def test_motion_jpeg_beside_sound_is_video(render: Render):
    pictures = Pictures(codec="mjpeg", pix_fmt="yuvj420p", options=())
    assert probe(render("clip.mkv", pictures=pictures, sound=Sound()), LIMITS).video is not None


def test_a_still_without_sound_is_video(render: Render):
    picture = Pictures(count=1, codec="mjpeg", pix_fmt="yuvj420p", options=())
    assert probe(render("still.mkv", pictures=picture), LIMITS).video is not None


def test_an_empty_file_is_told_by_its_size(tmp_path: Path):
    path = tmp_path / "empty.mp4"
    path.touch()
    with pytest.raises(EmptyFile, match="0 bytes"):
        probe(path, LIMITS)


def test_a_large_file_is_not_opened(render: Render):
    path = render("clip.mp4", pictures=Pictures())
    with pytest.raises(FileTooLarge, match="the limit is 100"):
        probe(path, MediaLimits(max_bytes=100))


def test_more_streams_than_the_limit_are_refused(render: Render):
    path = render("clip.mp4", pictures=Pictures(), sound=Sound())
    with pytest.raises(TooManyStreams, match="2 streams; the limit is 1"):
        probe(path, MediaLimits(max_streams=1))


def test_a_device_or_folder_is_refused(tmp_path: Path):
    with pytest.raises(UnsupportedMedia, match="not a regular file"):
        probe(tmp_path, LIMITS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.mp4", b"this is not a film\n" * 500),
        ("page.mp4", b"<!doctype html><html><body>404</body></html>"),
        ("zeros.mp4", bytes(5000)),
        ("noise.mp3", bytes((i * 7919 + i * i) % 256 for i in range(5000))),
        ("cut.mp4", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\xff\xffmdat" + bytes(3000)),
        ("subtitles.mp4", b"1\n00:00:00,000 --> 00:00:02,000\nHello\n\n"),
        ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(100)),
    ],
)
def test_what_is_no_media_is_unsupported(tmp_path: Path, name: str, content: bytes):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnsupportedMedia, match="send for example MP4"):
        probe(path, LIMITS)


def test_a_truncated_file_never_lets_an_error_of_ffmpeg_out(render: Render):
    path = render("clip.mp4", pictures=Pictures(count=5), sound=Sound(tones=((440, 0.5),)))
    content = path.read_bytes()
    for size in range(1, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:size])
        try:
            probe(path, LIMITS)
        except MediaError:
            continue


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server


def _was_called(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.ffconcat", "list.mpd", "list.sdp"])
def test_playlists_and_scripts_reach_no_file_and_no_address(
    render: Render, tmp_path: Path, listener: socket.socket, name: str
):
    target = render("target.ts", pictures=Pictures(count=5))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/clip.ts"
    scripts = {
        "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat": "ffconcat version 1.0\nfile {}\n",
        "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        "<Period><AdaptationSet><Representation id='1'><BaseURL>{}</BaseURL></Representation>"
        "</AdaptationSet></Period></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:{}\n",
    }
    script = scripts[name.split(".")[1]]
    path = tmp_path / name
    for reference in (url, target.name, str(target)):
        path.write_text(script.format(reference))
        with pytest.raises(UnsupportedMedia):
            probe(path, LIMITS)
    assert not _was_called(listener)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _movie_with_external_samples(target: Path) -> bytes:
    """Build a QuickTime file of one PCM track whose samples are in the file `target`."""
    count = 8000
    name = str(target).encode()
    alias = b"".join(
        (
            bytes(10),
            bytes(1 + 27),  # volume
            bytes(12),
            bytes(1 + 63),  # file name
            bytes(16),
            struct.pack(">hh", 0, 0),
            bytes(16),
            struct.pack(">hH", 2, len(name)) + name + bytes(len(name) % 2),
            struct.pack(">hH", 18, 1) + b"/\0",
            struct.pack(">h", -1),
        )
    )
    reference = _box(b"dref", struct.pack(">II", 0, 1), _box(b"alis", bytes(4), alias))
    entry = _box(b"sowt", bytes(6), struct.pack(">HIIHHHHI", 1, 0, 0, 1, 16, 0, 0, 8000 << 16))
    table = _box(
        b"stbl",
        _box(b"stsd", struct.pack(">II", 0, 1), entry),
        _box(b"stts", struct.pack(">IIII", 0, 1, count, 1)),
        _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, count, 1)),
        _box(b"stsz", struct.pack(">III", 0, 2, count)),
        _box(b"stco", struct.pack(">III", 0, 1, 0)),
    )
    media = _box(
        b"mdia",
        _box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 8000, count, 0, 0)),
        _box(b"hdlr", bytes(4), b"mhlrsoun", bytes(13)),
        _box(b"minf", _box(b"smhd", bytes(8)), _box(b"dinf", reference), table),
    )
    header = _box(b"tkhd", struct.pack(">IIIIII", 1, 0, 0, 1, 0, count), bytes(60))
    movie = _box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 8000, count), bytes(80))
    return _box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + _box(
        b"moov", movie, _box(b"trak", header, media)
    )


def test_samples_in_another_file_are_not_read(tmp_path: Path):
    secret = tmp_path / "secret.raw"
    secret.write_bytes(b"\x12\x34" * 8000)
    path = tmp_path / "movie.mov"
    path.write_bytes(_movie_with_external_samples(secret))
    trusting = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(path), options=trusting) as container:
        assert sum(p.size for p in container.demux()) == 16000, "the file would betray the secret"
    with open_container(path, LIMITS) as container:
        assert sum(p.size for p in container.demux()) == 0


def test_the_container_is_closed_after_an_error(render: Render):
    path = render("clip.mp4", pictures=Pictures())
    with pytest.raises(KeyError), open_container(path, LIMITS) as container:
        raise KeyError("from the caller")
    with pytest.raises(AssertionError, match="not open"):
        next(container.demux())


def test_a_file_made_of_boxes_alone_is_soon_given_up(tmp_path: Path):
    path = tmp_path / "boxes.mp4"
    empty = _box(b"trak") * 200_000
    path.write_bytes(_box(b"moov", empty) * 20)
    started = time.monotonic()
    with path.open("rb") as file:
        assert encrypted_track_ids(file) == frozenset()
    assert time.monotonic() - started < 2.0


def test_a_track_is_encrypted_if_all_its_sample_entries_are():
    def movie(*entries: bytes) -> BytesIO:
        table = _box(b"stsd", struct.pack(">II", 0, len(entries)), *map(_box, entries))
        media = _box(b"mdia", _box(b"minf", _box(b"stbl", table)))
        header = _box(b"tkhd", struct.pack(">BxxxQQI", 1, 0, 0, 7), bytes(60))
        return BytesIO(_box(b"ftyp") + _box(b"moov", _box(b"trak", header, media)))

    assert encrypted_track_ids(movie(b"encv")) == {7}
    assert encrypted_track_ids(movie(b"enca", b"enca")) == {7}
    assert encrypted_track_ids(movie(b"enca", b"mp4a")) == frozenset()
    assert encrypted_track_ids(movie()) == frozenset()


def test_a_box_larger_than_any_file_ends_the_search():
    huge = struct.pack(">I4sQ", 1, b"free", 2**64 - 1)
    assert encrypted_track_ids(BytesIO(huge + _box(b"moov"))) == frozenset()


def test_compressed_sound_that_a_wav_passes_off_as_samples_is_recognised(tmp_path: Path):
    raw = BytesIO()
    with av.open(raw, "w", format="ac3") as container:
        stream = container.add_stream("ac3", rate=48_000)
        stream.layout = "stereo"
        # Frames of 2560 bytes: the longest there are.
        stream.bit_rate = 640_000
        noise = np.random.default_rng(0).normal(scale=0.1, size=(2, 96_000)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path = tmp_path / "disguised.wav"
    with wave.open(str(path), "wb") as disguise:
        disguise.setnchannels(2)
        disguise.setsampwidth(2)
        disguise.setframerate(48_000)
        disguise.writeframes(raw.getvalue())

    info = probe(path, LIMITS)

    assert info.audio is not None
    assert info.audio.codec == "ac3"
