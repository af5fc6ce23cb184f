"""The directory of saved vectors: read and brought up to date, else made anew from the catalogue.

They are as old as the last clean close. What the catalogue's log tells since is put in; where that
does not lead from the moment of a file to now, the file is not used.
"""

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from index.catalogue_records import Moment, WindowRows
from index.durable import make_directory, storage_errors
from index.errors import StorageError
from index.registry import create_store, is_placed
from index.segment_windows import SegmentWindows
from index.vector_store import Ids, Vectors, VectorStore
from index.window_file import WINDOWS, read_window_file, write_window_file

VALUE_TOLERANCE = 1e-6
"""How far a number of a saved vector may be off: the weights in a store's name are rounded."""

TOKEN_BITS = 64

logger = logging.getLogger(__name__)


class StoreChange(NamedTuple):
    """The ids (N,) to be taken out of a store, and the ids (M,) and vectors (M, D) to be put in."""

    gone: Ids
    ids: Ids
    vectors: Vectors


Rows = Callable[[], Iterable[Any]]
"""Yields rows part by part, in whatever form the reader gives them."""


@dataclass(frozen=True, slots=True)
class StoreContent:
    """What the store of a name must hold.

    Attributes:
        name: the store's.
        rows: yields all rows; stores whose `rows` are equal are filled by reading them once.
        matrix: returns the ids (N,) int64 and vectors (N, D) float32 of a part that it must hold.
        changes: yields what it must hold more or less than at a moment, None where nobody knows.
        exact: whether it never uses an approximate index.
    """

    name: str
    rows: Rows
    matrix: Callable[[Any], tuple[Ids, Vectors]]
    changes: Callable[[Moment], Iterable[StoreChange] | None]
    exact: bool

    def batches(self) -> Iterator[tuple[Ids, Vectors]]:
        """Yield the ids and vectors of each part that has any."""
        for part in self.rows():
            ids, vectors = self.matrix(part)
            if ids.size:
                yield ids, vectors


class WindowContent(NamedTuple):
    """What the windows of all segments are; `changes` says which rows are changed, and to what.

    It returns None where nobody knows what changed since a moment.
    """

    rows: Callable[[], WindowRows]
    changes: Callable[[Moment], tuple[Ids, WindowRows] | None]


