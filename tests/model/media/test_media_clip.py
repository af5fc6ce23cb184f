import gc
import io
import itertools
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import Pictures, Render, Sound, number_in, pitch_of
from numpy.typing import NDArray
from PIL import Image

from model.errors import (
    DecodeTimeout,
    DurationTooLong,
    EncryptedMedia,
    FrameTooLarge,
    MediaError,
    ModalityMissing,
    NoAudioOrVideo,
    UnsupportedMedia,
)
from model.media.clip import ClipReader, thumbnail
from model.media.limits import MediaLimits
from model.media.types import ClipChunk, DecodeSpec, ModalityUse

LIMITS = MediaLimits()
SPEC = DecodeSpec(
    sample_rate=16000, window_seconds=1.0, hop_seconds=0.5, frames_per_second=4.0, frame_size=32
)
MJPEG = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": ()}
PCM = {"codec": "pcm_s16le", "rate": 16000, "layout": "mono"}


def windows_of(chunks: list[ClipChunk]) -> list[tuple[float, float]]:
    return [window for chunk in chunks for window in chunk.windows]


def read(path: Path, spec: DecodeSpec = SPEC, modality="auto", windows_per_chunk: int = 32):
    reader = ClipReader(path, spec, LIMITS, modality)
    return list(reader.chunks(windows_per_chunk)), reader.summary()


def flat(level: int):
    def draw(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.full((size[1], size[0], 3), level, np.uint8)

    return draw


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.4, [(0.0, 0.4)]),
        (1.0, [(0.0, 1.0)]),
        (1.04, [(0.04, 1.04)]),
        (1.25, [(0.0, 1.0), (0.25, 1.25)]),
        (2.0, [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)]),
        (2.3, [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (1.3, 2.3)]),
    ],
)
def test_windows_start_every_hop_and_the_last_ends_with_the_clip(
    render: Render, seconds: float, expected: list[tuple[float, float]]
):
    chunks, summary = read(render("a.wav", sound=Sound(tones=((500, seconds),), **PCM)))
    assert windows_of(chunks) == [pytest.approx(window) for window in expected]
    assert summary.duration_seconds == pytest.approx(seconds)


def test_each_window_has_the_sound_and_the_pictures_of_its_time(render: Render):
    tones = tuple((500.0 + 250 * step, 1.0) for step in range(6))
    path = render("clip.mkv", pictures=Pictures(count=60, **MJPEG), sound=Sound(tones=tones, **PCM))
    chunks, summary = read(path, windows_per_chunk=4)
    windows = windows_of(chunks)
    assert windows == [pytest.approx((k * 0.5, k * 0.5 + 1.0)) for k in range(11)]
    assert [len(chunk.windows) for chunk in chunks] == [4, 4, 3]
    for chunk in chunks:
        assert chunk.waveforms is not None
        assert chunk.waveforms.dtype == np.float32
        assert chunk.waveforms.shape == (len(chunk.windows), 16000)
        assert chunk.frames is not None
        assert chunk.frames.dtype == np.uint8
        assert chunk.frames.shape == (len(chunk.frame_times), 32, 96, 3)
        assert chunk.frame_times.dtype == np.float64
        assert chunk.has_audio.all()
        assert chunk.has_video.all()
        for (start, end), waveform in zip(chunk.windows, chunk.waveforms, strict=True):
            if start == round(start):
                assert pitch_of(waveform, 16000) == pytest.approx(500 + 250 * start, abs=5)
            inside = (chunk.frame_times >= start) & (chunk.frame_times < end)
            assert inside.sum() == 4
        for seconds, pixels in zip(chunk.frame_times, chunk.frames, strict=True):
            assert number_in(pixels) == int(seconds * 10 + 1e-6)
    assert summary.audio == ModalityUse(True)
    assert summary.video == ModalityUse(True)
    assert summary.warnings == ()


def test_chunks_of_any_size_hold_the_same_windows(render: Render):
    path = render(
        "clip.mkv",
        pictures=Pictures(count=47, **MJPEG),
        sound=Sound(tones=((500, 3.0), (900, 1.3)), **PCM),
    )
    whole = read(path, windows_per_chunk=1000)[0][0]
    for size in (1, 3):
        chunks, _ = read(path, windows_per_chunk=size)
        assert windows_of(chunks) == list(whole.windows)
        np.testing.assert_array_equal(
            np.concatenate([c.waveforms for c in chunks]), whole.waveforms
        )
        times = np.unique(np.concatenate([c.frame_times for c in chunks]))
        np.testing.assert_array_equal(times, whole.frame_times)


def test_sound_that_ends_early_leaves_windows_without_sound(render: Render):
    path = render(
        "clip.mkv",
        pictures=Pictures(count=40, **MJPEG),
        sound=Sound(tones=((500, 1.5),), **PCM),
    )
    chunks, summary = read(path)
    assert summary.duration_seconds == pytest.approx(4.0, abs=0.05)
    assert chunks[0].has_audio.tolist() == [True, True, True, False, False, False, False]
    assert chunks[0].has_video.all()


