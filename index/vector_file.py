"""The file in which a store that keeps its vectors itself saves them.

Layout, all little-endian: a magic line and a JSON header line; of a trained index its C centroids
(C, dim float32) and how many vectors each has (C int64); N ids (int64), centroid by centroid; their
vectors (N, dim float32), of a quantised index (N, dim uint8). Each of these sections is followed by
the SHA-256 of everything before it but such sums, so that none is acted upon before it is known to
be whole.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from index.durable import replace_file
from index.vector_store import Ids, Vectors

MAGIC = b"avgzsl vectors 2\n"
DIGEST_BYTES = hashlib.sha256().digest_size
HEADER_LIMIT = 65536
"""Bytes of a header; a damaged file may have no end of line."""

Section = Iterable[NDArray[Any]]
"""Arrays that are read back as one, or in other parts."""


@dataclass(frozen=True, slots=True)
class VectorFileHeader:
    """Whose vectors a file holds, and how many; of a trained index, what its training found."""

    name: str
    model_id: str
    dim: int
    count: int
    generation: int
    trained: Mapping[str, Any] | None = None


class VectorFileReader:
    """Reads a file's sections in their order; see `open_vector_file`."""

    def __init__(self, file: BinaryIO, title: str) -> None:
        self._file = file
        self._title = title
        self._digest = hashlib.sha256()
        lines = [file.readline(len(MAGIC)), file.readline(HEADER_LIMIT)]
        for line in lines:
            self._digest.update(line)
        if lines[0] != MAGIC:
            raise self._damaged()
        self.end_section()
        try:
            self.header = VectorFileHeader(**json.loads(lines[1]))
        except TypeError as error:
            raise ValueError(f"{title} was saved by another version: {error}.") from error

    def read_into(self, array: NDArray[Any]) -> None:
        """Fill a contiguous array. Raises ValueError where the file ends before."""
        if not array.size:
            return
        part = array.data.cast("B")
        if self._file.readinto(part) != len(part):  # type: ignore[attr-defined]
            raise self._damaged()
        self._digest.update(part)

    def end_section(self) -> None:
        """Raise ValueError unless what was read so far is what was written."""
        if self._file.read(DIGEST_BYTES) != self._digest.digest():
            raise self._damaged()

    def end(self) -> None:
        """Raise ValueError unless the file ends here."""
        if self._file.read(1):
            raise self._damaged()

    def _damaged(self) -> ValueError:
        return ValueError(
            f"{self._title} is damaged or no vector file: its checksum does not match."
        )


@contextmanager
def open_vector_file(
    path: Path, *, name: str, model_id: str, dim: int
) -> Iterator[VectorFileReader]:
    """Read a file that must be of this name, model and dim.

    Raises ValueError where it is another's, is damaged, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            reader = VectorFileReader(file, path.name)
            header = reader.header
            expected, found = (name, model_id, dim), (header.name, header.model_id, header.dim)
            if found != expected:
                raise ValueError(
                    f"{path.name} holds (name, model, dim) {found}; expected {expected}."
                )
            yield reader
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def write_sections(path: Path, header: VectorFileHeader, sections: Iterable[Section]) -> None:
    """Write a file as one step, array by array. Raises OSError."""
    replace_file(path, _sealed(header, sections))


def write_vector_file(path: Path, header: VectorFileHeader, ids: Ids, vectors: Vectors) -> None:
    """Write ids (N,) int64 and vectors (N, dim) float32 as one step. Raises OSError."""
    write_sections(path, header, [[ids], [vectors]])


def read_own_vectors(path: Path, *, name: str, model_id: str, dim: int) -> tuple[int, Ids, Vectors]:
    """Return the generation, ids and vectors of a file that must be of this name, model and dim.

    Raises ValueError as `open_vector_file` does, and where the file is of a trained index, whose
    ids are in no order.
    """
    with open_vector_file(path, name=name, model_id=model_id, dim=dim) as reader:
        header = reader.header
        if header.trained is not None:
            raise ValueError(f"{path.name} was saved by a trained index; this store has none.")
        ids = np.empty(header.count, np.int64)
        vectors = np.empty((header.count, dim), np.float32)
        for section in (ids, vectors):
            reader.read_into(section)
            reader.end_section()
        reader.end()
    return header.generation, ids, vectors


def _sealed(header: VectorFileHeader, sections: Iterable[Section]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    first = [MAGIC, json.dumps(asdict(header)).encode() + b"\n"]
    for section in (first, *(map(_bytes, section) for section in sections)):
        for chunk in section:
            digest.update(chunk)
            yield chunk
        yield digest.digest()


def _bytes(array: NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()
