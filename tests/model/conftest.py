"""A checkpoint small enough to make in a test, with backbones that can be checked by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import CheckpointConfig, save_checkpoint
from model.config import Calibration, NetworkConfig
from model.embedding import ClassText
from model.network import AVGZSLNet

SAMPLE_RATE = 8_000


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tensors of tests are so small that threads only wait for each other, at length where other
    programs use the processor too."""
    torch.set_num_threads(1)


class LoudnessBackbone:
    """Feature of a window of sound: its root mean square and a constant."""

    name = "loudness"
    dim = 2
    sample_rate = SAMPLE_RATE

    def prepare(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        return waveform

    def features(self, batch: Tensor) -> Tensor:
        loudness = batch.square().mean(dim=1).sqrt()
        return torch.stack([loudness, torch.ones_like(loudness)], dim=1)

    def to(self, device: str) -> "LoudnessBackbone":
        return self


class ColourBackbone:
    """Feature of a frame: its mean red, green and blue in [0, 1]."""

    name = "colour"
    dim = 3
    frame_size = 16

    def prepare(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return frame

    def features(self, batch: Tensor) -> Tensor:
        return batch.float().mean(dim=(1, 2)) / 255

    def to(self, device: str) -> "ColourBackbone":
        return self


class LetterEncoder:
    """Text vector: which of the letters a to e a text has, unit length."""

    name = "letters"
    dim = 5

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.array([[t.lower().count(c) for c in "abcde"] for t in texts], np.float32)
        counts = counts.reshape(-1, self.dim) + 1e-3
        return np.asarray(counts / np.linalg.norm(counts, axis=1, keepdims=True))


CONFIG = CheckpointConfig(
    audio_backbone="loudness",
    video_backbone="colour",
    text_encoder="letters",
    window_seconds=2.0,
    hop_seconds=1.0,
    frames_per_second=4.0,
    network=NetworkConfig(
        audio_dim=2,
        video_dim=6,
        text_dim=5,
        hidden_dim=8,
        embedding_dim=5,
        decoder_dim=8,
        normalise=True,
    ),
    calibration=Calibration(temperature=0.2),
)
CLASSES = (ClassText("abba", ("bead",)), ClassText("dee", (), "a deed"))


@pytest.fixture
def checkpoint_dir(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "checkpoint"
    vectors = LetterEncoder().encode([c.name for c in CLASSES])
    save_checkpoint(folder, CONFIG, AVGZSLNet(CONFIG.network), CLASSES, vectors)
    return folder
