"""Which label is nearest to each clip: computed once for each clip, anew when the labels change."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from index.catalogue_reader import CatalogueReader
from index.fusion import weighted_mean
from index.label_index import LabelIndex
from index.names import name_key
from index.sorted_ids import NO_IDS, contains
from index.types import ModalityWeights
from index.vector_store import Ids

NO_LABEL = -1
"""What stands for the label of a clip that has no vector."""


class _Known(NamedTuple):
    """The clips' rows (N,), ascending, and their nearest labels' rows (N,), by labels' version."""

    version: int
    clips: Ids
    labels: Ids


class ClipLabels:
    """Remembers 16 bytes a clip. A clip's vectors never change, nor is its row given to another."""

    def __init__(self, labels: LabelIndex, weights: ModalityWeights) -> None:
        self._labels = labels
        self._weights = weights
        # Replaced as a whole and never written to, so that none needs a lock.
        self._known = _Known(-1, NO_IDS, NO_IDS)

    def named(self, reader: CatalogueReader, name: str, row_ids: Sequence[int]) -> list[int]:
        """Return those of the clips' rows, in their order, whose nearest label has this name."""
        wanted = np.array(row_ids, np.int64)
        while True:
            version, label = self._labels.named(name_key(name))
            if label is None or not wanted.size:
                return []
            known = self._known
            if known.version != version:
                known = _Known(version, NO_IDS, NO_IDS)
            missing = wanted[~contains(known.clips, wanted)]
            found = self._nearest(reader, missing.tolist(), version)
            if found is not None:
                known = self._known = _with(known, missing, found)
                nearest = known.labels[np.searchsorted(known.clips, wanted)]
                matching: list[int] = wanted[nearest == label].tolist()
                return matching

    def _nearest(
        self, reader: CatalogueReader, row_ids: Sequence[int], version: int
    ) -> dict[int, int] | None:
        """Return the nearest label of each clip that has a vector; None if the labels changed."""
        found: dict[int, int] = {}
        for part in reader.clip_vectors(row_ids):
            means = {
                clip.row_id: mean
                for clip in part
                if (mean := weighted_mean(clip.audio, clip.video, self._weights)) is not None
            }
            if means:
                seen, labels = self._labels.nearest(np.stack(list(means.values())))
                if seen != version:
                    return None
                found.update(zip(means, labels.tolist(), strict=True))
        return found


def _with(known: _Known, missing: Ids, found: dict[int, int]) -> _Known:
    if not missing.size:
        return known
    clips = np.concatenate([known.clips, missing])
    nearest = np.array([found.get(row_id, NO_LABEL) for row_id in missing.tolist()], np.int64)
    order = np.argsort(clips)
    return _Known(known.version, clips[order], np.concatenate([known.labels, nearest])[order])
