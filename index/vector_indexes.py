"""The library's four sets of vectors, taken from the catalogue."""

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple, Protocol

import numpy as np

from index.catalogue_reader import CatalogueReader
from index.label_index import LabelIndex
from index.segment_index import MODALITIES, SegmentIndex, segment_batches
from index.segment_windows import SegmentWindows
from index.types import ModalityWeights, SearchModality
from index.vector_cache import Batches
from index.vector_store import Ids, Vectors, VectorStore

BOTH_PREFIX = "both-"


class StoreContent(NamedTuple):
    """What the store of a name must hold; an `exact` one never uses an approximate index."""

    name: str
    batches: Batches
    exact: bool


class MakeStore(Protocol):
    """Returns the store of a name; the batches say what it must hold."""

    def __call__(self, name: str, batches: Batches, *, exact: bool = False) -> VectorStore:
        """Make one; an `exact` one never uses an approximate index."""
        ...


def read_indexes(
    reader: CatalogueReader, make_store: MakeStore, weights: ModalityWeights
) -> tuple[LabelIndex, SegmentIndex]:
    """Return the enabled labels' and the segments' index as of the reader's moment."""

    def made(content: StoreContent) -> VectorStore:
        return make_store(content.name, content.batches, exact=content.exact)

    labels = LabelIndex(made(_label_content(reader)), reader.labels())
    stores = {name: made(_segment_content(reader, name, weights)) for name in MODALITIES}
    return labels, SegmentIndex(stores, SegmentWindows(reader.windows()), weights)


def store_contents(reader: CatalogueReader, weights: ModalityWeights) -> list[StoreContent]:
    """Return what each of the four stores must hold as of the reader's moment."""
    segments = [_segment_content(reader, modality, weights) for modality in MODALITIES]
    return [_label_content(reader), *segments]


def _label_content(reader: CatalogueReader) -> StoreContent:
    # A class that a search missed would have no score.
    return StoreContent("labels", lambda: _label_batches(reader), exact=True)


def _segment_content(
    reader: CatalogueReader, modality: SearchModality, weights: ModalityWeights
) -> StoreContent:
    return StoreContent(
        _store_name(modality, weights),
        lambda: segment_batches(reader.segment_vectors(), modality, weights),
        exact=False,
    )


def _label_batches(reader: CatalogueReader) -> Iterable[tuple[Ids, Vectors]]:
    for part in reader.label_vectors():
        yield (
            np.array([row_id for row_id, _ in part], np.int64),
            np.stack([vector for _, vector in part]),
        )


def weights_of_names(names: Iterable[str]) -> ModalityWeights:
    """Return the weights that shaped the stores of these names; equal ones if none says."""
    for name in names:
        if name.startswith(BOTH_PREFIX):
            with suppress(ValueError):
                audio = float(name.removeprefix(BOTH_PREFIX))
                return ModalityWeights(audio, 1 - audio)
    return ModalityWeights()


def _store_name(modality: SearchModality, weights: ModalityWeights) -> str:
    """Name the weights too where they shape the vectors: others must not be taken for them."""
    if modality != "both":
        return modality
    return f"{BOTH_PREFIX}{weights.audio / (weights.audio + weights.video):.9g}"
