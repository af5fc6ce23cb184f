"""The archive of a library: one plain tar file, which any tar program opens.

Its members, in this order:

- `library.json`: what the archive is (`ArchiveHeader`);
- `vocabularies.json`: which vocabularies were seeded;
- `classes/N.jsonl`, `classes/N.f32`: classes, one a line, and their vectors (`index.archive_rows`);
- `clips/N.jsonl`, `clips/N.f32`: clips with their windows, likewise;
- `media/HASH`, `thumbnails/HASH`: files, each under the SHA-256 of its bytes;
- `SHA256SUMS`: the checksum of each member before it, as `sha256sum --check` reads it. It comes
  last, so an archive that was cut short has none.
"""

import hashlib
import re
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from index.errors import InvalidArchive, StorageError
from index.media_store import CHUNK_BYTES, read_chunks

FORMAT = "avgzsl library"
VERSION = 1

HEADER, VOCABULARIES, SUMS = "library.json", "vocabularies.json", "SHA256SUMS"
KNOWN = re.compile(
    rf"{re.escape(HEADER)}|{re.escape(VOCABULARIES)}|{SUMS}"
    r"|(classes|clips)/[0-9]+\.(jsonl|f32)|(media|thumbnails)/[0-9a-f]{64}"
)

PART_BYTES = 16 << 20
"""Rows are cut into members of about this size, so that neither side holds them all."""
WHOLE_LIMIT_BYTES = 512 << 20
"""The largest member that is read as a whole: no archive may fill the memory."""
CUT_SHORT = "it is cut short"


@dataclass(frozen=True, slots=True)
class ArchiveHeader:
    """What an archive holds. `created_at` is the time of the export, ISO 8601 in UTC."""

    format: str
    version: int
    library_id: str
    model_id: str
    dim: int
    classes: int
    clips: int
    segments: int
    created_at: str


class ArchiveWriter:
    """Turns members into the bytes of a tar, piece by piece, and notes their checksums."""

    def __init__(self) -> None:
        self._sums: dict[str, str] = {}
        self._time = int(time.time())

    def whole(self, name: str, content: bytes) -> Iterator[bytes]:
        """Yield a member that lies in memory."""
        return self._member(name, len(content), (content,))

    def file(self, name: str, path: Path) -> Iterator[bytes]:
        """Yield a member that is a file's content. Raises OSError, StorageError if it grows."""
        return self._member(name, path.stat().st_size, read_chunks(path))

    def end(self) -> Iterator[bytes]:
        """Yield what comes after the last member."""
        lines = [f"{digest}  {name}\n" for name, digest in self._sums.items()]
        yield from self.whole(SUMS, "".join(lines).encode())
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _member(self, name: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
        info = tarfile.TarInfo(name)
        info.size, info.mtime = size, self._time
        yield info.tobuf(tarfile.PAX_FORMAT)
        digest, written = hashlib.sha256(), 0
        for chunk in chunks:
            digest.update(chunk)
            written += len(chunk)
            yield chunk
        if written != size:
            raise StorageError(f"{name} changed from {size} to {written} bytes while it was read.")
        yield bytes(-size % tarfile.BLOCKSIZE)
        self._sums[name] = digest.hexdigest()


class Member:
    """One member of an archive that is being read."""

    def __init__(self, name: str, size: int, source: IO[bytes]) -> None:
        self.name = name
        self.size = size
        self._source = source
        self._digest = hashlib.sha256()

    def chunks(self) -> Iterator[bytes]:
        """Yield what was not read yet. Raises InvalidArchive where the file ends before it."""
        with _read_errors():
            while chunk := self._source.read(CHUNK_BYTES):
                self._digest.update(chunk)
                yield chunk

    def whole(self) -> bytes:
        """Return the content. Raises InvalidArchive where it is too large to be one of ours."""
        if self.size > WHOLE_LIMIT_BYTES:
            raise InvalidArchive(
                f"The archive's {self.name} has {self.size} bytes; the limit is "
                f"{WHOLE_LIMIT_BYTES}. Export the library again."
            )
        return b"".join(self.chunks())

    def finish(self) -> str:
        """Read the rest and return the SHA-256 of all, hexadecimal."""
        for _ in self.chunks():
            pass
        return self._digest.hexdigest()


class ArchiveReader:
    """Reads an archive once from front to back; nothing is unpacked by the names in it."""

    def __init__(self, path: Path) -> None:
        """Open an archive. Raises InvalidArchive, StorageError where it cannot be read."""
        self._sums: dict[str, str] = {}
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise StorageError(f"Could not read {path}: {error.strerror or error}.") from error
        self.size = path.stat().st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def position(self) -> int:
        """How many bytes are behind us."""
        return self._file.tell()

    def __iter__(self) -> Iterator[Member]:
        """Yield the members but the checksums, which are compared at the end.

        Raises InvalidArchive where a member is unknown, comes twice or differs from its checksum,
        or one is missing.
        """
        with _read_errors():
            tar = tarfile.open(fileobj=self._file, mode="r:")  # noqa: SIM115 - the file is ours
        while True:
            with _read_errors():
                info = tar.next()
                # tarfile would remember each member.
                tar.members = []  # type: ignore[attr-defined]
            if info is None:
                raise _damaged(CUT_SHORT)
            member = self._checked(tar, info)
            if member.name == SUMS:
                self._compare(member.whole())
                return
            yield member
            self._sums[member.name] = member.finish()

    def _checked(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
        if info.type != tarfile.REGTYPE or info.issparse() or not KNOWN.fullmatch(info.name):
            raise _damaged(f"{info.name[:80]!r} has no place in it")
        if info.name in self._sums:
            raise _damaged(f"{info.name} is in it twice")
        source = tar.extractfile(info)
        assert source is not None, "only regular files get here"
        return Member(info.name, info.size, source)

    def _compare(self, listing: bytes) -> None:
        expected = dict(line.split("  ", 1)[::-1] for line in _lines(listing))
        for name, digest in self._sums.items():
            if expected.pop(name, None) != digest:
                raise _damaged(f"{name} differs from its checksum")
        if expected:
            raise _damaged(f"{min(expected)} is missing")


def _lines(listing: bytes) -> list[str]:
    lines = listing.decode("ascii", "replace").splitlines()
    if not all("  " in line for line in lines):
        raise _damaged(f"{SUMS} is no list of checksums")
    return lines


@contextmanager
def _read_errors() -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        cause = CUT_SHORT if "unexpected end" in str(error) else str(error)
        raise _damaged(cause) from error
    except OSError as error:
        raise StorageError(f"Could not read the archive: {error.strerror or error}.") from error


def _damaged(cause: str) -> InvalidArchive:
    return InvalidArchive(
        f"The file is no archive of a library, or is damaged: {cause}. Nothing was restored; copy "
        "the archive again, or use another."
    )
