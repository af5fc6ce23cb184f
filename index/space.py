"""One model's rows and the vectors made of them: what a change of model swaps as a whole.

The vectors are those of one moment of the catalogue; `follow` brings them to the latest by the
log of changes, whoever made these, this process or another that shares the catalogue.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from index.catalogue import Catalogue
from index.catalogue_reader import BATCH_ROWS, CatalogueReader
from index.catalogue_records import Moment
from index.clip_labels import ClipLabels
from index.errors import VectorStoreUnavailable
from index.label_index import LabelIndex
from index.segment_index import SegmentIndex
from index.types import ModalityWeights
from index.vector_cache import VectorCache
from index.vector_indexes import (
    build_labels,
    build_segments,
    load_indexes,
    reweighed_segments,
)
from index.vector_store import VectorStore

REFUSED_SECONDS = 2.0
"""How long a vector store that was out of reach is not asked again."""


class Space:
    """The catalogue as one model's, whose vectors are (dim,), and its indexes."""

    labels: LabelIndex
    clip_labels: ClipLabels
    segments: SegmentIndex

    def __init__(
        self, catalogue: Catalogue, cache: VectorCache, *, dim: int, weights: ModalityWeights
    ) -> None:
        """One of `load`, `rebuild` and `prepare` must follow."""
        self.catalogue = catalogue
        self.dim = dim
        self.weights = weights
        self._cache = cache
        self._moment: Moment | None = None
        self._unavailable: VectorStoreUnavailable | None = None
        self._asked_again_at = 0.0

    @property
    def model_id(self) -> str:
        """The model whose rows and vectors these are."""
        return self.catalogue.model_id

    def stores(self) -> dict[str, VectorStore]:
        """Return the vector stores by what they hold: `labels`, `both`, `audio`, `video`."""
        stores: dict[str, VectorStore] = {"labels": self.labels.store}
        stores.update(self.segments.stores.items())
        return stores

    def load(self) -> None:
        """Take the vectors as saved and changed since, rebuilt where that is not known."""
        with self.catalogue.read() as reader:
            labels, self.segments = load_indexes(reader, self._cache, self.weights)
            self._use(labels)
            self._moment = reader.moment()

    def prepare(self) -> None:
        """Make the segments' indexes of rows that are not in use yet; `complete` must follow."""
        with self.catalogue.read() as reader:
            self.segments = build_segments(reader, self._cache, self.weights)

    def complete(self, reader: CatalogueReader) -> None:
        """Bring what `prepare` made to what a transaction sees, and make the labels.

        Raises ModelMismatch where the rows are not in use even now.
        """
        reader.check_model()
        # No row changes but by its coming and going, and no id is given twice.
        changed = np.setxor1d(self.segments.windows.rows().ids, reader.segment_ids()).tolist()
        if changed:
            vectors = reader.vectors_of_segments(changed)
            self.segments.publish(changed, vectors, reader.windows_of_segments(changed))
        self._use(build_labels(reader, self._cache))
        self._moment = reader.moment()

    def is_behind(self) -> bool:
        """Whether the catalogue was written to since. Raises StorageError."""
        with self.catalogue.read() as reader:
            return reader.moment() != self._moment

    def follow(self) -> None:
        """Take over what was committed since, or rebuild where that is not known; by one thread.

        The next call makes good for one that failed: it does the same again where the store was out
        of reach, since rows are put and deleted by their ids, and else rebuilds. For
        `REFUSED_SECONDS` such a store is not asked at all: those who wait in line would each wait
        until it does not answer.

        Raises ModelMismatch where another process has changed the model, StorageError, or whatever
        a vector store raises.
        """
        if self._unavailable is not None and time.monotonic() < self._asked_again_at:
            raise VectorStoreUnavailable(str(self._unavailable)) from self._unavailable
        try:
            self._follow()
        except VectorStoreUnavailable as error:
            self._unavailable, self._asked_again_at = error, time.monotonic() + REFUSED_SECONDS
            raise
        self._unavailable = None

    def _follow(self) -> None:
        with self.catalogue.read() as reader:
            changes = None
            if self._moment is not None:
                changes = reader.changes_after(self._moment)
            if changes is None:
                self.rebuild(reader)
                return
            latest = reader.moment()
            if changes.classes:
                labels, vectors = reader.labels(), reader.vectors_of_labels(changes.classes)
                with self._publishing():
                    self.labels.publish(labels, changes.classes, vectors)
            # As much as was missed by a replica that was cut off would not fit at once.
            for start in range(0, len(changes.segments), BATCH_ROWS):
                rows = changes.segments[start : start + BATCH_ROWS]
                segments = reader.vectors_of_segments(rows)
                windows = reader.windows_of_segments(rows)
                with self._publishing():
                    self.segments.publish(rows, segments, windows)
        self._moment = latest

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        """Remember the moment unless a store fails: then nobody knows what it holds.

        One that was out of reach is as it was, or has taken some rows that it will be given again.
        """
        known, self._moment = self._moment, None
        try:
            yield
        except VectorStoreUnavailable:
            self._moment = known
            raise
        self._moment = known

    def rebuild(self, reader: CatalogueReader) -> None:
        """Make the vectors anew from what a transaction sees. Raises ModelMismatch."""
        reader.check_model()
        self._use(build_labels(reader, self._cache))
        self.segments = build_segments(reader, self._cache, self.weights)
        self._moment = reader.moment()

    def reweighing(
        self, reader: CatalogueReader, weights: ModalityWeights
    ) -> Callable[[], VectorStore | None]:
        """Make the store of both modalities anew by other weights, as of what a transaction sees.

        Nobody may write until what is returned was called: that puts it in use, and returns the
        former store, which the caller closes; None where the weights make no difference. Raises
        ModelMismatch, StorageError.
        """
        reader.check_model()
        segments = reweighed_segments(reader, self._cache, self.segments, weights)

        def take_over() -> VectorStore | None:
            former, self.segments = self.segments, segments
            self.weights = weights
            self._use(self.labels)
            return None if former is segments else former.stores["both"]

        return take_over

    def _use(self, labels: LabelIndex) -> None:
        self.labels, self.clip_labels = labels, ClipLabels(labels, self.weights)

    def save(self) -> None:
        """Save the vectors for `load`, unless it is not known what they hold."""
        if self._moment is not None:
            self._cache.save(self.stores().values(), self.segments.windows, moment=self._moment)

    def close(self) -> None:
        """Close the vector stores; the catalogue is its opener's to close."""
        self._cache.close()
