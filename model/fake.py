"""A deterministic stand-in for the embedder: real decoding, hashed vectors, no torch, no weights.

For API tests, and for developers of clients: answers have the right shapes, limits and errors and
come at once, but mean nothing.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from model.config import Calibration
from model.embedding import (
    ClassText,
    ForwardedChunk,
    ModelCard,
    PreparedChunk,
    VocabularyEntry,
    WindowEmbedding,
    frame_rows,
    of_windows,
)
from model.media.types import ClipChunk, DecodeSpec
from model.vectors import Vector

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
        self.decode_spec = SPEC
        self.card = ModelCard(
            model_id="fake",
            space_id="fake",
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

    def prepare(self, chunk: ClipChunk) -> PreparedChunk:
        """Pass the samples and pixels on as they are."""
        audio = None if chunk.waveforms is None else chunk.waveforms[chunk.has_audio]
        return PreparedChunk(chunk, audio, chunk.frames, frame_rows(chunk))

    def forward(self, prepared: Sequence[PreparedChunk]) -> list[ForwardedChunk]:
        """Hash each window's samples and pixels."""
        return [
            ForwardedChunk(p.chunk, _hashed([] if p.audio is None else p.audio), _hashed_frames(p))
            for p in prepared
        ]

    def finish(self, forwarded: ForwardedChunk) -> list[WindowEmbedding]:
        """Give each window its own."""
        return of_windows(forwarded.chunk, forwarded.audio, forwarded.video)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Hash each text, ignoring case."""
        return _hashed_texts(texts)

    def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        """Hash each name, ignoring case; synonyms and description do not count."""
        return _hashed_texts([c.name for c in classes])

    def warm_up(self) -> None:
        """Nothing to warm."""


def _hashed(arrays: Iterable[NDArray[np.generic]]) -> NDArray[np.float32]:
    return np.array([hashed_vector(a.tobytes()) for a in arrays], np.float32).reshape(-1, DIM)


def _hashed_frames(prepared: PreparedChunk) -> NDArray[np.float32]:
    frames = prepared.frames
    return _hashed([] if frames is None else [frames[rows] for rows in prepared.frame_rows])


def _hashed_texts(texts: Sequence[str]) -> NDArray[np.float32]:
    vectors = [hashed_vector(text.casefold().encode()) for text in texts]
    return np.array(vectors, np.float32).reshape(-1, DIM)