class VectorCache:
    """Makes the vector stores of one kind, for one model's vectors (D,), and saves them.

    Beside them lie the windows of the segments whose vectors they are.
    """

    def __init__(self, directory: Path, *, kind: str, dim: int, model_id: str) -> None:
        self._directory = directory
        self._kind = kind
        self._dim = dim
        self._model_id = model_id
        self._made: weakref.WeakSet[VectorStore] = weakref.WeakSet()

    def open(self, contents: Sequence[StoreContent], *, moment: Moment) -> list[VectorStore]:
        """Return the saved stores, brought to this moment, and new ones where that cannot be.

        Raises ValueError for an unknown kind, ImportError where its package is missing,
        StorageError where its vectors lie out of reach.
        """
        stores = [self._empty(content) for content in contents]
        # Side by side: most of it is checksums, during which Python does something else.
        with ThreadPoolExecutor(len(stores), thread_name_prefix="load-vectors") as pool:
            loaded = list(pool.map(self._load, stores))
        unusable = [
            content
            for store, found, content in zip(stores, loaded, contents, strict=True)
            if not self._bring_up_to_date(store, found, content, moment)
        ]
        built = {store.name: store for store in self.build(unusable)}
        return [built.get(store.name, store) for store in stores]

    def open_windows(self, content: WindowContent, *, moment: Moment) -> SegmentWindows:
        """Return the windows as saved and brought to this moment, else as the rows have them."""
        try:
            generation, rows = read_window_file(self._path(WINDOWS), model_id=self._model_id)
        except ValueError as error:
            reason = str(error)
        else:
            found = _moment(generation)
            windows = SegmentWindows(rows)
            if found == moment:
                return windows
            changes = content.changes(found)
            if changes is not None:
                windows.replace(*changes)
                return windows
            reason = _unknown(found, moment)
        windows = SegmentWindows(content.rows())
        # A new library has neither a file nor windows, which is nothing to report.
        if self._path(WINDOWS).exists() or len(windows):
            logger.info("Rebuilding the %r from the catalogue: %s", WINDOWS, reason)
        return windows

    def build(self, contents: Sequence[StoreContent]) -> list[VectorStore]:
        """Return new stores that hold the contents; rows of which several are made are read once.

        Raises what `open` does.
        """
        made = [(content, self._empty(content)) for content in contents]
        by_rows: dict[Rows, list[tuple[StoreContent, VectorStore]]] = {}
        for content, store in made:
            by_rows.setdefault(content.rows, []).append((content, store))
        for rows, group in by_rows.items():
            _fill(rows(), group)
        return [store for _, store in made]

    def save(
        self, stores: Iterable[VectorStore], windows: SegmentWindows, *, moment: Moment
    ) -> None:
        """Save these stores and windows, and forget all other stores.

        What cannot be saved is logged; the next `open` will bring the former file up to date.
        """
        try:
            make_directory(self._directory)
            write_window_file(
                self._path(WINDOWS),
                windows.rows(),
                model_id=self._model_id,
                generation=_number(moment),
            )
        except OSError as error:
            logger.warning("The windows were not saved; the next start takes longer: %s", error)
        names = {WINDOWS}
        for store in stores:
            names.add(store.name)
            try:
                make_directory(self._directory)
                store.save(self._path(store.name), generation=_number(moment))
            except (OSError, StorageError) as error:
                logger.warning(
                    "The %r vectors were not saved; the next start takes longer: %s",
                    store.name,
                    error,
                )
        for name in set(self.saved()) - names:
            # Of other weights, perhaps; as large as those that are in use.
            with suppress(StorageError):
                self.forget(name)

    def saved(self) -> list[str]:
        """Return the names of the stores that are saved, and `WINDOWS` where these are."""
        return sorted(path.stem for path in self._directory.glob("*.vectors"))

    def problem(self, content: StoreContent, *, moment: Moment) -> str | None:
        """Say how a saved store, brought to this moment, differs from the content; None if not.

        Raises StorageError where its vectors lie out of reach.
        """
        store = self._empty(content)
        try:
            found = _moment(store.load(self._path(content.name)))
            if found != moment:
                changes = content.changes(found)
                if changes is None:
                    return _unknown(found, moment)
                if is_placed(self._kind):
                    return None  # Only who opens the library may write there.
                _apply(store, changes)
            return _difference(store, content.batches())
        except ValueError as error:
            return str(error)
        finally:
            store.close()

    def windows_problem(self, content: WindowContent, *, moment: Moment) -> str | None:
        """Say how saved windows, brought to this moment, differ from the rows; None if not."""
        try:
            generation, rows = read_window_file(self._path(WINDOWS), model_id=self._model_id)
        except ValueError as error:
            return str(error)
        found, windows = _moment(generation), SegmentWindows(rows)
        if found != moment:
            changes = content.changes(found)
            if changes is None:
                return _unknown(found, moment)
            windows.replace(*changes)
        expected = SegmentWindows(content.rows()).rows()
        same = all(map(np.array_equal, windows.rows(), expected))
        return None if same else "they are not those of the catalogue's segments"

    def forget(self, name: str) -> None:
        """Delete what is saved of a name. Raises StorageError."""
        with storage_errors(f"delete the saved {name!r} vectors"):
            self._path(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Close every store that was made, also those that were replaced meanwhile."""
        for store in list(self._made):
            store.close()

    def _load(self, store: VectorStore) -> Moment | ValueError:
        """Return the moment that a store was saved at, or why there is none."""
        try:
            return _moment(store.load(self._path(store.name)))
        except ValueError as error:
            return error

    def _bring_up_to_date(
        self,
        store: VectorStore,
        found: Moment | ValueError,
        content: StoreContent,
        moment: Moment,
    ) -> bool:
        """Apply what a loaded store lacks; where it must be built, say why, and return False."""
        if isinstance(found, ValueError):
            reason = str(found)
        else:
            if is_placed(self._kind):
                # From now on the file does not say what is there: that changes with each write.
                self.forget(content.name)
            changes = [] if found == moment else content.changes(found)
            if changes is not None:
                _apply(store, changes)
                return True
            reason = _unknown(found, moment)
        # A new library has neither a file nor vectors, which is nothing to report.
        if self._path(content.name).exists() or any(True for _ in content.batches()):
            logger.info("Rebuilding the %r vectors from the catalogue: %s", content.name, reason)
        return False

    def _empty(self, content: StoreContent) -> VectorStore:
        store = create_store(
            self._kind,
            dim=self._dim,
            model_id=self._model_id,
            name=content.name,
            directory=self._directory,
            exact=content.exact,
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


def _fill(parts: Iterable[Any], stores: Sequence[tuple[StoreContent, VectorStore]]) -> None:
    with ExitStack() as filling:
        for _, store in stores:
            filling.enter_context(store.filling())
        for part in parts:
            for content, store in stores:
                ids, vectors = content.matrix(part)
                if ids.size:
                    store.add(ids, vectors)


def _apply(store: VectorStore, changes: Iterable[StoreChange]) -> None:
    for change in changes:
        if change.gone.size:
            store.remove(change.gone)
        if change.ids.size:
            store.add(change.ids, change.vectors)


def _number(moment: Moment) -> int:
    """Return the one number by which a store's file names a moment."""
    return moment.generation << TOKEN_BITS | (moment.token or 0)


def _moment(number: int) -> Moment:
    generation, token = divmod(number, 1 << TOKEN_BITS)
    return Moment(generation, token or None)


def _unknown(found: Moment, moment: Moment) -> str:
    return (
        f"they are of generation {found.generation}, from which the log does not lead to the "
        f"catalogue's generation {moment.generation}."
    )


def _difference(store: VectorStore, batches: Iterable[tuple[Ids, Vectors]]) -> str | None:
    """Say how a store differs from what `batches` yields, None where it does not."""
    expected = 0
    for ids, vectors in batches:
        expected += len(ids)
        try:
            held = store.get(ids)
        except KeyError as error:
            return str(error.args[0])
        expected_vectors = store.rounded(np.ascontiguousarray(vectors))
        different = ~np.isclose(held, expected_vectors, atol=VALUE_TOLERANCE).all(axis=1)
        if different.any():
            return f"the vector of the id {ids[different][0]} is another than the catalogue's"
    if store.count() != expected:
        return f"they are {store.count()}, the catalogue has {expected}"
    return None
