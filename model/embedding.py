"""What an embedder returns, and what the service expects of one (the real one or the fake)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.config import Calibration
from model.media.limits import MediaLimits
from model.media.types import ClipSummary, ModalityChoice
from model.vectors import Vector


@dataclass(frozen=True, slots=True)
class WindowEmbedding:
    """One window [start_seconds, end_seconds): a unit vector (D,) float32 per modality present."""

    start_seconds: float
    end_seconds: float
    audio: Vector | None
    video: Vector | None


@dataclass(frozen=True, slots=True)
class ClipEmbedding:
    """A clip's windows, its clip-level unit vectors (normalised means), and what was used."""

    windows: tuple[WindowEmbedding, ...]
    audio: Vector | None
    video: Vector | None
    summary: ClipSummary


@dataclass(frozen=True, slots=True)
class ClassText:
    """The words of one class."""

    name: str
    synonyms: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class VocabularyEntry:
    """A class that the checkpoint was trained on, with its unit embedding (D,) float32."""

    name: str
    synonyms: tuple[str, ...]
    description: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What `/model` tells of the model that answers."""

    model_id: str
    head: str
    audio_backbone: str
    video_backbone: str
    text_encoder: str
    embedding_dim: int
    device: str


class ClipEmbedder(Protocol):
    """Clips and texts -> unit vectors in one space. Methods may be called from several threads."""

    card: ModelCard
    calibration: Calibration

    def vocabulary(self) -> tuple[VocabularyEntry, ...]:
        """Return the classes that the checkpoint was trained on."""
        ...

    def embed_clip(
        self, path: Path, *, limits: MediaLimits, modality: ModalityChoice = "auto"
    ) -> ClipEmbedding:
        """Decode and embed a file. Raises a subclass of `model.errors.MediaError`."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences as they are: (len(texts), D) float32."""
        ...

    def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        """Embed classes, each as one vector of all its words: (len(classes), D) float32."""
        ...

    def warm_up(self) -> None:
        """Run every path once, so that the first request is as quick as the next."""
        ...
