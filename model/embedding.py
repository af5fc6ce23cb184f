"""What an embedder returns, and what the service expects of one (the real one or the fake)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.config import Calibration
from model.media.clip import ClipReader
from model.media.limits import MediaLimits
from model.media.types import ClipChunk, ClipSummary, DecodeSpec, ModalityChoice
from model.vectors import Vector, mean_vector


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
    """What `/model` tells of the model that answers.

    `space_id` is of its vectors alone: models of one space differ in how they answer only.
    """

    model_id: str
    space_id: str
    head: str
    audio_backbone: str
    video_backbone: str
    text_encoder: str
    embedding_dim: int
    device: str


@dataclass(frozen=True, slots=True)
class PreparedChunk:
    """A chunk ready for the device.

    Attributes:
        chunk: the decoded chunk; its windows give the rows their meaning.
        audio: (Na, ...) stacked inputs of the windows that have sound.
        frames: (F, ...) stacked inputs of the pictures.
        frame_rows: for each window that has pictures, the rows of `frames` that lie in it.
    """

    chunk: ClipChunk
    audio: NDArray[np.generic] | None
    frames: NDArray[np.generic] | None
    frame_rows: tuple[NDArray[np.intp], ...]

    @property
    def rows(self) -> int:
        """How many inputs go through a backbone: Na + F."""
        return sum(len(inputs) for inputs in (self.audio, self.frames) if inputs is not None)


@dataclass(frozen=True, slots=True)
class ForwardedChunk:
    """Embeddings (Na, D) and (Nv, D) float32 of the windows that have each modality."""

    chunk: ClipChunk
    audio: NDArray[np.float32]
    video: NDArray[np.float32]


class DescribedModel(Protocol):
    """What can be known of a model where it does not run."""

    @property
    def card(self) -> ModelCard:
        """What `/model` tells of it."""
        ...

    @property
    def calibration(self) -> Calibration:
        """How its similarities become answers."""
        ...

    @property
    def decode_spec(self) -> DecodeSpec:
        """How a clip has to be decoded."""
        ...

    def vocabulary(self) -> tuple[VocabularyEntry, ...]:
        """Return the classes that the checkpoint was trained on."""
        ...


class ClipEmbedder(DescribedModel, Protocol):
    """Clips and texts -> unit vectors in one space. Methods may be called from several threads.

    A clip goes through three phases, chunk by chunk: `prepare` on the CPU, `forward` on the device,
    which takes the chunks of several clips at once, and `finish` in NumPy.
    """

    def prepare(self, chunk: ClipChunk) -> PreparedChunk:
        """Phase 1, CPU: the backbones' inputs of the windows that have each modality."""
        ...

    def forward(self, prepared: Sequence[PreparedChunk]) -> list[ForwardedChunk]:
        """Phase 2, device: the embeddings of some chunks, in their order. Raises OutOfMemory."""
        ...

    def finish(self, forwarded: ForwardedChunk) -> list[WindowEmbedding]:
        """Phase 3, NumPy: unit vectors back to the chunk's windows."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences as they are: (len(texts), D) float32. Raises OutOfMemory."""
        ...

    def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        """Embed classes, each as one vector of all its words: (len(classes), D) float32.

        Raises OutOfMemory.
        """
        ...

    def warm_up(self) -> None:
        """Run every path once, so that the first request is as quick as the next."""
        ...


def embed_file(
    embedder: ClipEmbedder, path: Path, *, limits: MediaLimits, modality: ModalityChoice = "auto"
) -> ClipEmbedding:
    """Decode and embed a file in this process, chunk by chunk, so that memory does not grow.

    Raises:
        MediaError, OutOfMemory: see `model.errors`.
    """
    reader = ClipReader(path, embedder.decode_spec, limits, modality)
    windows: list[WindowEmbedding] = []
    for chunk in reader.chunks():
        for forwarded in embedder.forward([embedder.prepare(chunk)]):
            windows.extend(embedder.finish(forwarded))
    return whole_clip(windows, reader.summary())


def frame_rows(chunk: ClipChunk) -> tuple[NDArray[np.intp], ...]:
    """For each window that has pictures, the rows of `chunk.frames` that lie in it."""
    return tuple(
        np.flatnonzero((chunk.frame_times >= start) & (chunk.frame_times < end))
        for (start, end), present in zip(chunk.windows, chunk.has_video, strict=True)
        if present
    )


def of_windows(
    chunk: ClipChunk, audio: NDArray[np.float32], video: NDArray[np.float32]
) -> list[WindowEmbedding]:
    """Give the rows of `audio` (Na, D) and `video` (Nv, D) to the windows that have each."""
    sounds, pictures = iter(audio), iter(video)
    return [
        WindowEmbedding(
            start,
            end,
            next(sounds) if has_audio else None,
            next(pictures) if has_video else None,
        )
        for (start, end), has_audio, has_video in zip(
            chunk.windows, chunk.has_audio, chunk.has_video, strict=True
        )
    ]


def whole_clip(windows: Sequence[WindowEmbedding], summary: ClipSummary) -> ClipEmbedding:
    """Put all windows of a clip together: its own vectors are the normalised means of theirs."""
    return ClipEmbedding(
        windows=tuple(windows),
        audio=mean_vector([w.audio for w in windows if w.audio is not None]),
        video=mean_vector([w.video for w in windows if w.video is not None]),
        summary=summary,
    )


def blank_chunk(spec: DecodeSpec) -> ClipChunk:
    """One window of silence and a black picture that count as present: enough to run the model."""
    one = np.ones(1, np.bool_)
    return ClipChunk(
        windows=((0.0, spec.window_seconds),),
        waveforms=np.zeros((1, round(spec.sample_rate * spec.window_seconds)), np.float32),
        has_audio=one,
        frames=np.zeros((1, spec.frame_size, spec.frame_size, 3), np.uint8),
        frame_times=np.zeros(1),
        has_video=one,
    )
