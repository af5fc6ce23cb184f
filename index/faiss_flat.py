"""The exact index: every vector is compared with."""

from collections.abc import Iterator

import faiss
import numpy as np
from numpy.typing import NDArray

from index.faiss_index import FaissIndex
from index.vector_file import Section, VectorFileReader
from index.vector_store import Ids, Vectors


class FlatIndex(FaissIndex):
    """`IndexIDMap2(IndexFlatIP)`."""

    kind = "exact"
    recall = 1.0
    training = None

    def __init__(self, dim: int) -> None:
        super().__init__(faiss.IndexIDMap2(faiss.IndexFlatIP(dim)), dim)

    def rounded(self, vectors: Vectors) -> Vectors:
        """Return what is held of vectors (N, dim): these."""
        return vectors

    def remove(self, ids: Ids) -> None:
        """Delete ids (N,) that are held."""
        self._index.remove_ids(faiss.IDSelectorBatch(ids))

    def search(
        self, queries: Vectors, k: int, reach: int, *, selector: faiss.IDSelector | None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return the `reach` best scores and ids of each query; id -1 pads a row."""
        parameters = faiss.SearchParameters()
        parameters.sel = selector
        scores, ids = self._index.search(queries, reach, params=parameters)
        return scores, ids

    def sections(self) -> Iterator[Section]:
        """Yield what `read` reads: ids, ascending, and vectors."""
        ids: Ids = np.sort(faiss.vector_to_array(self._index.id_map))
        yield [ids]
        yield (self.vectors(ids[start : start + 8192]) for start in range(0, len(ids), 8192))

    @classmethod
    def read(cls, reader: VectorFileReader) -> tuple["FlatIndex", Ids]:
        """Return the index in a file and its ids (N,), ascending. Raises ValueError for damage."""
        count, dim = reader.header.count, reader.header.dim
        ids = np.empty(count, np.int64)
        reader.read_into(ids)
        reader.end_section()
        index = cls(dim)
        for start in range(0, count, 8192):
            vectors = np.empty((min(8192, count - start), dim), np.float32)
            reader.read_into(vectors)
            index.add(ids[start : start + 8192], vectors)
        reader.end_section()
        return index, ids
