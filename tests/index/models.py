"""Models to change to: vectors that depend on the model's id and on what is embedded, no more."""

import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import ClipUnusable
from index.types import (
    ClassName,
    Clip,
    ModalityRecord,
    ModalityWeights,
    NewClass,
    NewClip,
    Segment,
    Vector,
)
from tests.index.builders import unit

UNUSABLE = b"unusable"


class HashedModel:
    """Hashes media and words; clips whose media begin with `UNUSABLE` it cannot embed."""

    def __init__(
        self,
        model_id: str,
        dim: int,
        vocabulary: Sequence[str] = (),
        *,
        before_clip: Callable[[Clip], None] = lambda clip: None,
    ) -> None:
        self.model_id = model_id
        self.dim = dim
        self.weights = ModalityWeights()
        self.vocabulary = [
            NewClass(name, self.class_vector(name), seen=True) for name in vocabulary
        ]
        self.clips_embedded = 0
        self._before_clip = before_clip
        self._counting = threading.Lock()

    def class_vector(
        self, name: str, synonyms: Sequence[str] = (), description: str = ""
    ) -> Vector:
        """Return a class's vector (dim,)."""
        return self._hashed("\n".join([name, *synonyms, description]).encode())

    def clip_vector(self, media: bytes) -> Vector:
        """Return the vector (dim,) of a clip's sound; it has no pictures."""
        return self._hashed(media)

    def new_clip(self, media: bytes, filename: str = "clip.mp4") -> NewClip:
        """Return what adding a clip by this model stores: two windows, of sound only."""
        vector = self.clip_vector(media)
        return NewClip(
            filename=filename,
            content_type="video/mp4",
            duration_seconds=float(self.dim),
            segments=(Segment(0.0, 1.0, vector, None), Segment(1.0, 2.0, vector, None)),
            audio=vector,
            video=None,
            modalities={
                "audio": ModalityRecord(True),
                "video": ModalityRecord(False, f"{self.model_id} sees nothing"),
            },
            warnings=(f"by {self.model_id}",),
        )

    def embed_clip(self, media: Path, clip: Clip) -> NewClip:
        self._before_clip(clip)
        with self._counting:
            self.clips_embedded += 1
        content = media.read_bytes()
        if content.startswith(UNUSABLE):
            raise ClipUnusable("It is no film.")
        return self.new_clip(content, clip.filename)

    def embed_classes(self, classes: Sequence[ClassName]) -> NDArray[np.float32]:
        vectors = [self.class_vector(c.name, c.synonyms, c.description) for c in classes]
        return np.array(vectors, np.float32)

    def _hashed(self, content: bytes) -> Vector:
        return unit(zlib.crc32(self.model_id.encode() + content), self.dim)
