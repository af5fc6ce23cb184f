"""What an audio, video or text encoder must offer to be plugged in under AVGZSLNet."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # naming a backbone must not cost the seconds that importing torch does
    from torch import Tensor


class AudioBackbone(Protocol):
    """Window of sound -> feature vector.

    `prepare` runs on the CPU, one window at a time, and touches no device; `features` runs on the
    device, on a batch of prepared windows stacked to one array.
    """

    name: str
    dim: int
    sample_rate: int
    """Hz of the mono waveform that `prepare` expects."""

    def prepare(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn one window (N,) float32 in [-1, 1] into the network's input, of a fixed shape."""
        ...

    def features(self, batch: "Tensor") -> "Tensor":
        """Map stacked prepared windows (B, ...) to features (B, dim) float32, no gradient kept."""
        ...

    def to(self, device: str) -> "AudioBackbone":
        """Move the weights to a device and return self."""
        ...


class VideoBackbone(Protocol):
    """Single picture -> feature vector; the embedder pools a window's pictures."""

    name: str
    dim: int
    frame_size: int
    """Length in pixels of the shorter side of the frames that `prepare` expects."""

    def prepare(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn one upright RGB frame (H, W, 3) uint8 into the network's input, of a fixed shape."""
        ...

    def features(self, batch: "Tensor") -> "Tensor":
        """Map stacked prepared frames (B, ...) to features (B, dim) float32, no gradient kept."""
        ...

    def to(self, device: str) -> "VideoBackbone":
        """Move the weights to a device and return self."""
        ...


class TextEncoder(Protocol):
    """Sentences -> vectors (w in the paper)."""

    name: str
    dim: int

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: (len(texts), dim) float32, L2-normalised."""
        ...


class TextTower(TextEncoder, Protocol):
    """The text encoder that a backbone was trained with, into the space of its features.

    A sentence fits features by the cosine of the two, times `logit_scale`: the softmax of that is
    what the pair was trained to get right.
    """

    logit_scale: float
    prompts: tuple[str, ...]
    """Sentences with `{}` for a class's name; a class is the mean of what they give."""
    digest: str
    """SHA-256 of the files of both halves."""

    def to(self, device: str) -> "TextTower":
        """Move the weights to a device and return self."""
        ...
