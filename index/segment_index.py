"""The segments' vectors, by sound, by picture and by both, and the search through them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import get_args

import numpy as np

from index.catalogue_reader import VectorPair, Window
from index.fusion import weighted_mean
from index.types import ModalityWeights, SearchModality, Vector
from index.vector_store import Ids, Vectors, VectorStore

MODALITIES: tuple[SearchModality, ...] = get_args(SearchModality)

OVERFETCH = 4
"""Segments first asked for per clip wanted; several of a clip's windows resemble each other."""


class SegmentIndex:
    """Three vector stores that hold the same segments as far as these have the modality."""

    def __init__(
        self, stores: Mapping[SearchModality, VectorStore], weights: ModalityWeights
    ) -> None:
        self.stores = stores
        self._weights = weights

    def publish(self, changed: Sequence[int], new: Sequence[VectorPair]) -> None:
        """Take the `changed` rows out of all stores, save for those that are `new`.

        These go into the stores of the modalities that they have.
        """
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
        windows: Callable[[Sequence[int]], Mapping[int, Window]],
    ) -> list[tuple[float, Window]]:
        """Return the best window of each of the top_k best clips, best first, with its score.

        `windows` says where segments lie, as far as they still exist; `excluded` are rows of clips
        to pass over. Exact: asks for twice as many segments until there are enough clips.
        """
        store = self.stores[modality]
        reach = OVERFETCH * top_k
        while True:
            scores, ids = store.search(query[None], reach, allowed=allowed)
            row_ids = ids[0].tolist()
            best = _best_windows(row_ids, scores[0].tolist(), windows(row_ids), excluded)
            if len(best) >= top_k or len(row_ids) < reach:
                return best[:top_k]
            reach *= 2


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


def segment_batches(
    parts: Iterable[Sequence[VectorPair]], modality: SearchModality, weights: ModalityWeights
) -> Iterator[tuple[Ids, Vectors]]:
    """Yield `segment_matrix` of each part that has any such segment."""
    for part in parts:
        ids, vectors = segment_matrix(part, modality, weights)
        if ids.size:
            yield ids, vectors


def _vector(
    segment: VectorPair, modality: SearchModality, weights: ModalityWeights
) -> Vector | None:
    if modality == "both":
        return weighted_mean(segment.audio, segment.video, weights)
    return segment.audio if modality == "audio" else segment.video


def _best_windows(
    row_ids: Sequence[int],
    scores: Sequence[float],
    windows: Mapping[int, Window],
    excluded: Collection[int],
) -> list[tuple[float, Window]]:
    """Keep each clip's first window. A row that is in no window was deleted meanwhile."""
    best: dict[int, tuple[float, Window]] = {}
    for row_id, score in zip(row_ids, scores, strict=True):
        window = windows.get(row_id)
        if window is not None and window.clip_row not in excluded:
            best.setdefault(window.clip_row, (score, window))
    return list(best.values())
