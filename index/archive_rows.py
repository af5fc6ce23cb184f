"""Rows as they lie in an archive: a JSON record each, and their vectors one after the other.

A record says which vectors it has; these are float32 little-endian, D numbers each. A class has
one. A clip's are its own sound's, its own pictures', then each window's sound's and pictures'.
Database row ids are not kept: another database gives its own, in the same order.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import numpy as np

from index.archive import PART_BYTES
from index.catalogue_records import StoredClass, StoredClip
from index.checks import check_unit_vector, checked_class, checked_clip
from index.errors import InvalidArchive, LibraryError, StorageError
from index.types import ModalityRecord, NewClass, NewClip, Segment, Vector

HASH = re.compile("[0-9a-f]{64}")
ID = re.compile("[0-9a-f]{32}")

Stored = TypeVar("Stored", StoredClass, StoredClip)
Packed = tuple[dict[str, Any], list[Vector | None]]
TakeVector = Callable[[bool], Vector | None]
"""Returns the next vector (D,) where the argument is true, else None."""


class Part(NamedTuple):
    """The bytes of some rows: records, one a line, and vectors."""

    records: bytes
    vectors: bytes


def packed_classes(classes: Iterable[StoredClass], dim: int) -> Iterator[Part]:
    """Yield classes as parts of some megabytes. Raises StorageError for a vector unfit to keep."""
    return _parts(((f"class {row.class_id}", _pack_class(row)) for row in classes), dim)


def packed_clips(clips: Iterable[StoredClip], dim: int) -> Iterator[Part]:
    """Yield clips as parts of some megabytes. Raises StorageError for a vector unfit to keep."""
    return _parts(((f"clip {row.clip_id}", _pack_clip(row)) for row in clips), dim)


def unpacked_classes(part: Part, dim: int) -> list[StoredClass]:
    """Return a part's classes, checked as new ones are. Raises InvalidArchive."""
    return _unpacked(part, dim, _unpack_class)


def unpacked_clips(part: Part, dim: int) -> list[StoredClip]:
    """Return a part's clips, checked as new ones are. Raises InvalidArchive."""
    return _unpacked(part, dim, _unpack_clip)


def _parts(rows: Iterable[tuple[str, Packed]], dim: int) -> Iterator[Part]:
    records, vectors = bytearray(), bytearray()
    for subject, (record, row_vectors) in rows:
        records += json.dumps(record).encode() + b"\n"
        for vector in row_vectors:
            if vector is not None:
                _check_vector(vector, dim, subject)
                vectors += vector.astype("<f4").tobytes()
        if len(records) + len(vectors) >= PART_BYTES:
            yield Part(bytes(records), bytes(vectors))
            records.clear()
            vectors.clear()
    if records:
        yield Part(bytes(records), bytes(vectors))


def _check_vector(vector: Vector, dim: int, subject: str) -> None:
    try:
        check_unit_vector(vector, dim)
    except ValueError as error:
        raise StorageError(
            f"The {subject} has a vector that no library would take back: {error} "
            "`avgzsl library verify` lists all such; delete that clip or class first."
        ) from error


def _unpacked(
    part: Part, dim: int, unpack: Callable[[dict[str, Any], TakeVector, int], Stored]
) -> list[Stored]:
    width = 4 * dim
    left = memoryview(part.vectors)

    def take(present: bool) -> Vector | None:
        nonlocal left
        if not present:
            return None
        taken, left = left[:width], left[width:]
        return np.frombuffer(taken, "<f4").astype(np.float32)

    try:
        rows = [unpack(json.loads(line), take, dim) for line in part.records.splitlines()]
        if left:
            raise ValueError(f"{len(left)} bytes of vectors belong to no record")
    except (LibraryError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise InvalidArchive(
            f"The archive holds a record that cannot be used ({type(error).__name__}: "
            f"{str(error)[:200]}). Nothing was restored; export the library again."
        ) from error
    return rows


def _pack_class(row: StoredClass) -> Packed:
    record = {
        "class_id": row.class_id,
        "name": row.new.name,
        "synonyms": list(row.new.synonyms),
        "description": row.new.description,
        "seen": row.new.seen,
        "enabled": row.enabled,
        "vocabulary_id": row.vocabulary_id,
        "created_at": row.created_at.isoformat(),
    }
    return record, [row.new.vector]


def _unpack_class(record: dict[str, Any], take: TakeVector, dim: int) -> StoredClass:
    vector = take(True)
    assert vector is not None, "a class has a vector"
    new = NewClass(
        name=record["name"],
        vector=vector,
        synonyms=tuple(record["synonyms"]),
        description=record["description"],
        seen=_flag(record["seen"]),
    )
    return StoredClass(
        class_id=_matching(ID, record["class_id"]),
        created_at=datetime.fromisoformat(record["created_at"]),
        enabled=_flag(record["enabled"]),
        vocabulary_id=record["vocabulary_id"],
        new=checked_class(new, dim),
    )


def _pack_clip(row: StoredClip) -> Packed:
    new = row.new
    record = {
        "clip_id": row.clip_id,
        "filename": new.filename,
        "source": new.source,
        "content_type": new.content_type,
        "content_hash": row.content_hash,
        "thumbnail_hash": row.thumbnail_hash,
        "size_bytes": row.size_bytes,
        "duration_seconds": new.duration_seconds,
        "modalities": {name: asdict(value) for name, value in new.modalities.items()},
        "tags": list(new.tags),
        "warnings": list(new.warnings),
        "created_at": row.created_at.isoformat(),
        "vectors": [new.audio is not None, new.video is not None],
        "segments": [
            [part.start_seconds, part.end_seconds, part.audio is not None, part.video is not None]
            for part in new.segments
        ],
    }
    vectors = [new.audio, new.video]
    for part in new.segments:
        vectors += [part.audio, part.video]
    return record, vectors


def _unpack_clip(record: dict[str, Any], take: TakeVector, dim: int) -> StoredClip:
    has_audio, has_video = record["vectors"]
    audio, video = take(_flag(has_audio)), take(_flag(has_video))
    new = NewClip(
        filename=record["filename"],
        content_type=record["content_type"],
        duration_seconds=float(record["duration_seconds"]),
        segments=tuple(
            Segment(float(start), float(end), take(_flag(sound)), take(_flag(pictures)))
            for start, end, sound, pictures in record["segments"]
        ),
        audio=audio,
        video=video,
        modalities={name: ModalityRecord(**value) for name, value in record["modalities"].items()},
        tags=tuple(record["tags"]),
        warnings=tuple(record["warnings"]),
        # Archives of earlier versions have none.
        source=record.get("source"),
    )
    thumbnail = record["thumbnail_hash"]
    return StoredClip(
        clip_id=_matching(ID, record["clip_id"]),
        created_at=datetime.fromisoformat(record["created_at"]),
        # Hashes become paths.
        content_hash=_matching(HASH, record["content_hash"]),
        thumbnail_hash=None if thumbnail is None else _matching(HASH, thumbnail),
        size_bytes=int(record["size_bytes"]),
        new=checked_clip(new, dim),
    )


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} should be true or false")
    return value


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{str(value)[:80]!r} should match {pattern.pattern}")
    return value
