"""The library's four sets of vectors, taken from the catalogue."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np

from index.catalogue_reader import BATCH_ROWS, CatalogueReader
from index.catalogue_records import Moment, WindowRows
from index.label_index import LabelIndex
from index.segment_index import MODALITIES, SegmentIndex, segment_matrix
from index.segment_windows import SegmentWindows
from index.types import ModalityWeights, SearchModality, Vector
from index.vector_cache import StoreChange, StoreContent, VectorCache, WindowContent
from index.vector_store import Ids, Vectors

BOTH_PREFIX = "both-"


def load_indexes(
    reader: CatalogueReader, cache: VectorCache, weights: ModalityWeights
) -> tuple[LabelIndex, SegmentIndex]:
    """Return the enabled labels' and the segments' index as saved, brought to the moment."""
    moment = reader.moment()
    labels, *segments = cache.open(store_contents(reader, weights), moment=moment)
    windows = cache.open_windows(window_content(reader), moment=moment)
    stores = dict(zip(MODALITIES, segments, strict=True))
    return LabelIndex(labels, reader.labels()), SegmentIndex(stores, windows, weights)


def build_labels(reader: CatalogueReader, cache: VectorCache) -> LabelIndex:
    """Return the enabled labels' index, made of the rows as of the moment."""
    (store,) = cache.build([_label_content(reader)])
    return LabelIndex(store, reader.labels())


def build_segments(
    reader: CatalogueReader, cache: VectorCache, weights: ModalityWeights
) -> SegmentIndex:
    """Return the segments' index, made of the rows as of the moment."""
    stores = dict(zip(MODALITIES, cache.build(_segment_contents(reader, weights)), strict=True))
    return SegmentIndex(stores, SegmentWindows(reader.windows()), weights)


def reweighed_segments(
    reader: CatalogueReader, cache: VectorCache, segments: SegmentIndex, weights: ModalityWeights
) -> SegmentIndex:
    """Return an index of the same segments with other weights; its other stores are the same."""
    if segments.stores["both"].name == _store_name("both", weights):
        return segments
    (both,) = cache.build([_segment_content(reader, "both", weights)])
    return SegmentIndex({**segments.stores, "both": both}, segments.windows, weights)


def store_contents(reader: CatalogueReader, weights: ModalityWeights) -> list[StoreContent]:
    """Return what each of the four stores must hold as of the reader's moment."""
    return [_label_content(reader), *_segment_contents(reader, weights)]


def window_content(reader: CatalogueReader) -> WindowContent:
    """Return what the windows must be as of the reader's moment."""

    def changes(since: Moment) -> tuple[Ids, WindowRows] | None:
        known = reader.changes_after(since)
        if known is None:
            return None
        return np.array(known.segments, np.int64), reader.windows_of_segments(known.segments)

    return WindowContent(reader.windows, changes)


def _label_content(reader: CatalogueReader) -> StoreContent:
    def changes(since: Moment) -> Iterator[StoreChange] | None:
        known = reader.changes_after(since)
        return None if known is None else _label_changes(reader, known.classes)

    # A class that a search missed would have no score.
    return StoreContent(
        "labels",
        reader.label_vectors,
        lambda part: _matrix(dict(part)),
        changes,
        exact=True,
    )


def _segment_contents(reader: CatalogueReader, weights: ModalityWeights) -> list[StoreContent]:
    return [_segment_content(reader, modality, weights) for modality in MODALITIES]


def _segment_content(
    reader: CatalogueReader, modality: SearchModality, weights: ModalityWeights
) -> StoreContent:
    def changes(since: Moment) -> Iterator[StoreChange] | None:
        known = reader.changes_after(since)
        if known is None:
            return None
        return _segment_changes(reader, known.segments, modality, weights)

    return StoreContent(
        _store_name(modality, weights),
        reader.segment_vectors,
        lambda part: segment_matrix(part, modality, weights),
        changes,
        exact=False,
    )


def _label_changes(reader: CatalogueReader, row_ids: Sequence[int]) -> Iterator[StoreChange]:
    for part in _parts(row_ids):
        ids, vectors = _matrix(reader.vectors_of_labels(part))
        yield StoreChange(_without(part, ids), ids, vectors)


def _segment_changes(
    reader: CatalogueReader,
    row_ids: Sequence[int],
    modality: SearchModality,
    weights: ModalityWeights,
) -> Iterator[StoreChange]:
    for part in _parts(row_ids):
        ids, vectors = segment_matrix(reader.vectors_of_segments(part), modality, weights)
        yield StoreChange(_without(part, ids), ids, vectors)


def _matrix(vectors: Mapping[int, Vector]) -> tuple[Ids, Vectors]:
    ids = np.array(list(vectors), np.int64)
    return ids, np.stack(list(vectors.values())) if vectors else np.empty((0, 0), np.float32)


def _without(row_ids: Sequence[int], ids: Ids) -> Ids:
    """Return those of the row ids that are not among `ids`."""
    return np.setdiff1d(np.array(row_ids, np.int64), ids)


def _parts(row_ids: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(row_ids), BATCH_ROWS):
        yield list(row_ids[start : start + BATCH_ROWS])


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