def test_pictures_that_start_late_leave_windows_without_pictures(render: Render):
    path = render(
        "clip.mkv",
        pictures=Pictures(count=20, start_seconds=2.0, **MJPEG),
        sound=Sound(tones=((500, 4.0),), **PCM),
    )
    chunks, summary = read(path)
    assert summary.duration_seconds == pytest.approx(4.0, abs=0.05)
    assert chunks[0].has_video.tolist() == [False, False, False, True, True, True, True]
    assert chunks[0].frame_times[0] == pytest.approx(2.125)
    assert number_in(chunks[0].frames[0]) == 1


def test_silent_sound_is_told_and_pictures_answer(render: Render):
    path = render("clip.mkv", pictures=Pictures(**MJPEG), sound=Sound(amplitude=0.0, **PCM))
    chunks, summary = read(path)
    assert summary.audio == ModalityUse(False, "the sound is silent: nothing to hear")
    assert summary.video.used
    assert not chunks[0].has_audio.any()


def test_dither_is_silence_and_a_whisper_is_not(render: Render):
    assert not read(render("a.wav", sound=Sound(amplitude=0.0002, **PCM)))[1].audio.used
    assert read(render("b.wav", sound=Sound(amplitude=0.001, **PCM)))[1].audio.used


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_pictures_are_told_and_sound_answers(render: Render, level: int):
    path = render("clip.mp4", pictures=Pictures(draw=flat(level)), sound=Sound())
    chunks, summary = read(path)
    assert summary.video == ModalityUse(False, "the pictures are blank: nothing to see")
    assert summary.audio.used
    assert not chunks[0].has_video.any()


