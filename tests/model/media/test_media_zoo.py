"""Reads a folder of awkward real files, where this checkout has one."""

import csv
import time
from pathlib import Path

import numpy as np
import pytest

from model.errors import MediaError
from model.media.clip import ClipReader, thumbnail
from model.media.limits import MediaLimits
from model.media.types import ClipSummary, DecodeSpec

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "media"
LIMITS = MediaLimits()
SPEC = DecodeSpec(
    sample_rate=16000, window_seconds=1.0, hop_seconds=0.5, frames_per_second=2.0, frame_size=64
)
SECONDS_PER_FILE = 20.0

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the folder of awkward files, shared/data/media, is not here"
)


def _path(start: str) -> Path:
    return next(path for path in FOLDER.iterdir() if path.name.startswith(start))


def _read(path: Path) -> ClipSummary:
    reader = ClipReader(path, SPEC, LIMITS)
    windows = [window for chunk in reader.chunks() for window in chunk.windows]
    assert windows
    return reader.summary()


def _outcome(path: Path) -> tuple[str, str]:
    try:
        summary = _read(path)
    except MediaError as error:
        return type(error).__name__, str(error)[:60]
    used = [name for name in ("audio", "video") if getattr(summary, name).used]
    return "+".join(used) or "nothing", f"{summary.duration_seconds:.2f} s"


def test_every_file_yields_windows_or_an_error_of_ours_in_time(capsys: pytest.CaptureFixture[str]):
    with (FOLDER / "manifest.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file)]
    rows = []
    for name in names:
        started = time.monotonic()
        kind, detail = _outcome(FOLDER / name)
        seconds = time.monotonic() - started
        assert seconds < SECONDS_PER_FILE, name
        rows.append(f"{name:42.42s} {kind:16s} {seconds:5.2f}s  {detail}")
    with capsys.disabled():
        print("\n" + "\n".join(rows))


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        ("av1_init", "NoAudioOrVideo"),
        ("hvc1_init", "NoAudioOrVideo"),
        ("bipbop_audioinit", "NoAudioOrVideo"),
        ("golden_init_video", "NoAudioOrVideo"),
        ("stpp_combined", "NoAudioOrVideo"),
        ("AudioVideoInterleave", "NoAudioOrVideo"),
        ("init-aaf0", "EncryptedMedia"),
        ("cbcs-4a81", "EncryptedMedia"),
        ("short-cenc", "EncryptedMedia"),
        ("bipbop-cenc-audioinit", "EncryptedMedia"),
        ("bipbop_480wp_1001kbps-cenc", "EncryptedMedia"),
        ("seg_cenc_no_seig", "UnsupportedMedia"),
    ],
)
def test_files_without_readable_samples_say_so(start: str, kind: str):
    assert _outcome(_path(start))[0] == kind


@pytest.mark.parametrize(
    ("start", "seconds", "used"),
    [
        ("bikes", 10.0, ["video"]),
        ("car_audio", 5.0, ["audio"]),
        ("isom-avc1", 1.0, ["audio", "video"]),
        ("emptylist", 1.1, ["audio"]),
        ("audio_dec", 2.05, ["audio"]),
        ("nasa_13013_rotated", 0.57, ["video"]),
        ("white", 10.0, []),
        ("test_non_zero_start", 0.4, ["video"]),
        ("iamf", 1.0, ["audio"]),
        ("corrupted", 5.0, ["video"]),
        ("vvc", 2.0, ["video"]),
    ],
)
def test_durations_are_measured(start: str, seconds: float, used: list[str]):
    summary = _read(_path(start))
    assert summary.duration_seconds == pytest.approx(seconds, abs=0.05)
    assert [name for name in ("audio", "video") if getattr(summary, name).used] == used


def test_a_declared_duration_far_off_is_a_warning():
    assert "the file declares 217.0 s but holds 1.1 s" in _read(_path("emptylist")).warnings


@pytest.mark.parametrize("start", ["image-27ae", "image-ef2c"])
def test_covers_are_no_video(start: str):
    assert _read(_path(start)).video.reason == "the file's only picture is its cover"
    assert thumbnail(_path(start), LIMITS) is None


def test_a_phone_held_upright_gives_upright_pictures():
    chunk = next(ClipReader(_path("nasa_13013_rotated"), SPEC, LIMITS).chunks())
    assert chunk.frames is not None
    assert chunk.frames.shape[1:] == (114, 64, 3)
    # The telescope's golden mirror is in the upper half, dark floor in the lower one.
    upper, lower = np.split(chunk.frames[0].astype(int), 2)
    assert upper.mean() > lower.mean()


def test_damaged_packets_are_counted():
    assert any("damaged and were skipped" in w for w in _read(_path("corrupted")).warnings)
