"""What the exact and the trained index have in common."""

from typing import Any

import numpy as np

from index.vector_store import Ids, Vectors


class FaissIndex:
    """A FAISS index (dim,) that keeps ids with vectors; knows neither locks nor threads."""

    def __init__(self, index: Any, dim: int) -> None:
        # Any: the stubs that FAISS brings lack much of what a trained index has.
        self._index = index
        self._dim = dim

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors (N, dim) under ids (N,) that are not held."""
        self._index.add_with_ids(vectors, ids)

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors (N, dim) of ids (N,) that are held."""
        if not ids.size:
            return np.empty((0, self._dim), np.float32)
        vectors: Vectors = self._index.reconstruct_batch(ids)
        return vectors
