"""What the decoder hands on: NumPy arrays with their times, and what was and was not used."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Modality = Literal["audio", "video"]
"""One of the two ways in which a clip is perceived."""

ModalityChoice = Literal["auto", "audio", "video"]
"""What a caller asks for: `auto` takes whatever the file has."""

# How clips are cut unless a checkpoint says otherwise: training and serving must cut alike.
WINDOW_SECONDS = 4.0
HOP_SECONDS = 2.0
FRAMES_PER_SECOND = 2.0


@dataclass(frozen=True, slots=True)
class DecodeSpec:
    """How a clip is cut; the backbones and the checkpoint decide it.

    Windows are half-open, `[start_seconds, end_seconds)`. A clip no longer than one window is one
    window; otherwise windows start every `hop_seconds` and the last one ends with the clip. Where
    the clip goes on for less than a twentieth of a window after a regular one, that one is shifted
    to the end instead of followed by a nearly equal one.
    """

    sample_rate: int
    window_seconds: float
    hop_seconds: float
    frames_per_second: float
    frame_size: int
    """Length in pixels of a decoded frame's shorter side."""


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """A run of mono samples: `samples` (N,) float32 in [-1, 1], the first at `start_seconds`."""

    start_seconds: float
    samples: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One upright picture: `pixels` (H, W, 3) uint8 RGB, shown at `time_seconds`."""

    time_seconds: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ModalityUse:
    """Whether a modality took part in an answer, and a sentence saying why not (None if it did)."""

    used: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ClipChunk:
    """Some consecutive windows with all that they need; a long clip is many chunks.

    Attributes:
        windows: (start_seconds, end_seconds) of each of the W windows.
        waveforms: (W, window_seconds * sample_rate) float32, zero-padded at the end; None where the
            clip's sound is not used.
        has_audio: (W,) bool, False where a window holds no sound (the track is silent or over).
        frames: (F, H, W, 3) uint8 RGB; F may be 0; None where the clip's pictures are not used.
        frame_times: (F,) float64 seconds; a window owns the frames whose time lies inside it.
        has_video: (W,) bool, False where a window holds no picture (none lies in it, or all are
            blank).
    """

    windows: tuple[tuple[float, float], ...]
    waveforms: NDArray[np.float32] | None
    has_audio: NDArray[np.bool_]
    frames: NDArray[np.uint8] | None
    frame_times: NDArray[np.float64]
    has_video: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClipSummary:
    """What is known once a clip is read: measured duration, modalities used, warnings."""

    duration_seconds: float
    audio: ModalityUse
    video: ModalityUse
    warnings: tuple[str, ...]
