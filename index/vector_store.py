"""The contract between the library and whatever holds its vectors."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index.types import StoreStatus

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]


class VectorStore(Protocol):
    """A set of (id, vector) pairs that answers nearest-neighbour questions.

    The contract, which every registered store is tested against:

    - A store is made by `Store(dim=..., model_id=..., name=...)`, a placed one (see
      `index.registry.Entry`) also by where, and is then empty; only `load` brings an earlier state
      back. `name` says which vectors these are, so that one set is never loaded as another.
    - Vectors are `(N, dim) float32`, finite. They need not be of unit length. Ids are `(N,) int64`,
      non-negative, distinct within a call, and chosen by the caller (the catalogue's row ids).
    - Similarity is the inner product; **higher is closer**. Results come best first; equal scores
      come in ascending order of id.
    - `add` with an id already present replaces its vector; `remove` of an absent id is no error.
    - `add` and `remove` are atomic: a concurrent `search` sees all of a call's change or none of
      it, and sees it as soon as the call has returned.
    - Any number of threads may call `search`, `count` and `get` while one other thread writes.
    - `search` returns min(k, number of candidates) columns, never padding.
    - A search finds the nearest. Beyond some number of vectors a store not made `exact` (see
      `Entry`) may use an approximate index, which finds most of them; `describe` says which, and
      its recall as measured. What is found has its exact score, and searches among `allowed` ids
      or for all candidates are exact still. While such an index is made, the store answers and is
      written to as before; where that fails, it goes on without.
    - A store that `rounds` keeps vectors less exactly than they were added: `get` returns them as
      `rounded` does, and scores are of these. Whoever needs exact ones asks for more results than
      it wants, and compares with the whole vectors, which the catalogue has.
    - A store is a cache: it may be thrown away and rebuilt from the catalogue at any time. `save`
      writes elsewhere, syncs, then renames, so a crash leaves the old file or the new one.
    - A store whose vectors lie outside of this process may besides raise StorageError from every
      method, where they cannot be reached. After one from `add` or `remove` its state is unknown:
      it must be rebuilt. Atomic is meant towards the readers of the same store object.
    """

    dim: int
    model_id: str
    name: str

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Insert or replace. Raises ValueError for a wrong shape, dtype or a value not finite."""
        ...

    def filling(self) -> AbstractContextManager[None]:
        """Say that many additions follow: an approximate index is made once they are complete.

        A store that keeps vectors rounded so that the whole ones need not fit may make it before.
        """
        ...

    def remove(self, ids: Ids) -> int:
        """Delete; return how many of the ids were present. Raises ValueError for a wrong dtype."""
        ...

    def search(
        self, queries: Vectors, k: int, *, allowed: Ids | None = None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Find the k nearest of each query, among `allowed` ids only where given.

        Returns scores (Q, K) float32 and ids (Q, K) int64, K = min(k, candidates). Ids in `allowed`
        that the store does not hold are no candidates. Raises ValueError as `add` does, and for
        k < 1.
        """
        ...

    def get(self, ids: Ids) -> Vectors:
        """Return the vectors of ids that are all present, in that order. Raises KeyError."""
        ...

    @property
    def rounds(self) -> bool:
        """Whether vectors are kept rounded; that may change with their number."""
        ...

    def rounded(self, vectors: Vectors) -> Vectors:
        """Return what `get` would of vectors (N, dim) that were added now; these, if whole."""
        ...

    def count(self) -> int:
        """How many vectors are held."""
        ...

    def describe(self) -> StoreStatus:
        """Say how searches are answered, and how well."""
        ...

    def save(self, path: Path, *, generation: int) -> None:
        """Write the state to a file with a checksum, the model id and its generation.

        That is a non-negative integer, however large, by which the caller tells states apart.
        Raises OSError where the disk refuses; the old file is then still there.
        """
        ...

    def load(self, path: Path) -> int:
        """Replace the state by a file's and return its generation.

        Raises ValueError where the file is missing, corrupt, or of another name, model or
        dimension; the state is then unchanged.
        """
        ...

    def close(self) -> None:
        """Stop work in the background; let go of what lies outside the process's memory.

        What was saved stays. Allowed more than once; nothing else is called afterwards.
        """
        ...


def check_ids(ids: Ids) -> None:
    """Raise ValueError unless `ids` is (N,) int64, non-negative."""
    if ids.dtype != np.int64 or ids.ndim != 1:
        raise ValueError(f"ids must be (N,) int64; got {ids.shape} {ids.dtype}.")
    if ids.size and ids.min() < 0:
        raise ValueError(f"ids must be non-negative; got {ids.min()}.")


def check_vectors(vectors: Vectors, dim: int) -> None:
    """Raise ValueError unless `vectors` is (N, dim) float32, finite."""
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ValueError(
            f"vectors must be (N, {dim}) float32; got {vectors.shape} {vectors.dtype}."
        )
    if not np.isfinite(vectors).all():
        raise ValueError("vectors must be finite; got NaN or infinity.")


def check_pairs(ids: Ids, vectors: Vectors, dim: int) -> None:
    """Raise ValueError unless `ids` (N,) are distinct and go with `vectors` (N, dim)."""
    check_ids(ids)
    check_vectors(vectors, dim)
    if len(ids) != len(vectors):
        raise ValueError(f"each vector needs an id; got {len(ids)} ids, {len(vectors)} vectors.")
    if len(np.unique(ids)) != len(ids):
        raise ValueError("the ids of one call must be distinct; got a repeated id.")


def check_search(queries: Vectors, k: int, dim: int, allowed: Ids | None) -> None:
    """Raise ValueError unless a search's arguments keep the contract."""
    check_vectors(queries, dim)
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}.")
    if allowed is not None:
        check_ids(allowed)
