"""ISO base media boxes: which tracks of an MP4 file are encrypted.

FFmpeg replaces the sample entries `encv` and `enca` by the codec underneath, so a track that nobody
can decode looks like any other. The boxes themselves still tell.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_ENCRYPTED_ENTRIES = frozenset({b"encv", b"enca", b"drmi", b"drms"})
"""Common encryption of video and audio, and their iTunes ancestors."""

_MAX_BOXES = 256
"""Sister boxes that are looked at; a file that needs more is made to waste time."""


class _Box(NamedTuple):
    kind: bytes
    start: int
    end: int


def encrypted_track_ids(file: BinaryIO) -> frozenset[int]:
    """Ids of the tracks of the MP4 `file` all of whose sample entries are encrypted.

    Reads headers only and moves the file position. Broken boxes end the search, without an error.
    """
    file_end = file.seek(0, 2)
    tracks = [
        track
        for movie in _children(file, _Box(b"", 0, file_end), b"moov")
        for track in _children(file, movie, b"trak")
    ]
    return frozenset(_track_id(file, track) for track in tracks if _is_encrypted(file, track))


def _is_encrypted(file: BinaryIO, track: _Box) -> bool:
    tables = [track]
    for kind in (b"mdia", b"minf", b"stbl", b"stsd"):
        tables = [child for table in tables for child in _children(file, table, kind)]
    # A table starts with version, flags and the number of entries: 8 bytes.
    kinds = [
        entry.kind
        for table in tables
        for entry in _boxes(file, table._replace(start=table.start + 8))
    ]
    return bool(kinds) and all(kind in _ENCRYPTED_ENTRIES for kind in kinds)


def _track_id(file: BinaryIO, track: _Box) -> int:
    for header in _children(file, track, b"tkhd"):
        file.seek(header.start)
        version = file.read(1)
        # Version, flags, then two times of 4 bytes each, or of 8 in version 1.
        file.seek(header.start + (20 if version == b"\x01" else 12))
        return int.from_bytes(file.read(4), "big")
    return 0


def _children(file: BinaryIO, parent: _Box, kind: bytes) -> list[_Box]:
    return [box for box in _boxes(file, parent) if box.kind == kind]


def _boxes(file: BinaryIO, parent: _Box) -> Iterator[_Box]:
    position = parent.start
    for _ in range(_MAX_BOXES):
        # Before the seek: a broken size leads further than any file may reach.
        if position + 8 > parent.end:
            return
        file.seek(position)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        header_size = 8
        if size == 1:
            size, header_size = int.from_bytes(header[8:16], "big"), 16
        elif size == 0:
            size = parent.end - position
        if len(header) < header_size or size < header_size:
            return
        yield _Box(header[4:8], position + header_size, min(position + size, parent.end))
        position += size
