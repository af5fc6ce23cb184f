"""The sample clips: small, complete, decodable, and made again by their program."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"
MEDIA_SUFFIXES = {".flac", ".m4a", ".mp3", ".mp4", ".ogg", ".opus", ".wav", ".webm"}
CLIPS = sorted(path for path in SAMPLES.iterdir() if path.suffix in MEDIA_SUFFIXES)
SILENT = {"balloon.mp4"}


def test_there_is_a_handful_of_every_kind_of_file() -> None:
    assert 8 <= len(CLIPS) <= 12
    assert {path.suffix for path in CLIPS} == MEDIA_SUFFIXES


def test_they_are_small_enough_to_keep_in_the_repository() -> None:
    sizes = [path.stat().st_size for path in CLIPS]
    assert max(sizes) < 300_000
    assert sum(sizes) < 2_000_000


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.name)
def test_each_is_described_and_decodes_to_three_to_eight_seconds(path: Path) -> None:
    assert f"`{path.name}`" in (SAMPLES / "README.md").read_text(encoding="utf-8")
    with av.open(path) as container:
        assert bool(container.streams.audio) is (path.name not in SILENT)
        assert bool(container.streams.video) is (path.suffix in {".mp4", ".webm"})
        assert container.duration is not None
        assert 3 <= container.duration / av.time_base <= 8.2
        for frame in container.decode(video=0) if container.streams.video else ():
            assert (frame.width, frame.height) == (320, 240)


@pytest.mark.parametrize(
    "path", [path for path in CLIPS if path.name not in SILENT], ids=lambda path: path.name
)
def test_each_sound_is_loud_enough_and_not_clipped(path: Path) -> None:
    resampler = av.AudioResampler("fltp", "mono", 32_000)
    with av.open(path) as container:
        frames = [*container.decode(audio=0), None]
        samples = np.concatenate(
            [piece.to_ndarray()[0] for frame in frames for piece in resampler.resample(frame)]
        )
    assert 0.3 < np.abs(samples).max() <= 1.1
    assert np.sqrt((samples**2).mean()) > 0.01


def test_their_program_makes_them_again(tmp_path: Path) -> None:
    _run_maker("--folder", str(tmp_path), "balloon.mp4", "birdsong.ogg", "organ.flac")
    assert {path.name for path in tmp_path.iterdir()} == {
        "balloon.mp4",
        "birdsong.ogg",
        "organ.flac",
    }
    for path in tmp_path.iterdir():
        # Another release of an encoder may spend some bytes more or less.
        assert path.stat().st_size == pytest.approx((SAMPLES / path.name).stat().st_size, rel=0.2)


def test_an_unknown_clip_is_refused(tmp_path: Path) -> None:
    done = _run_maker("--folder", str(tmp_path), "unicorn.mp4", status=2)
    assert "unicorn.mp4" in done.stderr


@pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None
    or not (ROOT.parent / "shared" / "data" / "teachers").is_dir(),
    reason="the training teachers are not here",
)
@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        ("dog_bark.wav", ("heard: ", "Dog")),
        ("lighthouse.webm", ("heard: ", "Ocean")),
        ("clock.mp4", ("seen: ", "wall clock")),
    ],
)
def test_the_teachers_recognise_them(clip: str, expected: tuple[str, str]) -> None:
    sense, name = expected
    lines = _run_maker("--check", clip).stdout.splitlines()
    assert any(sense in line and name in line for line in lines)


def _run_maker(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "samples.make_samples", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done
