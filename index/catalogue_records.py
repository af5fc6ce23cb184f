"""What the catalogue's rows become outside a transaction: records that no session holds."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.tables import ClassRow, ClipRow
from index.types import ClassName, Clip, ModalityRecord, NewClass, NewClip, Segment, Vector


class VectorPair(NamedTuple):
    """A clip's or a segment's row id and its vectors (D,)."""

    row_id: int
    audio: Vector | None
    video: Vector | None


class Window(NamedTuple):
    """Where a segment lies."""

    clip_row: int
    start_seconds: float
    end_seconds: float


class WindowRows(NamedTuple):
    """Where N segments lie: their row ids and clips' rows (N,) int64, seconds (N,) float64."""

    ids: NDArray[np.int64]
    clip_rows: NDArray[np.int64]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]


class Label(NamedTuple):
    """An enabled class."""

    row_id: int
    name: str
    seen: bool


class Moment(NamedTuple):
    """A state of the catalogue, by its last write: how many there were, and that one's token.

    A catalogue restored from a backup may come to the same generation by another way, not to the
    same token, which is a random number; None where that write is in no log.
    """

    generation: int
    token: int | None


class Changes(NamedTuple):
    """Rows of classes and of segments that were added, changed or deleted."""

    classes: list[int]
    segments: list[int]


class StoredClass(NamedTuple):
    """A class whole: what it was made of, and what the catalogue added."""

    class_id: str
    created_at: datetime
    enabled: bool
    vocabulary_id: str | None
    new: NewClass


class StoredClip(NamedTuple):
    """A clip whole: what it was made of, and what the catalogue added."""

    clip_id: str
    created_at: datetime
    content_hash: str
    size_bytes: int
    thumbnail_hash: str | None
    new: NewClip


def class_record(row: ClassRow) -> ClassName:
    """Return a class as callers see it."""
    return ClassName(
        class_id=row.class_id,
        name=row.name,
        synonyms=tuple(row.synonyms),
        description=row.description,
        seen=row.seen,
        enabled=row.enabled,
        created_at=row.created_at,
    )


def clip_record(row: ClipRow) -> Clip:
    """Return a clip as callers see it."""
    return clip_of_columns(row, [tag.tag for tag in row.tags])


def clip_of_columns(row: Any, tags: Sequence[str]) -> Clip:
    """Make a clip of a `ClipRow` or of a row of its columns."""
    return Clip(
        clip_id=row.clip_id,
        filename=row.filename,
        content_type=row.content_type,
        content_hash=row.content_hash,
        size_bytes=row.size_bytes,
        duration_seconds=row.duration_seconds,
        modalities={name: ModalityRecord(**record) for name, record in row.modalities.items()},
        tags=tuple(tags),
        warnings=tuple(row.warnings),
        has_thumbnail=row.thumbnail_hash is not None,
        segment_count=row.segment_count,
        created_at=row.created_at,
        model_id=row.model_id,
        source=row.source,
    )


def stored_clip(row: ClipRow) -> StoredClip:
    """Return a clip whole, whose vectors and segments are loaded."""
    audio, video = next(((pair.audio, pair.video) for pair in row.vectors), (None, None))
    new = NewClip(
        filename=row.filename,
        content_type=row.content_type,
        duration_seconds=row.duration_seconds,
        segments=tuple(
            Segment(part.start_seconds, part.end_seconds, part.audio, part.video)
            for part in sorted(row.segments, key=lambda part: part.id)
        ),
        audio=audio,
        video=video,
        modalities={name: ModalityRecord(**record) for name, record in row.modalities.items()},
        tags=tuple(tag.tag for tag in row.tags),
        warnings=tuple(row.warnings),
        source=row.source,
    )
    return StoredClip(
        row.clip_id, row.created_at, row.content_hash, row.size_bytes, row.thumbnail_hash, new
    )
