import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import Pictures, Render, Sound, pitch_of
from numpy.typing import NDArray

from model.errors import DecodeTimeout, DurationTooLong, ModalityMissing
from model.media.audio import read_audio
from model.media.decode import TrackReport
from model.media.limits import MediaLimits
from model.media.types import AudioBlock

RATE = 16000
LIMITS = MediaLimits()


def read(path: Path, limits: MediaLimits = LIMITS) -> tuple[list[AudioBlock], TrackReport]:
    def items() -> Iterator[AudioBlock]:
        nonlocal report
        report = yield from read_audio(path, sample_rate=RATE, limits=limits)

    report: TrackReport | None = None
    blocks = list(items())
    assert report is not None
    return blocks, report


def on_the_clock(blocks: list[AudioBlock]) -> NDArray[np.float32]:
    """Lay the blocks out from the clip's 0 on, zeros in the holes."""
    end = max(round(block.start_seconds * RATE) + block.samples.size for block in blocks)
    samples = np.zeros(end, np.float32)
    for block in blocks:
        start = round(block.start_seconds * RATE)
        samples[start : start + block.samples.size] = block.samples
    return samples


TONES = ((500.0, 1.0), (1500.0, 1.0))


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        ("a.wav", "pcm_s16le", 44100, "stereo"),
        ("b.wav", "pcm_u8", 8000, "mono"),
        ("c.wav", "pcm_f32le", 96000, "mono"),
        ("d.wav", "pcm_s24le", 22050, "5.1"),
        ("e.wav", "pcm_s16le", 48000, "hexadecagonal"),
        ("f.wav", "pcm_s16le", 16000, "mono"),
        ("g.mp3", "libmp3lame", 44100, "stereo"),
        ("h.m4a", "aac", 44100, "stereo"),
        ("i.m4a", "aac", 48000, "7.1"),
        ("j.ogg", "flac", 44100, "stereo"),
        ("k.opus", "libopus", 48000, "mono"),
        ("l.flac", "flac", 32000, "stereo"),
        ("m.mka", "pcm_s16le", 11025, "stereo"),
        ("n.webm", "libopus", 48000, "stereo"),
        ("o.aiff", "pcm_s16be", 44100, "stereo"),
        ("p.aac", "aac", 44100, "stereo"),
        ("q.ts", "aac", 44100, "stereo"),
        ("r.avi", "pcm_s16le", 44100, "stereo"),
        ("s.au", "pcm_s16be", 44100, "mono"),
        ("t.caf", "pcm_s16le", 44100, "mono"),
        ("u.w64", "pcm_s16le", 44100, "mono"),
        ("v.mp4", "alac", 44100, "stereo"),
    ],
)
def test_every_format_gives_the_tones_at_their_times(
    render: Render, name: str, codec: str, rate: int, layout: str
):
    path = render(name, sound=Sound(tones=TONES, codec=codec, rate=rate, layout=layout))
    blocks, report = read(path)
    samples = on_the_clock(blocks)
    assert samples.dtype == np.float32
    assert report.end_seconds == pytest.approx(2.0, abs=0.08)
    assert samples.size / RATE == pytest.approx(report.end_seconds, abs=0.01)
    assert pitch_of(samples[1600:14400], RATE) == pytest.approx(500, abs=5)
    assert pitch_of(samples[17600:30400], RATE) == pytest.approx(1500, abs=5)
    # The encoder of 7.1 leaves the tone out of the subwoofer's channel: 7/8 of 0.5 remain.
    assert np.abs(samples[1600:14400]).max() == pytest.approx(0.5, abs=0.07)
    assert report.warnings == ()


def test_the_channels_are_averaged(tmp_path: Path):
    path = tmp_path / "two.wav"
    left = np.full(16000, 0.8, np.float32)
    _write_float_wav(path, np.stack([left, np.zeros_like(left)], 1))
    samples = on_the_clock(read(path)[0])
    assert np.median(samples) == pytest.approx(0.4, abs=1e-4)


def _write_float_wav(path: Path, samples: NDArray[np.float32], rate: int = RATE) -> None:
    channels = samples.shape[1]
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=rate, layout=layout)
        for first in range(0, len(samples), 4000):
            piece = np.ascontiguousarray(samples[first : first + 4000]).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(piece, format="flt", layout=layout)
            frame.rate, frame.pts = rate, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_louder_samples_infinities_and_nan_are_brought_into_range(tmp_path: Path):
    wild = np.full((16000, 1), 0.25, np.float32)
    wild[1000:1010] = 100.0
    wild[2000], wild[3000], wild[4000] = np.inf, -np.inf, np.nan
    path = tmp_path / "wild.wav"
    _write_float_wav(path, wild)
    samples = on_the_clock(read(path)[0])
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1.0
    assert np.median(samples) == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize("channels", [3, 13, 64])
def test_channels_without_a_layout_are_averaged_too(tmp_path: Path, channels: int):
    path = tmp_path / "many.wav"
    _write_wav(path, channels, RATE, np.full(RATE, 8192, np.int16))
    samples = on_the_clock(read(path)[0])
    assert np.median(samples) == pytest.approx(0.25, abs=1e-3)


