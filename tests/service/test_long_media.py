"""A clip of hours goes through window by window: neither process grows with it."""

import asyncio
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from model.fake import FakeEmbedder
from model.media.limits import MediaLimits
from service.pipeline import DecodeProgress, Pipeline
from service.resources import open_pipeline
from service.settings import Settings

RATE = 8000
MIB = 2**20
ALLOWED_GROWTH = 64 * MIB
"""What is in flight is some ten MB a process; two hours of sound alone would be 460 MB."""


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    with open_pipeline(Settings(data_dir=tmp_path, decode_workers=1), FakeEmbedder()) as pipeline:
        yield pipeline


def film(path: Path, minutes: int) -> Path:
    """Noise to hear, and a picture a second that is never the same."""
    random = np.random.default_rng(0)
    with av.open(path, "w") as container:
        audio = container.add_stream("pcm_u8", rate=RATE)
        audio.layout = "mono"
        video = container.add_stream("mpeg4", rate=1)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for second in range(60 * minutes):
            samples = random.integers(0, 255, (1, RATE), np.uint8)
            sound = av.AudioFrame.from_ndarray(samples, format="u8", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = RATE, second * RATE, Fraction(1, RATE)
            container.mux(audio.encode(sound))
            pixels = random.integers(0, 255, (48, 64, 3), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(audio.encode())
        container.mux(video.encode())
    return path


def resident_bytes(process: int | str) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
def test_pain_08_two_hours_are_embedded_in_flat_memory_with_progress(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    limits = MediaLimits(max_duration_seconds=10_000, decode_timeout_seconds=600, max_bytes=2**30)
    asyncio.run(pipeline.embed_clip(film(tmp_path / "short.mkv", 4), limits=limits))
    [worker] = pipeline.intake.decoder._idle
    path = film(tmp_path / "long.mkv", 120)
    told: list[DecodeProgress] = []
    before = resident_bytes("self"), resident_bytes(worker.process_id)
    grown: list[tuple[int, int]] = []

    def on_progress(progress: DecodeProgress) -> None:
        told.append(progress)
        now = resident_bytes("self"), resident_bytes(worker.process_id)
        grown.append((now[0] - before[0], now[1] - before[1]))

    embedding = asyncio.run(pipeline.embed_clip(path, on_progress=on_progress, limits=limits))

    assert embedding.summary.duration_seconds == pytest.approx(7200, abs=2)
    assert len(embedding.windows) == pytest.approx(3599, abs=2)
    assert all(w.audio is not None and w.video is not None for w in embedding.windows)
    positions = [progress.decoded_seconds for progress in told]
    assert positions == sorted(positions)
    assert len(positions) > 200
    assert {round(progress.declared_seconds or 0) for progress in told} == {7200}
    assert max(parent for parent, _ in grown) < ALLOWED_GROWTH
    assert max(child for _, child in grown) < ALLOWED_GROWTH


def test_progress_is_told_and_limits_can_be_others(pipeline: Pipeline, tmp_path: Path) -> None:
    told: list[DecodeProgress] = []
    path = film(tmp_path / "film.mkv", 1)
    short = MediaLimits(max_duration_seconds=10)

    asyncio.run(pipeline.embed_clip(path, on_progress=told.append))

    assert told[0].decoded_seconds < told[-1].decoded_seconds == pytest.approx(60, abs=0.2)
    with pytest.raises(Exception, match="limit is 10 s"):
        asyncio.run(pipeline.embed_clip_with_thumbnail(path, limits=short))
