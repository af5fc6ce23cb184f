"""One model as the service runs it: all that is exchanged when another takes its place."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.embedding import ClassText, ClipEmbedder, ForwardedChunk, PreparedChunk, blank_chunk
from service.batching import Batcher, BatchLimits
from service.metrics import Metrics, Stage

Matrix = NDArray[np.float32]
TextT = TypeVar("TextT")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

WAITING_TEXTS = 8192
"""Texts and names that may wait; each takes milliseconds."""


class Engine:
    """An embedder behind one batcher for each kind of input, so that texts never wait for clips.

    Args:
        embedder: the model.
        metrics: where its calls are counted and timed.
        batch_rows: windows of sound and pictures in a batch.
        wait_seconds: how long a chunk may wait for others.
        max_failures, answer_seconds: see `BatchLimits`.
        is_more_coming: whether there will be more chunks than so many.
        on_broken: called with a reason when the model is given up.
    """

    def __init__(
        self,
        embedder: ClipEmbedder,
        metrics: Metrics,
        *,
        batch_rows: int,
        wait_seconds: float,
        max_failures: int,
        answer_seconds: float,
        is_more_coming: Callable[[int], bool],
        on_broken: Callable[[str], None],
    ) -> None:
        self.embedder = embedder
        self.chunks: Batcher[PreparedChunk, ForwardedChunk] = Batcher(
            "chunks of clips",
            _counted(metrics, "forward", "windows", embedder.forward, rows=_chunk_rows),
            rows=_chunk_rows,
            limits=BatchLimits(batch_rows, None, wait_seconds, max_failures, answer_seconds),
            good_item=embedder.prepare(blank_chunk(embedder.decode_spec)),
            is_more_coming=is_more_coming,
            on_broken=on_broken,
        )
        # Texts come whole, so there is none to wait for: those that come while the model works on
        # others are a batch.
        limits = BatchLimits(batch_rows, WAITING_TEXTS, 0.0, max_failures, answer_seconds)
        self.texts: Batcher[Sequence[str], Matrix] = Batcher(
            "texts",
            _counted(metrics, "embed_texts", "texts", _joined(embedder.embed_texts), rows=len),
            rows=len,
            limits=limits,
            good_item=("a dog barks",),
            on_broken=on_broken,
        )
        self.classes: Batcher[Sequence[ClassText], Matrix] = Batcher(
            "class names",
            _counted(metrics, "embed_texts", "names", _joined(embedder.embed_classes), rows=len),
            rows=len,
            limits=limits,
            good_item=(ClassText("a dog barks"),),
            on_broken=on_broken,
        )

    @property
    def is_healthy(self) -> bool:
        """Whether each batcher's last call that tells anything of the model succeeded."""
        return all(b.is_healthy for b in (self.chunks, self.texts, self.classes))

    def checks(self) -> tuple["Future[ForwardedChunk]", "Future[Matrix]", "Future[Matrix]"]:
        """Send sound, a picture, a text and a name through the batchers."""
        return self.chunks.check(), self.texts.check(), self.classes.check()

    def warm_up(self) -> None:
        """Run every path once, through the batchers. Raises what the model raises."""
        # The batchers first: they notice a model that never answers.
        for check in self.checks():
            check.result()
        self.embedder.warm_up()

    def close(self) -> None:
        """Stop the batchers."""
        for batcher in (self.chunks, self.texts, self.classes):
            batcher.close()


def _chunk_rows(prepared: PreparedChunk) -> int:
    return prepared.rows


def _counted(
    metrics: Metrics,
    stage: Stage,
    kind: str,
    forward: Callable[[Sequence[ItemT]], Sequence[ResultT]],
    *,
    rows: Callable[[ItemT], int],
) -> Callable[[Sequence[ItemT]], Sequence[ResultT]]:
    """Have each call of the model counted and timed."""

    def counted(items: Sequence[ItemT]) -> Sequence[ResultT]:
        with metrics.batch(stage, kind, sum(map(rows, items))):
            return forward(items)

    return counted


def _joined(
    embed: Callable[[Sequence[TextT]], Matrix],
) -> Callable[[Sequence[Sequence[TextT]]], Sequence[Matrix]]:
    """Make of a function of texts one of several requests' texts."""

    def joined(requests: Sequence[Sequence[TextT]]) -> Sequence[Matrix]:
        vectors = embed([text for request in requests for text in request])
        ends = np.cumsum([len(request) for request in requests])
        return np.split(vectors, ends[:-1])

    return joined
