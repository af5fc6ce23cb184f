"""The trained index: vectors in lists around centroids, of which a search reads the nearest few."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index.faiss_index import FaissIndex
from index.sorted_ids import NO_IDS
from index.vector_file import Section, VectorFileReader
from index.vector_store import Ids, Vectors

LISTS_PER_ROOT = 2
"""Lists per square root of the vectors. At 1 M in classes, 1000, 2000 and 4000 lists all give a
recall of 0.99 in some 0.25 ms; fewer read larger parts, more take longer to train (47 s for 23)."""

TRAINING_VECTORS = 64
"""Vectors per list that k-means looks at."""

TRAINING_STEPS = 10

SAMPLE_QUERIES = 200
QUERY_NOISE = 1.0
"""Length of the noise in a sample query relative to its vector: cosine 0.7, as between neighbours
of one class."""

MEASURED_K = (10, 20, 40, 80, 160, 320, 640)
"""For each of these, how many lists to probe is measured; beyond, all lists are probed."""

WORTHWHILE = 4
"""Where not one in so many lists suffices, all are probed: hardly slower, and exact."""

CHUNK = 16384
"""Vectors copied at a time while an index is built."""

RANGE_MARGIN = 1.25
"""How much further than any number of the training a rounded one may lie from zero."""

Fetch = Callable[[Ids], tuple[Ids, Vectors]]
"""Returns those of ids (N,) that are still held, and their vectors (M, dim)."""


class Stopped(Exception):
    """The training is no longer wanted."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a training found.

    Attributes:
        count: vectors there were.
        lists: C, how many centroids.
        probes: k -> lists to probe for the k nearest.
        recall: of the 10 nearest by that many lists, against all, over sample queries.
        greatest: numbers of vectors are kept as one of 256 steps from minus this to this; None
            where they are kept whole.
    """

    count: int
    lists: int
    probes: Mapping[int, int]
    recall: float
    greatest: float | None = None

    def lists_for(self, k: int) -> int:
        """How many lists to probe for the k nearest."""
        return next((self.probes[most] for most in sorted(self.probes) if k <= most), self.lists)

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "count": self.count,
            "lists": self.lists,
            "probes": list(self.probes.items()),
            "recall": self.recall,
            "greatest": self.greatest,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Training":
        """Read what `as_json` returned. Raises ValueError where another version did."""
        try:
            return cls(**{**values, "probes": dict(values["probes"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"The training is described by another version: {error}.") from error


class IvfIndex(FaissIndex):
    """`IndexIVFFlat`, or `IndexIVFScalarQuantizer`, with a hash table from id to place.

    The lists of the first hold whole vectors, so scores are exact: what it may miss is a neighbour
    in a list that was not probed. Those of the second hold a byte for each number.
    """

    def __init__(self, centroids: Vectors, *, greatest: float | None) -> None:
        """Make an empty index around centroids (C, dim) of unit length."""
        lists, dim = centroids.shape
        quantizer = faiss.IndexFlatIP(dim)
        quantizer.add(centroids)
        super().__init__(_lists(quantizer, dim, lists, greatest), dim)
        self._centroids = centroids
        self.training = Training(0, lists, {}, 1.0, greatest)

    @property
    def kind(self) -> str:
        """What searches are told to be answered by."""
        return "ivf" if self.training.greatest is None else "ivf-sq8"

    def rounded(self, vectors: Vectors) -> Vectors:
        """Return what is held of vectors (N, dim)."""
        if self.training.greatest is None:
            return vectors
        rounded: Vectors = self._index.sq.decode(self._codes(vectors))
        return rounded

    @classmethod
    def build(
        cls,
        ids: Ids,
        fetch: Fetch,
        *,
        recall: float,
        check: Callable[[], None],
        quantised: bool = False,
        former: Training | None = None,
    ) -> "IvfIndex":
        """Train an index on the vectors of ids (N,), fill it, and choose how many lists to probe.

        The fewest lists are probed that find `recall` of the nearest; 1 means all lists. `check`
        is called every second or so and raises where the index is no longer wanted. A `quantised`
        one rounds to the steps of the `former`, if that did too, so that nothing is rounded twice.
        """
        random = np.random.default_rng(0)
        lists = max(1, min(len(ids), int(LISTS_PER_ROOT * len(ids) ** 0.5)))
        sample = fetch(_sample(ids, TRAINING_VECTORS * lists, random))[1]
        greatest = None
        if quantised:
            greatest = former.greatest if former is not None else None
            greatest = greatest or RANGE_MARGIN * float(np.abs(sample).max(initial=1e-9))
        centroids = _centroids(sample, min(lists, max(1, len(sample))), check)
        index = cls(centroids, greatest=greatest)
        queries = _perturbed(fetch(_sample(ids, SAMPLE_QUERIES, random))[1], random)
        best = _BestScores(queries, MEASURED_K[-1])
        index._fill(ids, fetch, best, check)
        index.training = index._measure(queries, best.scores, recall, check)
        return index

    @property
    def recall(self) -> float:
        """Recall at 10, as measured after the training."""
        return self.training.recall

    def remove(self, ids: Ids) -> None:
        """Delete ids (N,) that are held."""
        self._index.remove_ids(faiss.IDSelectorArray(ids))

    def search(
        self, queries: Vectors, k: int, reach: int, *, selector: faiss.IDSelector | None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return the `reach` best scores and ids of each query, of which the caller wants k.

        Id -1 pads a row that the probed lists did not fill; each holds k or all candidates. Where
        a selector chooses among the ids, every list is probed: the chosen may be anywhere.
        """
        lists = self.training.lists
        probed = lists if selector is not None else self.training.lists_for(k)
        while True:
            scores, ids = self._index.search(queries, reach, params=_probing(probed, selector))
            if probed == lists or (ids[:, k - 1] >= 0).all():
                return scores, ids
            probed = min(4 * probed, lists)

    def sections(self) -> Iterator[Section]:
        """Yield what `read` reads: centroids, lengths of lists, ids, vectors."""
        lists = range(self.training.lists)
        yield [self._centroids]
        yield [np.array([self._length(number) for number in lists], np.int64)]
        yield (self._ids_of(number) for number in lists)
        yield (self._codes_of(number) for number in lists)

    @classmethod
    def read(cls, reader: VectorFileReader, training: Training) -> tuple["IvfIndex", Ids]:
        """Return the index in a file and its ids (N,), ascending. Raises ValueError for damage."""
        centroids = np.empty((training.lists, reader.header.dim), np.float32)
        lengths = np.empty(training.lists, np.int64)
        ids = np.empty(reader.header.count, np.int64)
        for section in (centroids, lengths, ids):
            reader.read_into(section)
            reader.end_section()
        index = cls(centroids, greatest=training.greatest)
        index.training = training
        # Straight to where FAISS keeps them: a copy of all vectors would double the memory.
        for number, part in enumerate(np.split(ids, lengths.cumsum()[:-1])):
            index._index.invlists.resize(number, len(part))
            if part.size:
                index._ids_of(number)[:] = part
                reader.read_into(index._codes_of(number))
        reader.end_section()
        index._filled(len(ids))
        return index, np.sort(ids)

    def _fill(self, ids: Ids, fetch: Fetch, best: "_BestScores", check: Callable[[], None]) -> None:
        """Put vectors into lists that have just the room: grown ones waste a third of it."""
        parts: list[Ids] = [NO_IDS]
        numbers: list[Ids] = [NO_IDS]
        for chunk in _chunks(ids):
            check()
            part, vectors = fetch(chunk)
            parts.append(part)
            if part.size:
                numbers.append(self._index.quantizer.search(vectors, 1)[1][:, 0])
        all_ids, number = np.concatenate(parts), np.concatenate(numbers)
        order = np.argsort(number, kind="stable")
        lengths = np.bincount(number, minlength=self.training.lists)
        count = 0
        for first, last in _spans(lengths):
            check()
            start, end = lengths[:first].sum(), lengths[:last].sum()
            wanted = all_ids[order[start:end]]
            held, vectors = fetch(wanted)
            # What was removed meanwhile is in no list; the caller knows of it.
            of = number[order[start:end]][np.isin(wanted, held, assume_unique=True)]
            # What rounding costs is for the caller to make good, who knows the whole vectors.
            best.update(self.rounded(vectors))
            for list_number in range(first, last):
                low, high = np.searchsorted(of, [list_number, list_number + 1])
                self._append(list_number, held[low:high], vectors[low:high])
            count += len(held)
        self._filled(count)

    def _append(self, number: int, ids: Ids, vectors: Vectors) -> None:
        if ids.size:
            codes = self._codes(vectors)
            self._index.invlists.add_entries(
                number, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(codes)
            )

    def _filled(self, count: int) -> None:
        self._index.ntotal = count
        self._index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]

    def _measure(
        self,
        queries: Vectors,
        best: NDArray[np.float32],
        recall: float,
        check: Callable[[], None],
    ) -> Training:
        """Probe more and more lists until each k is found; `best` (Q, K) are the true scores."""
        lists, count = self.training.lists, self._index.ntotal
        everything = replace(self.training, count=count)
        if recall >= 1 or not best.size:
            return everything
        probes: dict[int, int] = {}
        recall_at_10 = 1.0
        for probed in _steps(lists // WORTHWHILE):
            check()
            scores = self._index.search(queries, best.shape[1], params=_probing(probed))[0]
            for k in MEASURED_K:
                found = _recall(scores[:, :k], best[:, :k])
                if k not in probes and found >= recall:
                    probes[k] = probed
                    recall_at_10 = found if k == MEASURED_K[0] else recall_at_10
            if len(probes) == len(MEASURED_K):
                break
        return replace(everything, probes=probes, recall=recall_at_10)

    def _length(self, number: int) -> int:
        return int(self._index.invlists.list_size(number))

    def _ids_of(self, number: int) -> Ids:
        """Return a list's ids (N,) where FAISS keeps them, without a copy."""
        length = self._length(number)
        if not length:
            return NO_IDS
        ids: Ids = faiss.rev_swig_ptr(self._index.invlists.get_ids(number), length)
        return ids

    def _codes(self, vectors: Vectors) -> NDArray[np.uint8]:
        """Return the bytes (N, B) that are kept of vectors (N, dim)."""
        if self.training.greatest is None:
            return vectors.view(np.uint8)
        codes: NDArray[np.uint8] = self._index.sq.compute_codes(vectors)
        return codes

    def _codes_of(self, number: int) -> NDArray[np.uint8]:
        """Return a list's bytes (N, B) where FAISS keeps them, without a copy."""
        length, size = self._length(number), self._index.code_size
        if not length:
            return np.empty((0, size), np.uint8)
        codes: NDArray[np.uint8] = faiss.rev_swig_ptr(
            self._index.invlists.get_codes(number), length * size
        )
        return codes.reshape(length, size)


class _BestScores:
    """The k best scores (Q, k) of queries among all vectors, seen part by part."""

    def __init__(self, queries: Vectors, k: int) -> None:
        self._queries = queries
        self._k = k
        self.scores = np.empty((len(queries), 0), np.float32)

    def update(self, vectors: Vectors) -> None:
        """Take in vectors (N, dim)."""
        if not len(vectors) or not len(self._queries):
            return
        found = faiss.knn(
            self._queries, vectors, min(self._k, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT
        )[0]
        merged = -np.sort(-np.concatenate([self.scores, found], axis=1), axis=1)
        self.scores = np.ascontiguousarray(merged[:, : self._k])


def _lists(
    quantizer: faiss.IndexFlatIP, dim: int, lists: int, greatest: float | None
) -> faiss.IndexIVF:
    if greatest is None:
        return faiss.IndexIVFFlat(quantizer, dim, lists, faiss.METRIC_INNER_PRODUCT)
    kind = faiss.ScalarQuantizer.QT_8bit_uniform
    index = faiss.IndexIVFScalarQuantizer(quantizer, dim, lists, kind, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False
    # What FAISS would learn: where the steps begin, and how far they reach.
    faiss.copy_array_to_vector(np.array([-greatest, 2 * greatest], np.float32), index.sq.trained)
    index.is_trained = True
    return index


def _centroids(sample: Vectors, lists: int, check: Callable[[], None]) -> Vectors:
    """Return centroids (lists, dim) of unit length by k-means on the sample (N, dim)."""
    dim = sample.shape[1]
    if not len(sample):
        return np.zeros((1, dim), np.float32)
    clustering = faiss.Clustering(dim, lists)
    clustering.spherical = True
    clustering.niter = 1
    clustering.min_points_per_centroid = 1
    # Going on from its centroids step by step is what FAISS does too, but cannot be stopped there.
    for _ in range(TRAINING_STEPS):
        check()
        clustering.train(sample, faiss.IndexFlatIP(dim))
    centroids: Vectors = faiss.vector_to_array(clustering.centroids).reshape(lists, dim)
    return centroids


def _probing(lists: int, selector: faiss.IDSelector | None = None) -> faiss.SearchParametersIVF:
    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = lists
    parameters.sel = selector
    return parameters


def _perturbed(vectors: Vectors, random: np.random.Generator) -> Vectors:
    """Return queries (N, dim) near the vectors, which are in no index."""
    noise = random.standard_normal(vectors.shape, np.float32) * np.float32(
        QUERY_NOISE / vectors.shape[1] ** 0.5
    )
    queries: Vectors = vectors + noise * np.linalg.norm(vectors, axis=1, keepdims=True)
    return queries


def _recall(found: NDArray[np.float32], best: NDArray[np.float32]) -> float:
    """Return how many of the best were found, by score: equal ones stand for each other."""
    worst = best[:, -1:] - 1e-5 * np.abs(best[:, -1:])
    return float((found >= worst).sum(axis=1).clip(max=best.shape[1]).mean() / best.shape[1])


def _sample(ids: Ids, count: int, random: np.random.Generator) -> Ids:
    return ids if len(ids) <= count else random.choice(ids, count, replace=False)


def _chunks(ids: Ids) -> Iterator[Ids]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def _spans(lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield [first, last) of lists that together have some CHUNK vectors."""
    first = total = 0
    for number, length in enumerate(lengths.tolist()):
        total += length
        if total >= CHUNK or number == len(lengths) - 1:
            yield first, number + 1
            first, total = number + 1, 0


def _steps(most: int) -> Iterator[int]:
    """Yield 1, 2, 3, 4, 6, 8, 12, 16 ... up to `most`."""
    step = 1
    while step <= most:
        yield step
        if step > 1 and step + step // 2 <= most:
            yield step + step // 2
        step *= 2
