"""A deterministic stand-in for the embedder: real decoding, hashed vectors, no torch, no weights.

For API tests, and for developers of clients: answers have the right shapes, limits and errors and
come at once, but mean nothing.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.config import Calibration
from model.embedding import ClassText, ClipEmbedding, ModelCard, VocabularyEntry, WindowEmbedding
from model.media.clip import ClipReader
from model.media.limits import MediaLimits
from model.media.types import ClipChunk, DecodeSpec, ModalityChoice
from model.vectors import Vector, mean_vector

DIM = 16
SPEC = DecodeSpec(
    sample_rate=16_000, window_seconds=4.0, hop_seconds=2.0, frames_per_second=2.0, frame_size=32
)


def hashed_vector(key: bytes) -> Vector:
    """Unit vector (DIM,) float32 that depends on `key` alone."""
    seed = int.from_bytes(hashlib.sha256(key).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector))


class FakeEmbedder:
    """Implements `ClipEmbedder` with hashes; equal content gives equal vectors."""

    def __init__(self, vocabulary: Sequence[str] = ("dog", "rain", "speech")) -> None:
        self._names = tuple(vocabulary)
        self.calibration = Calibration()
        self.card = ModelCard(
            model_id="fake",
            head="fake",
            audio_backbone="fake",
            video_backbone="fake",
            text_encoder="fake",
            embedding_dim=DIM,
            device="cpu",
        )

    def vocabulary(self) -> tuple[VocabularyEntry, ...]:
        """Return the names given at construction."""
        vectors = self.embed_classes([ClassText(name) for name in self._names])
        return tuple(
            VocabularyEntry(name, (), "", vector)
            for name, vector in zip(self._names, vectors, strict=True)
        )

    def embed_clip(
        self, path: Path, *, limits: MediaLimits, modality: ModalityChoice = "auto"
    ) -> ClipEmbedding:
        """Decode for real, then hash each window's samples and pixels."""
        reader = ClipReader(path, SPEC, limits, modality)
        windows = [w for chunk in reader.chunks() for w in _hashed_windows(chunk)]
        return ClipEmbedding(
            windows=tuple(windows),
            audio=mean_vector([w.audio for w in windows if w.audio is not None]),
            video=mean_vector([w.video for w in windows if w.video is not None]),
            summary=reader.summary(),
        )

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Hash each text, ignoring case."""
        return _hashed_texts(texts)

    def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        """Hash each name, ignoring case; synonyms and description do not count."""
        return _hashed_texts([c.name for c in classes])

    def warm_up(self) -> None:
        """Nothing to warm."""


def _hashed_windows(chunk: ClipChunk) -> Iterator[WindowEmbedding]:
    for row, (start, end) in enumerate(chunk.windows):
        audio = video = None
        if chunk.waveforms is not None and chunk.has_audio[row]:
            audio = hashed_vector(chunk.waveforms[row].tobytes())
        if chunk.frames is not None and chunk.has_video[row]:
            inside = (chunk.frame_times >= start) & (chunk.frame_times < end)
            video = hashed_vector(chunk.frames[inside].tobytes())
        yield WindowEmbedding(start, end, audio, video)


def _hashed_texts(texts: Sequence[str]) -> NDArray[np.float32]:
    vectors = [hashed_vector(text.casefold().encode()) for text in texts]
    return np.array(vectors, np.float32).reshape(-1, DIM)
