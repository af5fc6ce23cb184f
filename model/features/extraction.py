"""Features of a clip by two backbones: what training sees is what the embedder computes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.backbones.protocol import AudioBackbone, VideoBackbone
from model.device import to_numpy
from model.embedder import Backbones, pool_frames
from model.media.clip import ClipReader
from model.media.limits import MediaLimits
from model.media.types import (
    FRAMES_PER_SECOND,
    HOP_SECONDS,
    WINDOW_SECONDS,
    ClipChunk,
    DecodeSpec,
)

_LIMITS = MediaLimits(
    max_bytes=8 * 2**30, max_duration_seconds=7_200.0, decode_timeout_seconds=600.0
)


@dataclass(frozen=True)
class ClipFeatures:
    """Features (Da,) and (Dv,) float32 of a clip, None without the modality; or why there are none.

    Attributes:
        audio, video: means over the windows that have the modality.
        failure: why the file could not be read, or None.
        warnings: what of the file could not be used, where it was read now.
    """

    audio: NDArray[np.float32] | None
    video: NDArray[np.float32] | None
    failure: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """What the features of a clip depend on besides the clip.

    Attributes:
        settings: names of the backbones and how clips are cut, as JSON.
        audio, video: features of noise, which tell one set of weights from another.
    """

    settings: str
    audio: NDArray[np.float32]
    video: NDArray[np.float32]

    def agrees(self, other: "Signature") -> bool:
        """Whether clips have the same features; devices' rounding is no difference."""
        return self.settings == other.settings and all(
            a.shape == b.shape and np.allclose(a, b, rtol=1e-2, atol=1e-2 * np.abs(a).max())
            for a, b in ((self.audio, other.audio), (self.video, other.video))
        )


class ClipExtractor:
    """Backbones that turn clips into features: audio (Da,), and video's mean and spread (2 D,)."""

    def __init__(self, audio: AudioBackbone, video: VideoBackbone, device: str) -> None:
        self.names = (audio.name, video.name)
        self.audio_dim, self.video_dim = audio.dim, 2 * video.dim
        self._backbones = Backbones(audio, video, device)
        self._decode_spec = DecodeSpec(
            sample_rate=audio.sample_rate,
            window_seconds=WINDOW_SECONDS,
            hop_seconds=HOP_SECONDS,
            frames_per_second=FRAMES_PER_SECOND,
            frame_size=video.frame_size,
        )

    def extract(self, path: Path) -> ClipFeatures:
        """Read a clip, chunk by chunk, and average its windows.

        Raises:
            MediaError: see `model.errors`.
        """
        audio, video = [], []
        reader = ClipReader(path, self._decode_spec, _LIMITS)
        for chunk in reader.chunks():
            windows = self._windows(chunk)
            audio.append(windows[0])
            video.append(windows[1])
        warnings = reader.summary().warnings
        features = ClipFeatures(_mean_row(audio), _mean_row(video), warnings=warnings)
        if features.audio is None and features.video is None:
            return ClipFeatures(None, None, "the sound is silent and the pictures are blank")
        return features

    def signature(self) -> Signature:
        """Say what the features depend on."""
        spec, rng = self._decode_spec, np.random.default_rng(0)
        samples, size = round(spec.sample_rate * spec.window_seconds), spec.frame_size
        one = np.ones(1, np.bool_)
        noise = ClipChunk(
            windows=((0.0, spec.window_seconds),),
            waveforms=rng.uniform(-0.5, 0.5, (1, samples)).astype(np.float32),
            has_audio=one,
            frames=rng.integers(0, 256, (2, size, size, 3), np.uint8),
            frame_times=np.array([0.0, 1.0]),
            has_video=one,
        )
        audio, video = self._windows(noise)
        settings = [*self.names, WINDOW_SECONDS, HOP_SECONDS, FRAMES_PER_SECOND]
        return Signature(json.dumps(settings), audio[0], video[0])

    def _windows(self, chunk: ClipChunk) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features (Na, Da) and (Nv, Dv) of the windows that have each modality."""
        [features] = self._backbones.features([self._backbones.prepare(chunk)])
        pooled = [pool_frames(frames) for frames in features.video]
        return to_numpy(features.audio), _stack(pooled, self.video_dim)


def _stack(rows: Sequence[Tensor], dim: int) -> NDArray[np.float32]:
    return to_numpy(torch.stack(list(rows))) if rows else np.zeros((0, dim), np.float32)


def _mean_row(chunks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    rows = np.concatenate(chunks) if chunks else np.zeros((0, 1))
    return rows.mean(axis=0, dtype=np.float64).astype(np.float32) if len(rows) else None
