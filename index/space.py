"""One model's rows and the vectors made of them: what a change of model swaps as a whole."""

from functools import partial

from index.catalogue import Catalogue
from index.catalogue_reader import CatalogueReader
from index.label_index import LabelIndex
from index.segment_index import SegmentIndex
from index.types import ModalityWeights
from index.vector_cache import VectorCache
from index.vector_indexes import read_indexes
from index.vector_store import VectorStore


class Space:
    """The catalogue as one model's, whose vectors are (dim,), and its indexes."""

    labels: LabelIndex
    segments: SegmentIndex

    def __init__(
        self, catalogue: Catalogue, cache: VectorCache, *, dim: int, weights: ModalityWeights
    ) -> None:
        """One of `load` and `rebuild` must follow."""
        self.catalogue = catalogue
        self.dim = dim
        self.weights = weights
        self._cache = cache

    @property
    def model_id(self) -> str:
        """The model whose rows and vectors these are."""
        return self.catalogue.model_id

    def stores(self) -> dict[str, VectorStore]:
        """Return the vector stores by what they hold: `labels`, `both`, `audio`, `video`."""
        stores: dict[str, VectorStore] = {"labels": self.labels.store}
        stores.update(self.segments.stores.items())
        return stores

    def load(self) -> None:
        """Take the vectors as saved, or rebuilt where that does not fit the catalogue."""
        with self.catalogue.read() as reader:
            make_store = partial(self._cache.open, generation=reader.generation())
            self.labels, self.segments = read_indexes(reader, make_store, self.weights)
        self._cache.clear()

    def rebuild(self, reader: CatalogueReader) -> None:
        """Make the vectors anew from what a transaction sees."""
        self.labels, self.segments = read_indexes(reader, self._cache.build, self.weights)

    def save(self) -> None:
        """Save the vectors for `load`."""
        with self.catalogue.read() as reader:
            self._cache.save(self.stores().values(), generation=reader.generation())

    def close(self) -> None:
        """Close the vector stores; the catalogue is its opener's to close."""
        self._cache.close()
