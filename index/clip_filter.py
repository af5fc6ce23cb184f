"""Which clips pass a `SearchFilter`."""

from collections.abc import Iterable, Sequence

import numpy as np

from index.catalogue_reader import CatalogueReader, VectorPair
from index.fusion import weighted_mean
from index.label_index import LabelIndex
from index.names import name_key, single_spaced
from index.types import ModalityWeights, SearchFilter


def matching_clips(
    reader: CatalogueReader,
    filter: SearchFilter,
    *,
    labels: LabelIndex,
    weights: ModalityWeights,
) -> list[int]:
    """Return the rows of the clips that pass, newest first.

    The nearest class is looked up anew each time, so a class added a moment ago counts.
    """
    row_ids = reader.clip_rows(
        tags=[single_spaced(tag) for tag in filter.tags],
        modality=filter.modality,
        created_after=filter.created_after,
        created_before=filter.created_before,
        clip_ids=filter.clip_ids,
        content_hash=filter.content_hash,
    )
    if filter.class_name is None:
        return row_ids
    key = name_key(filter.class_name)
    of_class = {
        row_id
        for part in reader.clip_vectors(row_ids)
        for row_id, name in _nearest_names(part, labels, weights)
        if name_key(name) == key
    }
    return [row_id for row_id in row_ids if row_id in of_class]


def _nearest_names(
    clips: Sequence[VectorPair], labels: LabelIndex, weights: ModalityWeights
) -> Iterable[tuple[int, str]]:
    """Pair the row of each clip that has a vector with its nearest label, if there are labels."""
    means = {
        clip.row_id: mean
        for clip in clips
        if (mean := weighted_mean(clip.audio, clip.video, weights)) is not None
    }
    if not means:
        return ()
    # Without labels there is nothing to pair with.
    return zip(means, labels.nearest(np.stack(list(means.values()))), strict=False)
