"""The segments' vectors, by sound, by picture and by both, and the search through them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from index.catalogue_records import VectorPair, Window, WindowRows
from index.fusion import weighted_mean
from index.segment_windows import SegmentWindows
from index.types import ModalityWeights, SearchModality, Vector
from index.vector_store import Ids, Vectors, VectorStore

MODALITIES: tuple[SearchModality, ...] = get_args(SearchModality)

OVERFETCH = 4
"""Segments first asked for per clip wanted; several of a clip's windows resemble each other."""


VectorsOf = Callable[[Sequence[int]], Sequence[VectorPair]]
"""Returns the vectors of segments, by their rows, as far as there are such."""


class SegmentIndex:
    """Three vector stores that hold the same segments as far as these have the modality.

    Every vector that a search finds has its window, or is being taken out: the windows take over
    each change first, and are asked last.
    """

    def __init__(
        self,
        stores: Mapping[SearchModality, VectorStore],
        windows: SegmentWindows,
        weights: ModalityWeights,
    ) -> None:
        self.stores = stores
        self.windows = windows
        self._weights = weights

    def publish(
        self, changed: Sequence[int], new: Sequence[VectorPair], windows: WindowRows
    ) -> None:
        """Take the `changed` rows out of all stores, save for those that are `new`.

        These, whose `windows` are given, go into the stores of the modalities that they have.
        """
        self.windows.replace(np.array(changed, np.int64), windows)
        present = {segment.row_id for segment in new}
        gone = np.array([row_id for row_id in changed if row_id not in present], np.int64)
        for modality, store in self.stores.items():
            if gone.size:
                store.remove(gone)
            ids, vectors = segment_matrix(new, modality, self._weights)
            if ids.size:
                store.add(ids, vectors)

    def search(
        self,
        query: Vector,
        modality: SearchModality,
        top_k: int,
        *,
        allowed: Ids | None,
        excluded: Collection[int],
        whole: VectorsOf,
    ) -> list[tuple[float, Window]]:
        """Return the best window of each of the top_k best clips, best first, with its score.

        `excluded` are rows of clips to pass over. Exact: asks for twice as many segments until
        there are enough clips. Where a store rounds, what it finds is compared with once more by
        its `whole` vectors.
        """
        store = self.stores[modality]
        reach = OVERFETCH * top_k
        while True:
            (scores,), (ids,) = store.search(query[None], reach, allowed=allowed)
            best = _best_windows(scores.tolist(), self.windows.find(ids), excluded)
            if len(best) >= top_k or len(ids) < reach:
                break
            reach *= 2
        if store.rounds:
            scores, ids = self._compared(query, modality, whole(ids.tolist()))
            best = _best_windows(scores.tolist(), self.windows.find(ids), excluded)
        return best[:top_k]

    def _compared(
        self, query: Vector, modality: SearchModality, segments: Sequence[VectorPair]
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return exact scores (N,) and ids (N,) of segments, best first, equal scores by id."""
        ids, vectors = segment_matrix(segments, modality, self._weights)
        if not ids.size:
            return np.empty(0, np.float32), ids
        scores = vectors @ query
        order = np.lexsort((ids, -scores))
        return scores[order], ids[order]


def segment_matrix(
    segments: Iterable[VectorPair], modality: SearchModality, weights: ModalityWeights
) -> tuple[Ids, Vectors]:
    """Return the row ids (N,) and vectors (N, D) of the segments that have the modality."""
    found = [
        (segment.row_id, vector)
        for segment in segments
        if (vector := _vector(segment, modality, weights)) is not None
    ]
    ids = np.array([row_id for row_id, _ in found], np.int64)
    vectors = np.stack([vector for _, vector in found]) if found else np.empty((0, 0), np.float32)
    return ids, vectors


def _vector(
    segment: VectorPair, modality: SearchModality, weights: ModalityWeights
) -> Vector | None:
    if modality == "both":
        return weighted_mean(segment.audio, segment.video, weights)
    return segment.audio if modality == "audio" else segment.video


def _best_windows(
    scores: Sequence[float], windows: Sequence[Window | None], excluded: Collection[int]
) -> list[tuple[float, Window]]:
    """Keep each clip's first window. Where there is none, the row was deleted meanwhile."""
    best: dict[int, tuple[float, Window]] = {}
    for score, window in zip(scores, windows, strict=True):
        if window is not None and window.clip_row not in excluded:
            best.setdefault(window.clip_row, (score, window))
    return list(best.values())
