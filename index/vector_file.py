"""The file in which a store that keeps plain vectors saves them.

Layout: a magic line, a JSON header line, N ids (int64), N x dim vectors (float32), all
little-endian, and the SHA-256 of everything before it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from index.durable import replace_file
from index.vector_store import Ids, Vectors

MAGIC = b"avgzsl vectors 1\n"
DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class VectorFileHeader:
    """Whose vectors a file holds, and how many."""

    name: str
    model_id: str
    dim: int
    count: int
    generation: int


def write_vector_file(path: Path, header: VectorFileHeader, ids: Ids, vectors: Vectors) -> None:
    """Write ids (N,) int64 and vectors (N, dim) float32 as one step. Raises OSError."""
    chunks = [
        MAGIC,
        json.dumps(asdict(header)).encode() + b"\n",
        ids.astype("<i8").tobytes(),
        vectors.astype("<f4").tobytes(),
    ]
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    replace_file(path, [*chunks, digest.digest()])


def read_vector_file(path: Path) -> tuple[VectorFileHeader, Ids, Vectors]:
    """Return a file's header, ids (N,) int64 and vectors (N, dim) float32.

    Raises ValueError where the file cannot be read or its checksum does not match.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    body, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if not body.startswith(MAGIC) or hashlib.sha256(body).digest() != digest:
        raise ValueError(f"{path.name} is damaged or no vector file: its checksum does not match.")
    end_of_header = body.index(b"\n", len(MAGIC)) + 1
    header = VectorFileHeader(**json.loads(body[len(MAGIC) : end_of_header]))
    end_of_ids = end_of_header + 8 * header.count
    ids = np.frombuffer(body[end_of_header:end_of_ids], "<i8").astype(np.int64)
    vectors = np.frombuffer(body[end_of_ids:], "<f4").astype(np.float32)
    return header, ids, vectors.reshape(header.count, header.dim)


def read_own_vectors(path: Path, *, name: str, model_id: str, dim: int) -> tuple[int, Ids, Vectors]:
    """Return the generation, ids and vectors of a file that must be of this name, model and dim.

    Raises ValueError where it is another's, or as `read_vector_file` does.
    """
    header, ids, vectors = read_vector_file(path)
    expected, found = (name, model_id, dim), (header.name, header.model_id, header.dim)
    if found != expected:
        raise ValueError(f"{path.name} holds (name, model, dim) {found}; expected {expected}.")
    return header.generation, ids, vectors
