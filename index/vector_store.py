"""The contract between the library and whatever holds its vectors."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]


class VectorStore(Protocol):
    """A set of (id, vector) pairs that answers nearest-neighbour questions.

    The contract, which every registered store is tested against:

    - Vectors are `(N, dim) float32`, finite. They need not be of unit length. Ids are `(N,) int64`,
      non-negative and chosen by the caller (the catalogue's row ids).
    - Similarity is the inner product; **higher is closer**. Results come best first; equal scores
      come in ascending order of id.
    - `add` with an id already present replaces its vector; `remove` of an absent id is not an error.
    - `add` and `remove` are atomic: a concurrent `search` sees all of a call's change or none of it,
      and sees it as soon as the call has returned.
    - Any number of threads may call `search`, `count` and `get` while one other thread writes.
    - `search` returns min(k, number of candidates) columns, never padding.
    - A store is a cache: it may be thrown away and rebuilt from the catalogue at any time. `save`
      writes elsewhere, syncs, then renames, so a crash leaves the old file or the new one.
    """

    dim: int
    model_id: str

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Insert or replace. Raises ValueError for a wrong shape, dtype or a value not finite."""
        ...

    def remove(self, ids: Ids) -> int:
        """Delete; return how many of the ids were present."""
        ...

    def search(
        self, queries: Vectors, k: int, *, allowed: Ids | None = None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Find the k nearest of each query, among `allowed` ids only where given.

        Returns scores (Q, K) float32 and ids (Q, K) int64, K = min(k, candidates).
        """
        ...

    def get(self, ids: Ids) -> Vectors:
        """Return the vectors of ids that are all present, in that order. Raises KeyError."""
        ...

    def count(self) -> int:
        """How many vectors are held."""
        ...

    def save(self, path: Path, *, generation: int) -> None:
        """Write the state to a file with a checksum, the model id and the catalogue's generation."""
        ...

    def load(self, path: Path) -> int:
        """Replace the state by a file's and return its generation.

        Raises ValueError where the file is missing, corrupt, or of another model or dimension.
        """
        ...
