"""The default vector store: FAISS in memory, exact while it is small, trained once it is not."""

import ctypes
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index.faiss_flat import FlatIndex
from index.faiss_ivf import CHUNK, IvfIndex, Stopped, Training
from index.read_write_lock import ReadWriteLock
from index.sorted_ids import NO_IDS, distinct
from index.sorted_rows import SortedRows
from index.types import StoreStatus
from index.vector_file import VectorFileHeader, open_vector_file, write_sections
from index.vector_store import Ids, Vectors, check_ids, check_pairs, check_search

logger = logging.getLogger(__name__)

TRAIN_AT = 50_000
"""Vectors beyond which an exact search takes more than some 5 ms of a core (384 dimensions)."""

RECALL = 0.99

REGROWTH = 2
"""An index is trained anew once it holds this many times what it was trained on."""

SHRINKAGE = 4
"""An index is trained anew once it holds this part of what it was trained on."""

FEW_ALLOWED = 100
"""Where one in so many vectors is allowed, or fewer, they are taken out and compared with."""

FEW_CHANGES = 100
"""Changes that a new index may lack when writers are kept waiting for it."""

SPARSE_IDS = 64
"""Ids are not marked in a bitmap where only one in so many is wanted."""

Ask = Callable[[int], tuple[NDArray[np.float32], Ids]]
"""Returns so many best scores and ids of each query."""