def test_a_black_lead_in_leaves_the_rest(render: Render):
    def draw(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        picture = flat(0)(number, size)
        if number >= 15:
            picture[:, : size[0] // 2] = 200
        return picture

    chunks, summary = read(render("clip.mp4", pictures=Pictures(count=30, draw=draw)))
    assert summary.video.used
    assert chunks[0].has_video.tolist() == [False, False, True, True, True]


def test_a_silent_and_blank_clip_is_no_error(render: Render):
    path = render("clip.mp4", pictures=Pictures(draw=flat(0)), sound=Sound(amplitude=0.0))
    chunks, summary = read(path)
    assert windows_of(chunks)
    assert not any(chunk.has_audio.any() or chunk.has_video.any() for chunk in chunks)
    assert not summary.audio.used
    assert not summary.video.used


def test_a_clip_of_sound_alone_has_no_frames(render: Render):
    chunks, summary = read(render("a.wav", sound=Sound(**PCM)))
    assert chunks[0].frames is None
    assert chunks[0].frame_times.size == 0
    assert summary.video == ModalityUse(False, "the file has no pictures")


def test_a_clip_of_pictures_alone_has_no_waveforms(render: Render):
    chunks, summary = read(render("v.mp4", pictures=Pictures()))
    assert chunks[0].waveforms is None
    assert summary.audio == ModalityUse(False, "the file has no sound")


def test_a_still_is_one_short_window(render: Render):
    chunks, summary = read(render("still.mp4", pictures=Pictures(count=1, rate=25)))
    assert len(windows_of(chunks)) == 1
    assert chunks[0].has_video.all()
    assert 0.0 < summary.duration_seconds <= 0.1


@pytest.mark.parametrize(("modality", "other"), [("audio", "video"), ("video", "audio")])
def test_the_modality_that_was_asked_for_is_read_alone(render: Render, modality, other):
    path = render("clip.mp4", pictures=Pictures(), sound=Sound())
    _, summary = read(path, modality=modality)
    assert getattr(summary, modality).used
    assert not getattr(summary, other).used
    assert "asked for" in getattr(summary, other).reason


def test_a_modality_that_is_missing_is_told_on_opening(render: Render):
    with pytest.raises(ModalityMissing, match="`audio` cannot be read: the file has no sound"):
        ClipReader(render("v.mp4", pictures=Pictures()), SPEC, LIMITS, "audio")
    with pytest.raises(ModalityMissing, match="`video` cannot be read: the file has no pictures"):
        ClipReader(render("a.wav", sound=Sound(**PCM)), SPEC, LIMITS, "video")


def test_a_huge_picture_is_told_on_opening_unless_only_the_sound_is_asked_for(render: Render):
    path = render("clip.mp4", pictures=Pictures(), sound=Sound())
    limits = MediaLimits(max_frame_pixels=10000)
    with pytest.raises(FrameTooLarge):
        ClipReader(path, SPEC, limits)
    assert list(ClipReader(path, SPEC, limits, "audio").chunks())


def _patched(path: Path, *pairs: tuple[bytes, bytes]) -> Path:
    content = path.read_bytes()
    for old, new in pairs:
        assert old in content
        content = content.replace(old, new)
    path.write_bytes(content)
    return path


def test_an_encrypted_file_is_told_as_such(render: Render):
    path = render("clip.mp4", pictures=Pictures(), sound=Sound())
    _patched(path, (b"avc1\0\0\0\0", b"encv\0\0\0\0"), (b"mp4a\0\0\0\0", b"enca\0\0\0\0"))
    with pytest.raises(EncryptedMedia, match="the sound is encrypted; the pictures are encrypted"):
        ClipReader(path, SPEC, LIMITS)


def test_a_clear_track_answers_for_an_encrypted_one(render: Render):
    path = render("clip.mp4", pictures=Pictures(), sound=Sound())
    _patched(path, (b"mp4a\0\0\0\0", b"enca\0\0\0\0"))
    _, summary = read(path)
    assert summary.video.used
    assert summary.audio == ModalityUse(False, "the sound is encrypted")
    with pytest.raises(ModalityMissing, match="the sound is encrypted"):
        ClipReader(path, SPEC, LIMITS, "audio")


def test_a_codec_without_a_decoder_leaves_the_other_track(render: Render):
    path = render("clip.mp4", pictures=Pictures(), sound=Sound())
    _patched(path, (b"avc1\0\0\0\0", b"zzzz\0\0\0\0"))
    _, summary = read(path)
    assert summary.audio.used
    assert summary.video == ModalityUse(False, "the pictures are in a codec without a decoder here")


def test_sound_that_is_broken_throughout_leaves_the_pictures(render: Render):
    path = render("clip.mkv", pictures=Pictures(), sound=Sound(codec="flac"))
    content = bytearray(path.read_bytes())
    frame = content.find(b"\xff\xf8")
    while frame >= 0:
        content[frame : frame + 2] = b"\0\0"
        frame = content.find(b"\xff\xf8", frame)
    path.write_bytes(content)
    chunks, summary = read(path)
    assert summary.video.used
    assert not summary.audio.used
    assert "packets of the sound could be decoded" in str(summary.audio.reason)
    assert chunks[0].waveforms is None


def test_a_header_without_samples_holds_nothing(render: Render):
    path = render("clip.mp4", pictures=Pictures(), sound=Sound())
    content = path.read_bytes()
    movie = content.index(b"moov") - 4
    size = struct.unpack(">I", content[movie : movie + 4])[0]
    path.write_bytes(content[:32] + content[movie : movie + size])
    reader = ClipReader(path, SPEC, LIMITS)
    with pytest.raises(NoAudioOrVideo, match="Nothing could be decoded"):
        list(reader.chunks())


def test_an_absurd_box_is_no_media(tmp_path: Path):
    path = tmp_path / "huge_box.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\x7f\xff\xff\xffmoov" + bytes(3000))
    with pytest.raises(NoAudioOrVideo, match="the file has no sound; the file has no pictures"):
        ClipReader(path, SPEC, LIMITS)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.webm"])
def test_a_cut_file_gives_what_came_before_or_says_why_not(render: Render, name: str):
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    options = (("cpu-used", "8"),) if name.endswith("webm") else (("crf", "12"),)
    path = render(
        name,
        pictures=Pictures(count=60, codec=codec, options=options),
        sound=Sound(
            tones=((500, 6.0),), rate=48000, codec="libopus" if name.endswith("webm") else "aac"
        ),
    )
    content = path.read_bytes()
    for share in (0.02, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        try:
            _, summary = read(path)
        except (UnsupportedMedia, NoAudioOrVideo):
            assert share < 0.1 or name == "clip.mp4", "an mp4 has its header at the end"
        else:
            assert 0.0 < summary.duration_seconds < 6.2


def test_a_declared_duration_is_not_believed(render: Render):
    path = render("a.wav", sound=Sound(tones=((500, 1.0),), **PCM))
    content = bytearray(path.read_bytes())
    data = content.index(b"data") + 4
    content[data : data + 4] = struct.pack("<I", 400 * 32000)
    path.write_bytes(content)
    _, summary = read(path)
    assert summary.duration_seconds == pytest.approx(1.0)


def test_too_long_a_clip_is_refused_while_it_is_read(render: Render):
    path = render("a.wav", sound=Sound(tones=((500, 20.0),), **PCM))
    reader = ClipReader(path, SPEC, MediaLimits(max_duration_seconds=5.0))
    with pytest.raises(DurationTooLong):
        list(reader.chunks())


def test_the_deadline_counts_decoding_and_not_the_consumer(render: Render):
    path = render("a.wav", sound=Sound(tones=((500, 3.0),), **PCM))
    reader = ClipReader(path, SPEC, MediaLimits(decode_timeout_seconds=1.0))
    chunks = reader.chunks(windows_per_chunk=1)
    next(chunks)
    time.sleep(1.1)
    assert len(list(chunks)) == 4
    with pytest.raises(DecodeTimeout):
        list(ClipReader(path, SPEC, MediaLimits(decode_timeout_seconds=0.0)).chunks())


def test_the_summary_waits_for_the_end(render: Render):
    reader = ClipReader(render("a.wav", sound=Sound(**PCM)), SPEC, LIMITS)
    with pytest.raises(RuntimeError, match="read to its end"):
        reader.summary()


def test_a_reader_that_is_left_early_lets_the_file_go(render: Render):
    path = render("clip.mkv", pictures=Pictures(count=60, **MJPEG), sound=Sound(**PCM))
    chunks = ClipReader(path, SPEC, LIMITS).chunks(windows_per_chunk=1)
    next(chunks)
    chunks.close()
    assert not [link for link in _open_files() if link == str(path)]


def _open_files() -> list[str]:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("open files are listed by Linux only")
    return [str(entry.resolve()) for entry in folder.iterdir()]


def test_two_hours_take_the_memory_of_a_chunk(render: Render):
    spec = DecodeSpec(
        sample_rate=400,
        window_seconds=10.0,
        hop_seconds=10.0,
        frames_per_second=0.2,
        frame_size=16,
    )
    times = [10.0 * index for index in range(720)]
    path = render(
        "long.mkv",
        pictures=Pictures(times=times, size=(24, 16), **MJPEG),
        sound=Sound(tones=((50, 7200.0),), codec="pcm_u8", rate=400, layout="mono"),
    )
    limits = MediaLimits(max_duration_seconds=7200.0, decode_timeout_seconds=120.0)
    reader = ClipReader(path, spec, limits)
    window_bytes = 0
    tracemalloc.start()
    for chunk in reader.chunks(windows_per_chunk=16):
        assert chunk.waveforms is not None
        window_bytes += chunk.waveforms.nbytes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert window_bytes == 7200 * 400 * 4
    assert peak < window_bytes / 5


def test_many_clips_leave_nothing_behind(render: Render):
    path = render("clip.mp4", pictures=Pictures(count=5, size=(1920, 1080)), sound=Sound())
    gc.disable()
    try:
        list(ClipReader(path, SPEC, LIMITS).chunks())
        before = _resident_bytes()
        for _ in range(8):
            list(ClipReader(path, SPEC, LIMITS).chunks())
        growth = _resident_bytes() - before
    finally:
        gc.enable()
    assert growth < 8 * 1920 * 1080, "less than a plane of a frame for each clip"


def _resident_bytes() -> int:
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("memory is read where Linux tells it")
    return int(status.read_text().split()[1]) * 4096


def test_a_thumbnail_is_an_upright_jpeg_from_a_third_into_the_clip(render: Render):
    path = render("clip.mp4", pictures=Pictures(count=90, size=(192, 96)))
    jpeg = thumbnail(path, LIMITS, size=160)
    assert jpeg is not None
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG"
    assert image.size == (160, 80)
    assert number_in(np.asarray(image)) == 30
    turned = thumbnail(render("turned.mp4", pictures=Pictures(rotation=90)), LIMITS)
    assert turned is not None
    assert Image.open(io.BytesIO(turned)).height == 320


def test_a_thumbnail_passes_blank_pictures_over(render: Render):
    def draw(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        picture = flat(0)(number, size)
        if number >= 60:
            picture[:, : size[0] // 2] = 200
        return picture

    jpeg = thumbnail(render("clip.mp4", pictures=Pictures(count=90, draw=draw)), LIMITS)
    assert jpeg is not None
    assert np.asarray(Image.open(io.BytesIO(jpeg))).max() > 150
    blank = thumbnail(render("blank.mp4", pictures=Pictures(draw=flat(0))), LIMITS)
    assert blank is not None, "a blank picture is better than none"


def test_there_is_no_thumbnail_of_sound(render: Render):
    assert thumbnail(render("a.wav", sound=Sound(**PCM)), LIMITS) is None


def test_every_byte_may_be_broken_without_another_error_than_ours(render: Render):
    path = render("clip.mp4", pictures=Pictures(count=5), sound=Sound(tones=((500, 0.5),)))
    content = path.read_bytes()
    header = content.index(b"moov")
    random = np.random.default_rng(0)
    for position, value in itertools.product(
        random.integers(header, len(content), 25).tolist(), (0x00, 0xFF)
    ):
        broken = bytearray(content)
        broken[position] = value
        path.write_bytes(broken)
        try:
            list(ClipReader(path, SPEC, LIMITS).chunks())
            thumbnail(path, LIMITS)
        except MediaError:
            continue
