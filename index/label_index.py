"""The enabled classes and their vectors, in step with each other."""

from collections.abc import Mapping, Sequence

import numpy as np

from index.catalogue_records import Label
from index.names import name_key
from index.read_write_lock import ReadWriteLock
from index.types import LabelScores, Vector
from index.vector_store import Ids, Vectors, VectorStore


class LabelIndex:
    """Scores queries against all enabled classes.

    A reader sees a class's name and its vector as one change made them, never one new and one old.
    """

    def __init__(self, store: VectorStore, labels: Sequence[Label]) -> None:
        self.store = store
        self._lock = ReadWriteLock()
        # Tells the labels of one change from those of the next.
        self._version = 0
        self._rows: dict[str, int] | None = None
        self._set_labels(labels)

    def publish(
        self, labels: Sequence[Label], changed: Sequence[int], new: Mapping[int, Vector]
    ) -> None:
        """Show readers these labels; `new` are the vectors of the `changed` rows that have one."""
        gone = np.array([row for row in changed if row not in new], np.int64)
        with self._lock.writing():
            self.store.remove(gone)
            if new:
                self.store.add(np.array(list(new), np.int64), np.stack(list(new.values())))
            self._set_labels(labels)

    def similarities(self, queries: Vectors) -> LabelScores:
        """Return the similarity of queries (Q, D) float32 to every label."""
        with self._lock.reading():
            row_ids, names, seen = self._row_ids, self._names, self._seen
            scores, ids = self.store.search(queries, max(1, len(row_ids)))
        similarity = np.empty((len(queries), len(row_ids)), np.float32)
        # The store answers best first; the caller wants the labels' own order.
        np.put_along_axis(similarity, np.searchsorted(row_ids, ids), scores, axis=1)
        # Rounding can carry the product of two unit vectors just past 1.
        return LabelScores(names, seen, similarity.clip(-1, 1))

    def nearest(self, queries: Vectors) -> tuple[int, Ids]:
        """Return the version and the row of each query's (Q, D) nearest label.

        Of no query, where there are no labels.
        """
        with self._lock.reading():
            return self._version, self.store.search(queries, 1)[1].ravel()

    def named(self, key: str) -> tuple[int, int | None]:
        """Return the version and the row of the label whose name has this key, None without one."""
        with self._lock.reading():
            if self._rows is None:
                keys = map(name_key, self._names)
                self._rows = dict(zip(keys, self._row_ids.tolist(), strict=True))
            return self._version, self._rows.get(key)

    def _set_labels(self, labels: Sequence[Label]) -> None:
        self._version += 1
        self._rows = None
        self._row_ids = np.array([label.row_id for label in labels], np.int64)
        self._names = tuple(label.name for label in labels)
        self._seen = np.array([label.seen for label in labels], np.bool_)
        self._seen.flags.writeable = False
