"""From files and texts to vectors, off the event loop and never more at a time than there is room.

The only place where requests reach the model. A clip goes through a decoding process, chunk by
chunk into the model's batcher, and is put together again here.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.types import ModalityRecord, NewClass, NewClip, Segment
from model.embedding import (
    ClassText,
    ClipEmbedding,
    DescribedModel,
    ForwardedChunk,
    PreparedChunk,
    WindowEmbedding,
    whole_clip,
)
from model.media.limits import MediaLimits
from model.media.tasks import ClipHead, ClipTail, decode_clip
from model.media.types import ModalityChoice, ModalityUse
from service.cancellation import Cancellation, WorkCancelled
from service.engine import Engine
from service.intake import Intake
from service.observation import Observation

logger = logging.getLogger(__name__)

Vector = NDArray[np.float32]

THUMBNAIL_SIZE = 320
"""Length in pixels of a thumbnail's longer side."""

CHUNKS_AHEAD = 2
"""Chunks of one clip that wait for the model before its decoder has to wait too."""


@dataclass(frozen=True, slots=True)
class DecodeProgress:
    """How far a clip is decoded, in seconds, and what its header says it lasts, true or not."""

    decoded_seconds: float
    declared_seconds: float | None


OnProgress = Callable[[DecodeProgress], None]


class Pipeline:
    """Embeds clips and texts by one model; texts never wait behind clips.

    Args:
        engine: the model.
        intake: what accepts and decodes clips, for this model and others.
        observation: what is told of the work.
    """

    def __init__(self, engine: Engine, intake: Intake, observation: Observation) -> None:
        self._observation = observation
        self._engine = engine
        self._intake = intake

    @property
    def engine(self) -> Engine:
        """The model behind its batchers."""
        return self._engine

    @property
    def intake(self) -> Intake:
        """What accepts and decodes its clips."""
        return self._intake

    async def embed_clip(
        self,
        path: Path,
        *,
        modality: ModalityChoice = "auto",
        on_progress: OnProgress | None = None,
        limits: MediaLimits | None = None,
    ) -> ClipEmbedding:
        """Decode and embed a file; cancelled, its decoder is stopped and nothing more is run.

        Args:
            path: the media file.
            modality: what is used of it.
            on_progress: called after each chunk, in a thread.
            limits: what it may cost; by default what any upload may.

        Raises:
            MediaError, Overloaded, OutOfMemory, ModelFailed.
        """
        work = partial(
            self._embed_decoded,
            path,
            limits or self._intake.limits,
            modality=modality,
            on_progress=on_progress,
        )
        embedding, _ = await self._see_through(work)
        return embedding

    async def embed_clip_with_thumbnail(
        self,
        path: Path,
        *,
        on_progress: OnProgress | None = None,
        limits: MediaLimits | None = None,
    ) -> tuple[ClipEmbedding, bytes | None]:
        """Decode and embed a file, and draw its thumbnail; otherwise as `embed_clip`."""
        work = partial(
            self._embed_decoded,
            path,
            limits or self._intake.limits,
            thumbnail_size=THUMBNAIL_SIZE,
            on_progress=on_progress,
        )
        return await self._see_through(work)

    def embed_clip_waiting(self, path: Path, *, limits: MediaLimits) -> ClipEmbedding:
        """Decode and embed a file in the calling thread, for work that has threads of its own.

        Raises:
            MediaError, OutOfMemory, ModelFailed.
        """
        embedding, _ = self._embed_decoded(path, limits, cancellation=Cancellation())
        return embedding

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences as they are, (len(texts), D) float32.

        Raises:
            Overloaded, OutOfMemory, ModelFailed.
        """
        if not texts:
            return self._no_vectors()
        with self._observation.tracing.span("embed_texts"):
            return await asyncio.wrap_future(self._engine.texts.submit(texts))

    async def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        """Embed classes, (len(classes), D) float32. Raises as `embed_texts` does."""
        if not classes:
            return self._no_vectors()
        with self._observation.tracing.span("embed_texts"):
            return await asyncio.wrap_future(self._engine.classes.submit(classes))

    async def _see_through(
        self, work: Callable[..., tuple[ClipEmbedding, bytes | None]]
    ) -> tuple[ClipEmbedding, bytes | None]:
        def observed(cancellation: Cancellation) -> tuple[ClipEmbedding, bytes | None]:
            with self._observation.timed("embed"):
                return work(cancellation=cancellation)

        return await self._intake.clips.run(observed)

    def _submit(self, prepared: PreparedChunk) -> Future[ForwardedChunk]:
        future = self._engine.chunks.submit(prepared)
        # With the wait for its batch: other requests' chunks are in it too.
        end_span = self._observation.tracing.start("forward")
        future.add_done_callback(lambda _: end_span())
        return future

    def _embed_decoded(
        self,
        path: Path,
        limits: MediaLimits,
        *,
        modality: ModalityChoice = "auto",
        thumbnail_size: int | None = None,
        on_progress: OnProgress | None = None,
        cancellation: Cancellation,
    ) -> tuple[ClipEmbedding, bytes | None]:
        """See one clip through, waiting: its embedding, and its thumbnail where one is asked for.

        Raises:
            MediaError, OutOfMemory, ModelFailed, WorkCancelled.
        """
        embedder = self._engine.embedder
        windows: list[WindowEmbedding] = []
        ahead: deque[Future[ForwardedChunk]] = deque()
        declared: float | None = None
        items = self._observation.timed_items(
            "decode",
            self._intake.decoder.stream(
                decode_clip,
                *(path, limits, embedder.decode_spec, modality, thumbnail_size),
                silence_seconds=limits.decode_timeout_seconds,
                cancellation=cancellation,
            ),
        )
        try:
            while True:
                try:
                    item = next(items)
                except StopIteration as stop:
                    tail: ClipTail = stop.value
                    break
                if isinstance(item, ClipHead):
                    declared = item.declared_duration_seconds
                    continue
                ahead.append(self._submit(embedder.prepare(item)))
                if on_progress is not None:
                    on_progress(DecodeProgress(item.windows[-1][1], declared))
                if len(ahead) > CHUNKS_AHEAD:
                    windows += embedder.finish(_result(ahead.popleft(), cancellation))
            for future in ahead:
                windows += embedder.finish(_result(future, cancellation))
        finally:
            items.close()
            for future in ahead:
                future.cancel()
        if tail.thumbnail_failure is not None:
            logger.info("no thumbnail: %s", tail.thumbnail_failure)
        return whole_clip(windows, tail.summary), tail.thumbnail

    def _no_vectors(self) -> NDArray[np.float32]:
        return np.zeros((0, self._engine.embedder.card.embedding_dim), np.float32)


def _result(future: Future[ForwardedChunk], cancellation: Cancellation) -> ForwardedChunk:
    """Wait for the model; a chunk of a clip that nobody waits for is dropped before its turn."""
    with cancellation.calling(future.cancel):
        try:
            return future.result()
        except CancelledError:
            raise WorkCancelled from None


def vocabulary_classes(model: DescribedModel) -> list[NewClass]:
    """Return the classes that the model was trained on, as the library stores them."""
    return [
        NewClass(entry.name, entry.vector, entry.synonyms, entry.description, seen=True)
        for entry in model.vocabulary()
    ]


def new_clip(
    embedding: ClipEmbedding,
    *,
    filename: str,
    content_type: str,
    tags: Sequence[str],
    thumbnail: bytes | None,
    source: str | None,
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
        source=source,
    )


def _record(use: ModalityUse) -> ModalityRecord:
    return ModalityRecord(use.used, use.reason)
