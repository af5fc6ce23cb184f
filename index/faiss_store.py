"""The default vector store: exact inner products by FAISS, in memory."""

from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from index.read_write_lock import ReadWriteLock
from index.vector_file import VectorFileHeader, read_own_vectors, write_vector_file
from index.vector_store import Ids, Vectors, check_ids, check_pairs, check_search


class FaissStore:
    """A `VectorStore` over `IndexIDMap2(IndexFlatIP)`: exact, and removal gives the memory back.

    FAISS allows concurrent readers but no reader beside a writer, hence the lock.
    """

    def __init__(self, *, dim: int, model_id: str, name: str) -> None:
        self.dim = dim
        self.model_id = model_id
        self.name = name
        self._lock = ReadWriteLock()
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))
        # FAISS would scan all its ids to tell whether one is present.
        self._present: set[int] = set()

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Insert or replace. Raises ValueError for a wrong shape, dtype or a value not finite."""
        check_pairs(ids, vectors, self.dim)
        with self._lock.writing():
            self._remove(ids)
            self._index.add_with_ids(vectors, ids)
            self._present.update(ids.tolist())

    def remove(self, ids: Ids) -> int:
        """Delete; return how many of the ids were present."""
        check_ids(ids)
        with self._lock.writing():
            return self._remove(ids)

    def search(
        self, queries: Vectors, k: int, *, allowed: Ids | None = None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return scores (Q, K) float32 and ids (Q, K) int64, best first, equal scores by id."""
        check_search(queries, k, self.dim, allowed)
        selector = None if allowed is None else faiss.IDSelectorBatch(allowed)
        with self._lock.reading():
            most = len(self._present) if allowed is None else min(len(self._present), len(allowed))
            scores, ids = self._search_past_ties(queries, min(k, most), most, selector)
        order = np.lexsort((ids, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)

    def get(self, ids: Ids) -> Vectors:
        """Return the vectors (N, dim) of ids that are all present. Raises KeyError."""
        check_ids(ids)
        with self._lock.reading():
            missing = set(ids.tolist()) - self._present
            if missing:
                raise KeyError(f"The {self.name!r} vectors hold no id {min(missing)}.")
            return self._vectors(ids)

    def count(self) -> int:
        """How many vectors are held."""
        return len(self._present)

    def save(self, path: Path, *, generation: int) -> None:
        """Write the state to a vector file. Raises OSError."""
        with self._lock.reading():
            ids = np.array(sorted(self._present), np.int64)
            vectors = self._vectors(ids)
        header = VectorFileHeader(self.name, self.model_id, self.dim, len(ids), generation)
        write_vector_file(path, header, ids, vectors)

    def load(self, path: Path) -> int:
        """Replace the state by a file's and return its generation. Raises ValueError."""
        generation, ids, vectors = read_own_vectors(
            path, name=self.name, model_id=self.model_id, dim=self.dim
        )
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(self.dim))
        index.add_with_ids(vectors, ids)
        with self._lock.writing():
            self._index = index
            self._present = set(ids.tolist())
        return generation

    def close(self) -> None:
        """Do nothing: all of it lies in the process's memory."""

    def _remove(self, ids: Ids) -> int:
        gone = self._present.intersection(ids.tolist())
        if gone:
            self._index.remove_ids(faiss.IDSelectorBatch(np.array(list(gone), np.int64)))
            self._present -= gone
        return len(gone)

    def _vectors(self, ids: Ids) -> Vectors:
        if not ids.size:
            return np.empty((0, self.dim), np.float32)
        vectors: Vectors = self._index.reconstruct_batch(ids)
        return vectors

    def _search_past_ties(
        self, queries: Vectors, k: int, most: int, selector: faiss.IDSelector | None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return at least the k best of each query, and all that tie with the k-th.

        FAISS keeps an arbitrary few of the ids that tie for the last places; asking for more until
        the tie is broken lets the caller choose the lowest.
        """
        if not len(queries) or not k:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        parameters = faiss.SearchParameters()
        parameters.sel = selector
        # Searches already run side by side, one a caller's thread; a team of threads in each waits
        # for itself on a busy machine. OpenMP keeps the number per thread, hence here.
        faiss.omp_set_num_threads(1)
        reach = k
        while True:
            reach = min(2 * reach, most)
            scores, ids = self._index.search(queries, reach, params=parameters)
            # Padding (id -1) is alike in all rows: each query has the same candidates.
            found = int((ids[0] >= 0).sum())
            scores, ids = scores[:, :found], ids[:, :found]
            if found <= k or found < reach or reach == most:
                return scores, ids
            if (scores[:, k - 1] > scores[:, -1]).all():
                return scores, ids
