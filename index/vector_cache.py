"""The directory of saved vectors: read where they match the catalogue, else made anew from it."""

import logging
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from index.durable import make_directory, storage_errors
from index.errors import StorageError
from index.registry import create_store
from index.vector_store import Ids, Vectors, VectorStore

VALUE_TOLERANCE = 1e-6
"""How far a number of a saved vector may be off: the weights in a store's name are rounded."""

logger = logging.getLogger(__name__)

Batches = Callable[[], Iterable[tuple[Ids, Vectors]]]
"""Yields the ids (N,) int64 and vectors (N, D) float32 that a store must hold, part by part."""


class VectorCache:
    """Makes the vector stores of one kind, for one model's vectors (D,), and saves them."""

    def __init__(self, directory: Path, *, kind: str, dim: int, model_id: str) -> None:
        self._directory = directory
        self._kind = kind
        self._dim = dim
        self._model_id = model_id
        self._made: weakref.WeakSet[VectorStore] = weakref.WeakSet()

    def open(
        self, name: str, batches: Batches, *, generation: int, exact: bool = False
    ) -> VectorStore:
        """Return the saved store if it is of this generation, else a new one from `batches`.

        An `exact` one never uses an approximate index.

        Raises ValueError for an unknown kind, ImportError where its package is missing.
        """
        store = self._empty(name, exact)
        try:
            found = store.load(self._path(name))
        except ValueError as error:
            reason = str(error)
        else:
            if found == generation:
                return store
            reason = f"they are of generation {found}, the catalogue is of {generation}."
        # A new library has neither a file nor vectors, which is nothing to report.
        if self._path(name).exists() or any(True for _ in batches()):
            logger.info("Rebuilding the %r vectors from the catalogue: %s", name, reason)
        return self.build(name, batches, exact=exact)

    def build(self, name: str, batches: Batches, *, exact: bool = False) -> VectorStore:
        """Return a new store that holds what `batches` yields."""
        store = self._empty(name, exact)
        for ids, vectors in batches():
            store.add(ids, vectors)
        return store

    def save(self, stores: Iterable[VectorStore], *, generation: int) -> None:
        """Save stores. One that cannot be saved is logged; the next `open` will rebuild it."""
        for store in stores:
            try:
                make_directory(self._directory)
                store.save(self._path(store.name), generation=generation)
            except (OSError, StorageError) as error:
                logger.warning(
                    "The %r vectors were not saved and will be rebuilt: %s", store.name, error
                )

    def saved(self) -> list[str]:
        """Return the names of the stores that are saved."""
        return sorted(path.stem for path in self._directory.glob("*.vectors"))

    def problem(
        self, name: str, batches: Batches, *, generation: int, exact: bool = False
    ) -> str | None:
        """Say how a saved store differs from what `batches` yields, None where it does not.

        Raises StorageError where its vectors lie out of reach.
        """
        store = self._empty(name, exact)
        try:
            found = store.load(self._path(name))
            if found != generation:
                return f"they are of generation {found}, the catalogue is of {generation}"
            return _difference(store, batches)
        except ValueError as error:
            return str(error)
        finally:
            store.close()

    def forget(self, name: str) -> None:
        """Delete what is saved of a name. Raises StorageError."""
        with storage_errors(f"delete the saved {name!r} vectors"):
            self._path(name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget what is saved.

        Done once the library is open: a catalogue restored from a backup may come to the same
        generation by another way, and must not meet vectors of the first.
        """
        clear_saved_vectors(self._directory)

    def close(self) -> None:
        """Close every store that was made, also those that were replaced meanwhile."""
        for store in list(self._made):
            store.close()

    def _empty(self, name: str, exact: bool) -> VectorStore:
        store = create_store(
            self._kind,
            dim=self._dim,
            model_id=self._model_id,
            name=name,
            directory=self._directory,
            exact=exact,
        )
        self._made.add(store)
        return store

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.vectors"


def clear_saved_vectors(directory: Path) -> None:
    """Delete saved vectors as far as the disk lets us: those that do not fit are made anew."""
    for path in directory.glob("*.vectors"):
        with suppress(OSError):
            path.unlink()


def _difference(store: VectorStore, batches: Batches) -> str | None:
    """Say how a store differs from what `batches` yields, None where it does not."""
    expected = 0
    for ids, vectors in batches():
        expected += len(ids)
        try:
            held = store.get(ids)
        except KeyError as error:
            return str(error.args[0])
        different = ~np.isclose(held, vectors, atol=VALUE_TOLERANCE).all(axis=1)
        if different.any():
            return f"the vector of the id {ids[different][0]} is another than the catalogue's"
    if store.count() != expected:
        return f"they are {store.count()}, the catalogue has {expected}"
    return None
