"""The library's four sets of vectors, taken from the catalogue."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from index.catalogue_reader import CatalogueReader
from index.label_index import LabelIndex
from index.segment_index import MODALITIES, SegmentIndex, segment_batches
from index.types import ModalityWeights, SearchModality
from index.vector_cache import Batches
from index.vector_store import Ids, Vectors, VectorStore


class MakeStore(Protocol):
    """Returns the store of a name; the batches say what it must hold."""

    def __call__(self, name: str, batches: Batches, *, exact: bool = False) -> VectorStore:
        """Make one; an `exact` one never uses an approximate index."""
        ...


def read_indexes(
    reader: CatalogueReader, make_store: MakeStore, weights: ModalityWeights
) -> tuple[LabelIndex, SegmentIndex]:
    """Return the enabled labels' and the segments' index as of the reader's moment."""

    def make_segment_store(modality: SearchModality) -> VectorStore:
        return make_store(
            _store_name(modality, weights),
            lambda: segment_batches(reader.segment_vectors(), modality, weights),
        )

    # A class that a search missed would have no score.
    label_store = make_store("labels", lambda: _label_batches(reader), exact=True)
    labels = LabelIndex(label_store, reader.labels())
    stores = {modality: make_segment_store(modality) for modality in MODALITIES}
    return labels, SegmentIndex(stores, weights)


def _label_batches(reader: CatalogueReader) -> Iterable[tuple[Ids, Vectors]]:
    for part in reader.label_vectors():
        yield (
            np.array([row_id for row_id, _ in part], np.int64),
            np.stack([vector for _, vector in part]),
        )


def _store_name(modality: SearchModality, weights: ModalityWeights) -> str:
    """Name the weights too where they shape the vectors: others must not be taken for them."""
    if modality != "both":
        return modality
    return f"both-{weights.audio / (weights.audio + weights.video):.9g}"