class FaissStore:
    """A `VectorStore` over `FlatIndex`, and beyond `train_at` vectors over `IvfIndex`.

    The second is trained by a thread of its own while the first goes on to answer, is brought up
    to date, and takes its place between two searches. A training that fails is logged. The second
    of a `quantised` store keeps a byte for each number.

    FAISS allows concurrent readers but no reader beside a writer, hence the lock.
    """

    def __init__(
        self,
        *,
        dim: int,
        model_id: str,
        name: str,
        exact: bool = False,
        train_at: int = TRAIN_AT,
        recall: float = RECALL,
        quantised: bool = False,
    ) -> None:
        self.dim = dim
        self.model_id = model_id
        self.name = name
        self._exact = exact
        self._train_at = train_at
        self._recall = recall
        self._quantised = quantised
        self._lock = ReadWriteLock()
        self._index: FlatIndex | IvfIndex = FlatIndex(dim)
        # FAISS would scan all its ids to tell whether one is present.
        self._held = SortedRows.of(NO_IDS)
        self._trainer: threading.Thread | None = None
        self._trained_at = 0
        # What the index in training lacks.
        self._changed: set[int] = set()
        self._unwanted = threading.Event()
        self._filling = False

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Insert or replace. Raises ValueError for a wrong shape, dtype or a value not finite."""
        check_pairs(ids, vectors, self.dim)
        if self._filling:
            self.wait_for_training()
        faiss.omp_set_num_threads(1)
        replaced = ids[self._held.contains(ids)]
        held = self._held.with_rows(ids)
        with self._lock.writing():
            if replaced.size:
                self._index.remove(replaced)
            self._index.add(ids, vectors)
            self._note(held, ids)
        if not self._filling or self._quantised:
            self._train_if_outgrown()

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Train no index before the end, when it would be of too few vectors.

        But a quantised one is for vectors that would not fit whole: `add` has it trained on the
        way, and waits for that before it adds more.
        """
        self._filling = True
        try:
            yield
        finally:
            self._filling = False
        self._train_if_outgrown()

    def remove(self, ids: Ids) -> int:
        """Delete; return how many of the ids were present."""
        check_ids(ids)
        gone = distinct(ids[self._held.contains(ids)])
        if gone.size:
            held = self._held.without_ids(gone)
            with self._lock.writing():
                self._index.remove(gone)
                self._note(held, gone)
            self._train_if_outgrown()
        return len(gone)

    def search(
        self, queries: Vectors, k: int, *, allowed: Ids | None = None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return scores (Q, K) float32 and ids (Q, K) int64, best first, equal scores by id."""
        check_search(queries, k, self.dim, allowed)
        # Searches already run side by side, one a caller's thread; a team of threads in each waits
        # for itself on a busy machine. OpenMP keeps the number per thread, hence here.
        faiss.omp_set_num_threads(1)
        wanted = None if allowed is None else distinct(allowed)
        with self._lock.reading():
            held = len(self._held)
            candidates = None if wanted is None else wanted[self._held.contains(wanted)]
            count = held if candidates is None else len(candidates)
            k = min(k, count)
            if not len(queries) or not k:
                return np.empty((len(queries), 0), np.float32), np.empty(
                    (len(queries), 0), np.int64
                )
            ask: Ask
            if candidates is None:
                ask = partial(self._index.search, queries, k, selector=None)
            elif count * FEW_ALLOWED <= held:
                ask = partial(self._compare, queries, candidates)
            else:
                selector = _selector(candidates)
                ask = partial(self._index.search, queries, k, selector=selector)
            scores, found = _past_ties(ask, k, count)
        order = np.lexsort((found, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(found, order, axis=1)

    def _compare(self, queries: Vectors, ids: Ids, reach: int) -> tuple[NDArray[np.float32], Ids]:
        """Return the `reach` best scores and ids of queries among ids (N,) that are all held."""
        best: list[tuple[NDArray[np.float32], Ids]] = []
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]
            scores, places = faiss.knn(
                queries,
                self._index.vectors(part),
                min(reach, len(part)),
                metric=faiss.METRIC_INNER_PRODUCT,
            )
            best.append((scores, part[places]))
        scores, found = (np.concatenate(parts, axis=1) for parts in zip(*best, strict=True))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :reach]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(found, order, axis=1)

    def get(self, ids: Ids) -> Vectors:
        """Return the vectors (N, dim) of ids that are all present. Raises KeyError."""
        check_ids(ids)
        with self._lock.reading():
            missing = ids[~self._held.contains(ids)]
            if missing.size:
                raise KeyError(f"The {self.name!r} vectors hold no id {missing.min()}.")
            return self._index.vectors(ids)

    @property
    def rounds(self) -> bool:
        """Whether vectors are kept rounded by now."""
        return self._index.training is not None and self._quantised

    def rounded(self, vectors: Vectors) -> Vectors:
        """Return what `get` would of vectors (N, dim) that were added now."""
        return self._index.rounded(vectors)

    def count(self) -> int:
        """How many vectors are held."""
        return len(self._held)

    def describe(self) -> StoreStatus:
        """Say how searches are answered."""
        with self._lock.reading():
            return StoreStatus(
                kind=self._index.kind,
                vectors=len(self._held),
                recall=self._index.recall,
                training=self._trainer is not None,
            )

    def save(self, path: Path, *, generation: int) -> None:
        """Write the state, a trained index as such, to a vector file. Raises OSError."""
        with self._lock.reading():
            training = self._index.training
            header = VectorFileHeader(
                self.name,
                self.model_id,
                self.dim,
                len(self._held),
                generation,
                None if training is None else training.as_json(),
            )
            write_sections(path, header, self._index.sections())

    def load(self, path: Path) -> int:
        """Replace the state by a file's and return its generation. Raises ValueError."""
        faiss.omp_set_num_threads(1)
        with open_vector_file(path, name=self.name, model_id=self.model_id, dim=self.dim) as reader:
            index: FlatIndex | IvfIndex
            trained = reader.header.trained
            if trained is None:
                index, ids = FlatIndex.read(reader)
            elif self._exact:
                raise ValueError(f"{path.name} holds a trained index; expected an exact one.")
            else:
                training = Training.from_json(trained)
                if (training.greatest is not None) != self._quantised:
                    raise ValueError(f"{path.name} holds an index of another kind ({trained}).")
                index, ids = IvfIndex.read(reader, training)
            reader.end()
            generation = reader.header.generation
        self._stop_training()
        with self._lock.writing():
            self._index = index
            self._held = SortedRows.of(ids)
            self._trained_at = 0 if index.training is None else index.training.count
        self._train_if_outgrown()
        return generation

    def close(self) -> None:
        """Stop a training under way; start none any more."""
        self._exact = True
        self._stop_training()

    def wait_for_training(self) -> None:
        """Return once no training is under way."""
        trainer = self._trainer
        if trainer is not None:
            trainer.join()

    # Training

    def _train_if_outgrown(self) -> None:
        if self._trainer is None and self._outgrown():
            # No daemon: the interpreter would end, and crash, in the middle of a FAISS call. It
            # waits for this thread instead, which notices (`_check`).
            self._trainer = threading.Thread(target=self._train, name=f"train-{self.name}")
            try:
                self._trainer.start()
            except RuntimeError:
                logger.exception("No thread to train an index of the %r vectors.", self.name)
                self._trainer, self._trained_at = None, len(self._held)

    def _stop_training(self) -> None:
        self._unwanted.set()
        self.wait_for_training()
        self._unwanted.clear()

    def _train(self) -> None:
        faiss.omp_set_num_threads(1)
        try:
            while True:
                with self._lock.writing():
                    if not self._outgrown():
                        self._trainer = None
                        return
                    ids = self._held.ids
                    self._changed = set()
                    # A size that failed is not tried again either.
                    self._trained_at = len(ids)
                self._swap_in(self._trained(ids))
                _return_memory()
        except Exception as error:
            if not isinstance(error, Stopped):
                logger.exception("The index of the %r vectors could not be trained.", self.name)
            with self._lock.writing():
                self._trainer = None

    def _outgrown(self) -> bool:
        count = len(self._held)
        if self._exact:
            return False
        worth_less = self._index.training is not None and self._trained_at >= self._train_at
        if worth_less and count * SHRINKAGE <= self._trained_at:
            return True
        return count >= max(self._train_at, REGROWTH * self._trained_at)

    def _check(self) -> None:
        if self._unwanted.is_set() or not threading.main_thread().is_alive():
            raise Stopped

    def _trained(self, ids: Ids) -> FlatIndex | IvfIndex:
        """Return an index, of the kind that their number asks for, of these ids' vectors.

        What was rounded once stays so, and in an index that says so, however few are left.
        """
        if len(ids) >= self._train_at or self.rounds:
            return IvfIndex.build(
                ids,
                self._fetch,
                recall=self._recall,
                check=self._check,
                quantised=self._quantised,
                former=self._index.training,
            )
        index = FlatIndex(self.dim)
        for start in range(0, len(ids), CHUNK):
            self._check()
            held, vectors = self._fetch(ids[start : start + CHUNK])
            index.add(held, vectors)
        return index

    def _swap_in(self, index: FlatIndex | IvfIndex) -> None:
        """Bring an index up to date, the last few changes while nobody else has the lock."""
        while True:
            self._check()
            with self._lock.writing():
                changed, self._changed = np.array(sorted(self._changed), np.int64), set()
                if len(changed) <= FEW_CHANGES:
                    index.remove(changed)
                    index.add(*self._pairs(changed))
                    # Freeing the old one takes a while, which is for when the lock is released.
                    _old, self._index = self._index, index
                    return
            for start in range(0, len(changed), CHUNK):
                part = changed[start : start + CHUNK]
                index.remove(part)
                index.add(*self._fetch(part))

    def _fetch(self, ids: Ids) -> tuple[Ids, Vectors]:
        """Return those of ids that are held, in their order, and their vectors."""
        with self._lock.reading():
            return self._pairs(ids)

    def _pairs(self, ids: Ids) -> tuple[Ids, Vectors]:
        held = ids[self._held.contains(ids)]
        return held, self._index.vectors(held)

    def _note(self, held: SortedRows, changed: Ids) -> None:
        self._held = held
        if self._trainer is not None:
            self._changed.update(changed.tolist())


class QuantisedFaissStore(FaissStore):
    """A `FaissStore` that keeps a byte for each number once it is large."""

    def __init__(self, *, dim: int, model_id: str, name: str, exact: bool = False) -> None:
        super().__init__(dim=dim, model_id=model_id, name=name, exact=exact, quantised=True)


def _return_memory() -> None:
    """Give the system back what the old index took: glibc keeps it, as much as all vectors."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _selector(ids: Ids) -> faiss.IDSelector:
    """Return what tells FAISS whether an id is one of these (N,), which ascend."""
    if ids[-1] > SPARSE_IDS * len(ids):
        return faiss.IDSelectorBatch(ids)
    # Row ids are mostly in close order: a bit for each answers twice as fast as a hash table.
    bits = np.zeros(ids[-1] + 1, np.bool_)
    bits[ids] = True
    bitmap: Any = np.packbits(bits, bitorder="little")
    return faiss.IDSelectorBitmap(bitmap)  # type: ignore[call-arg]


def _past_ties(ask: Ask, k: int, most: int) -> tuple[NDArray[np.float32], Ids]:
    """Return at least the k best of each query, and all that tie with the k-th.

    FAISS keeps an arbitrary few of the ids that tie for the last places; asking for more until
    the tie is broken lets the caller choose the lowest.
    """
    reach = k
    while True:
        reach = min(2 * reach, most)
        scores, ids = ask(reach)
        # Padding: the query has no more candidates.
        complete = (ids[:, -1] < 0) | (scores[:, k - 1] > scores[:, -1])
        if reach == most or complete.all():
            return scores, ids
