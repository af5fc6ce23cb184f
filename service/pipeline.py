"""From files and texts to vectors, off the event loop and never more at a time than there is room.

The only place where requests reach the model.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.types import ModalityRecord, NewClass, NewClip, Segment
from model.embedding import ClassText, ClipEmbedder, ClipEmbedding, embed_file
from model.errors import MediaError
from model.media.clip import thumbnail
from model.media.limits import MediaLimits
from model.media.types import ModalityChoice, ModalityUse
from service.pool import BoundedPool

logger = logging.getLogger(__name__)

Vector = NDArray[np.float32]

TEXT_THREADS = 2
TEXTS_WAITING = 256

THUMBNAIL_SIZE = 320
"""Length in pixels of a thumbnail's longer side."""


class Pipeline:
    """Embeds clips and texts in threads of its own; texts never wait behind clips."""

    def __init__(
        self, embedder: ClipEmbedder, limits: MediaLimits, *, decode_threads: int, queue_size: int
    ) -> None:
        self._embedder = embedder
        self._limits = limits
        self._clips = BoundedPool("clip", threads=decode_threads, waiting=queue_size)
        self._texts = BoundedPool("text", threads=TEXT_THREADS, waiting=TEXTS_WAITING)

    def require_room(self) -> None:
        """Raise Overloaded if a clip that came now would be refused."""
        self._clips.require_room()

    async def embed_clip(self, path: Path, *, modality: ModalityChoice = "auto") -> ClipEmbedding:
        """Decode and embed a file. Raises MediaError, Overloaded."""
        return await self._clips.run(
            lambda: embed_file(self._embedder, path, limits=self._limits, modality=modality)
        )

    async def embed_clip_with_thumbnail(self, path: Path) -> tuple[ClipEmbedding, bytes | None]:
        """Decode and embed a file, and draw its thumbnail. Raises MediaError, Overloaded."""

        def work() -> tuple[ClipEmbedding, bytes | None]:
            embedding = embed_file(self._embedder, path, limits=self._limits)
            return embedding, self._thumbnail(path)

        return await self._clips.run(work)

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences as they are, (len(texts), D) float32. Raises Overloaded."""
        return await self._texts.run(lambda: self._embedder.embed_texts(texts))

    async def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        """Embed classes, (len(classes), D) float32. Raises Overloaded."""
        return await self._texts.run(lambda: self._embedder.embed_classes(classes))

    def _thumbnail(self, path: Path) -> bytes | None:
        try:
            return thumbnail(path, self._limits, THUMBNAIL_SIZE)
        except MediaError as error:
            # The clip itself could be read: it is worth storing without a picture to show.
            logger.info("no thumbnail: %s", error)
            return None

    def close(self) -> None:
        """Wait for what is being worked on and stop the threads."""
        self._clips.close()
        self._texts.close()


def vocabulary_classes(embedder: ClipEmbedder) -> list[NewClass]:
    """Return the classes that the model was trained on, as the library stores them."""
    return [
        NewClass(entry.name, entry.vector, entry.synonyms, entry.description, seen=True)
        for entry in embedder.vocabulary()
    ]


def new_clip(
    embedding: ClipEmbedding,
    *,
    filename: str,
    content_type: str,
    tags: Sequence[str],
    thumbnail: bytes | None,
) -> NewClip:
    """Turn what the model says of a file into what the library stores."""
    summary = embedding.summary
    return NewClip(
        filename=filename,
        content_type=content_type,
        duration_seconds=summary.duration_seconds,
        segments=tuple(
            Segment(w.start_seconds, w.end_seconds, w.audio, w.video) for w in embedding.windows
        ),
        audio=embedding.audio,
        video=embedding.video,
        modalities={"audio": _record(summary.audio), "video": _record(summary.video)},
        tags=tuple(tags),
        warnings=summary.warnings,
        thumbnail=thumbnail,
    )


def _record(use: ModalityUse) -> ModalityRecord:
    return ModalityRecord(use.used, use.reason)
