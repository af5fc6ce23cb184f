"""The obvious vector store: one NumPy matrix, every product computed. The oracle of the others."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.types import StoreStatus
from index.vector_file import VectorFileHeader, read_own_vectors, write_vector_file
from index.vector_store import Ids, Vectors, check_ids, check_pairs, check_search


class _State(NamedTuple):
    """Ids (N,) int64 ascending and their vectors (N, dim) float32; never changed in place."""

    ids: Ids
    vectors: Vectors


class ExactStore:
    """A `VectorStore` that copies everything on each write, so that readers need no lock."""

    def __init__(self, *, dim: int, model_id: str, name: str) -> None:
        self.dim = dim
        self.model_id = model_id
        self.name = name
        self._state = _State(np.empty(0, np.int64), np.empty((0, dim), np.float32))

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Insert or replace. Raises ValueError for a wrong shape, dtype or a value not finite."""
        check_pairs(ids, vectors, self.dim)
        kept = ~np.isin(self._state.ids, ids)
        all_ids = np.concatenate([self._state.ids[kept], ids])
        all_vectors = np.concatenate([self._state.vectors[kept], vectors])
        order = np.argsort(all_ids)
        self._state = _State(all_ids[order], all_vectors[order])

    def filling(self) -> AbstractContextManager[None]:
        """Do nothing: there is no approximate index."""
        return nullcontext()

    def remove(self, ids: Ids) -> int:
        """Delete; return how many of the ids were present."""
        check_ids(ids)
        state = self._state
        gone = np.isin(state.ids, ids)
        self._state = _State(state.ids[~gone], state.vectors[~gone])
        return int(gone.sum())

    def search(
        self, queries: Vectors, k: int, *, allowed: Ids | None = None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return scores (Q, K) float32 and ids (Q, K) int64, best first, equal scores by id."""
        check_search(queries, k, self.dim, allowed)
        ids, vectors = self._state
        if allowed is not None:
            candidate = np.isin(ids, allowed)
            ids, vectors = ids[candidate], vectors[candidate]
        # Doubles make the sum independent of the order of its terms, once rounded to float32.
        scores = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
        # Stable, and the rows are in ascending order of id: so are equal scores.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), ids[order]

    def get(self, ids: Ids) -> Vectors:
        """Return the vectors (N, dim) of ids that are all present. Raises KeyError."""
        check_ids(ids)
        state = self._state
        missing = np.setdiff1d(ids, state.ids)
        if missing.size:
            raise KeyError(f"The {self.name!r} vectors hold no id {missing[0]}.")
        return state.vectors[np.searchsorted(state.ids, ids)]

    @property
    def rounds(self) -> bool:
        """Vectors are kept whole."""
        return False

    def rounded(self, vectors: Vectors) -> Vectors:
        """Return vectors (N, dim) as they are held: these."""
        return vectors

    def count(self) -> int:
        """How many vectors are held."""
        return len(self._state.ids)

    def describe(self) -> StoreStatus:
        """Say that every vector is compared with."""
        return StoreStatus(kind="exact", vectors=self.count(), recall=1.0, training=False)

    def save(self, path: Path, *, generation: int) -> None:
        """Write the state to a vector file. Raises OSError."""
        ids, vectors = self._state
        header = VectorFileHeader(self.name, self.model_id, self.dim, len(ids), generation)
        write_vector_file(path, header, ids, vectors)

    def load(self, path: Path) -> int:
        """Replace the state by a file's and return its generation. Raises ValueError."""
        generation, ids, vectors = read_own_vectors(
            path, name=self.name, model_id=self.model_id, dim=self.dim
        )
        self._state = _State(ids, vectors)
        return generation

    def close(self) -> None:
        """Do nothing: all of it lies in the process's memory."""
