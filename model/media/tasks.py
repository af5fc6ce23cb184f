"""What a decoding process is asked for: generators that take and give plain data.

Each takes a path and limits first, so that whoever runs it elsewhere knows what it may cost.
"""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from model.errors import MediaError
from model.media.clip import ClipReader, thumbnail
from model.media.limits import MediaLimits
from model.media.types import ClipChunk, ClipSummary, DecodeSpec, ModalityChoice

WINDOWS_PER_CHUNK = 16
"""Few enough that a chunk of large pictures is some ten MB: a few of each clip are in memory."""


@dataclass(frozen=True, slots=True)
class ClipHead:
    """What a clip's header says: `declared_duration_seconds`, which need not be true, or None."""

    declared_duration_seconds: float | None


@dataclass(frozen=True, slots=True)
class ClipTail:
    """What is known of a clip once it is decoded.

    Attributes:
        summary: duration, modalities used, warnings.
        thumbnail: a JPEG, or None where none was asked for or there is none.
        thumbnail_failure: why a thumbnail that was asked for could not be drawn, or None.
    """

    summary: ClipSummary
    thumbnail: bytes | None
    thumbnail_failure: str | None


def decode_clip(
    path: Path,
    limits: MediaLimits,
    spec: DecodeSpec,
    modality: ModalityChoice,
    thumbnail_size: int | None,
) -> Generator[ClipHead | ClipChunk, None, ClipTail]:
    """Yield a clip's head, then its windows chunk by chunk; return its tail.

    Args:
        path: the media file.
        limits: what it may cost; a thumbnail may take the same time again.
        spec: how it is cut.
        modality: what is decoded of it.
        thumbnail_size: length in pixels of the thumbnail's longer side; None for no thumbnail.

    Raises:
        MediaError: as `ClipReader` does.
    """
    reader = ClipReader(path, spec, limits, modality)
    yield ClipHead(reader.info.declared_duration_seconds)
    yield from reader.chunks(WINDOWS_PER_CHUNK)
    if thumbnail_size is None:
        return ClipTail(reader.summary(), None, None)
    try:
        return ClipTail(reader.summary(), thumbnail(path, limits, thumbnail_size), None)
    except MediaError as error:
        # The clip itself could be read: it is worth having without a picture to show.
        return ClipTail(reader.summary(), None, str(error))