def _write_wav(path: Path, channels: int, rate: int, samples: NDArray[np.int16]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(samples[:, None], channels, 1).tobytes())


def test_more_channels_than_can_be_mixed_are_a_reason(tmp_path: Path):
    path = tmp_path / "many.wav"
    _write_wav(path, 70, RATE, np.zeros(100, np.int16))
    with pytest.raises(ModalityMissing, match="70 channels, more than 64"):
        read(path)


def test_sound_that_starts_late_is_placed_late(render: Render):
    path = render("late.mp4", pictures=Pictures(count=40), sound=Sound(start_seconds=1.5))
    blocks, report = read(path)
    assert blocks[0].start_seconds == pytest.approx(1.5, abs=0.05)
    assert report.end_seconds == pytest.approx(3.5, abs=0.1)


@pytest.mark.parametrize("name", ["pause.mkv", "pause.mp4"])
def test_a_hole_in_the_sound_stays_a_hole(render: Render, name: str):
    sound = Sound(tones=((500, 1.0), (1500, 1.0)), pause=(1.0, 3.0))
    blocks, report = read(render(name, sound=sound))
    samples = on_the_clock(blocks)
    assert report.end_seconds == pytest.approx(5.0, abs=0.1)
    assert pitch_of(samples[1600:14400], RATE) == pytest.approx(500, abs=5)
    assert np.abs(samples[20000:60000]).max() == 0.0
    assert pitch_of(samples[67200:78400], RATE) == pytest.approx(1500, abs=5)


def test_a_leap_of_hours_in_the_timestamps_is_closed(render: Render):
    # Concatenated, the second file's samples of half a day later come right after the first's.
    first = render("a.ts", sound=Sound(tones=((500, 1.0),)))
    second = render("b.ts", sound=Sound(tones=((1500, 1.0),), start_seconds=40000.0))
    path = first.with_name("both.ts")
    path.write_bytes(first.read_bytes() + second.read_bytes())
    blocks, report = read(path)
    samples = on_the_clock(blocks)
    assert report.end_seconds == pytest.approx(2.0, abs=0.1)
    assert pitch_of(samples[17600:30400], RATE) == pytest.approx(1500, abs=5)
    assert any("jumps in the timestamps of the sound" in warning for warning in report.warnings)


def test_a_rate_and_layout_that_change_midway_are_followed(render: Render):
    first = render("a.ts", sound=Sound(tones=((500, 1.0),), rate=44100, layout="stereo"))
    second = render("b.ts", sound=Sound(tones=((1500, 1.0),), rate=22050, layout="mono"))
    path = first.with_name("both.ts")
    path.write_bytes(first.read_bytes() + second.read_bytes())
    samples = on_the_clock(read(path)[0])
    assert samples.size / RATE == pytest.approx(2.0, abs=0.15)
    assert pitch_of(samples[1600:14400], RATE) == pytest.approx(500, abs=5)
    assert pitch_of(samples[19200:30400], RATE) == pytest.approx(1500, abs=5)


def test_damaged_packets_are_skipped_and_counted(render: Render):
    path = render("song.mkv", sound=Sound(tones=((500, 3.0),), codec="flac", rate=16000))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = b"\xaa" * 3000
    path.write_bytes(content)
    blocks, report = read(path)
    assert report.failure is None
    assert report.warnings
    assert pitch_of(on_the_clock(blocks)[1600:14400], RATE) == pytest.approx(500, abs=5)


def test_a_cut_file_gives_what_came_before(render: Render):
    path = render("song.flac", sound=Sound(tones=((500, 4.0),), codec="flac"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    blocks, report = read(path)
    assert 1.0 < report.end_seconds < 3.0
    assert pitch_of(on_the_clock(blocks)[1600:14400], RATE) == pytest.approx(500, abs=5)


def test_more_seconds_than_the_limit_are_refused_though_the_header_says_less(tmp_path: Path):
    path = tmp_path / "long.wav"
    _write_wav(path, 1, 8000, np.zeros(8000 * 30, np.int16))
    content = bytearray(path.read_bytes())
    content[40:44] = (0).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DurationTooLong, match="the limit is 10 s"):
        read(path, MediaLimits(max_duration_seconds=10))


def test_a_rate_of_one_sample_a_second_does_not_fill_the_memory(tmp_path: Path):
    path = tmp_path / "slow.wav"
    _write_wav(path, 1, 1, np.zeros(20000, np.int16))
    with pytest.raises(DurationTooLong):
        read(path)


def test_a_rate_that_no_recorder_has_is_a_reason(tmp_path: Path):
    path = tmp_path / "fast.wav"
    _write_wav(path, 1, 8_345_122, np.zeros(1000, np.int16))
    with pytest.raises(ModalityMissing, match="8345122 samples a second, over 768000"):
        read(path)


def test_the_deadline_is_kept(render: Render):
    path = render("song.wav", sound=Sound(tones=((500, 60.0),), codec="pcm_s16le"))
    with pytest.raises(DecodeTimeout):
        read(path, MediaLimits(decode_timeout_seconds=0.0))


def test_a_file_without_sound_says_so(render: Render):
    with pytest.raises(ModalityMissing, match="cannot be heard: the file has no sound"):
        read(render("silent.mp4", pictures=Pictures()))
