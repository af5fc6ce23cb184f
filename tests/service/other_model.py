"""A second model for tests of the change to another one."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.embedding import ClassText, ForwardedChunk, PreparedChunk, WindowEmbedding
from model.errors import EncryptedMedia
from model.fake import FakeEmbedder
from model.media.types import ClipChunk

OTHER_DIM = 6


class OtherEmbedder(FakeEmbedder):
    """Another model: the fake's first numbers backwards, of unit length."""

    def __init__(self, vocabulary: Sequence[str] = ("dog", "kettle")) -> None:
        super().__init__(vocabulary)
        self.card = dataclasses.replace(
            self.card, model_id="other", space_id="other", embedding_dim=OTHER_DIM
        )
        self.failing = False

    def prepare(self, chunk: ClipChunk) -> PreparedChunk:
        if self.failing and chunk.waveforms is not None and chunk.waveforms.any():
            raise EncryptedMedia("the file is encrypted")
        return super().prepare(chunk)

    def finish(self, forwarded: ForwardedChunk) -> list[WindowEmbedding]:
        return [
            dataclasses.replace(w, audio=shortened(w.audio), video=shortened(w.video))
            for w in super().finish(forwarded)
        ]

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([shortened(v) for v in super().embed_texts(texts)], np.float32)

    def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        return np.array([shortened(v) for v in super().embed_classes(classes)], np.float32)


def shortened(vector: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    if vector is None:
        return None
    part = vector[:OTHER_DIM][::-1]
    return (part / np.linalg.norm(part)).astype(np.float32)
