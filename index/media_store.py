"""Files by content in a folder: what clips are made of, under the SHA-256 of their bytes.

One file may serve several clips; whoever asks to remove it makes sure that none needs it.
"""

import hashlib
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from index.durable import make_directory, rename_synced, storage_errors, write_synced

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class StagedFile:
    """Bytes on disk that are not kept yet. `content_hash` is hexadecimal SHA-256."""

    path: Path
    content_hash: str
    size_bytes: int


class MediaFolder:
    """The files of one directory: `ab/abcd...` for the hash abcd...; `incoming/` until kept.

    Anyone may read them, the process that holds the library's lock or another.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming = directory / "incoming"

    def path(self, content_hash: str) -> Path:
        """Where the file of this hash is or would be."""
        return self._directory / content_hash[:2] / content_hash

    def open(self, content_hash: str) -> BinaryIO:
        """Open a file for reading. Raises OSError, FileNotFoundError among them."""
        return self.path(content_hash).open("rb")

    @contextmanager
    def local(self, content_hash: str) -> Iterator[Path]:
        """Give a path to read a file by, for a while; it may turn out to be absent."""
        yield self.path(content_hash)

    def strays(self, needed: Collection[str]) -> list[Path]:
        """Return the files whose hash is not needed, and those that were not received to the end.

        Raises StorageError.
        """
        with storage_errors(f"read {self._directory}"):
            half = list(self._incoming.iterdir()) if self._incoming.is_dir() else []
            return half + self._unneeded(needed, "[0-9a-f][0-9a-f]")

    def _unneeded(self, needed: Collection[str], folders: str) -> list[Path]:
        """Every file that bears its own hash's name; anything else is not ours to judge."""
        return [
            path
            for path in self._directory.glob(f"{folders}/*")
            if len(path.name) == 64
            and path.parent.name == path.name[:2]
            and path.name not in needed
            and path.is_file()
        ]


class MediaStore(MediaFolder):
    """The files as a writer has them; several processes may share the directory."""

    def __init__(self, directory: Path, *, grace_seconds: float = 0.0) -> None:
        """Create the directory where absent and clear `incoming/`. Raises StorageError.

        What is younger than `grace_seconds` another process may still be at work on.
        """
        super().__init__(directory)
        self._grace_seconds = grace_seconds
        with storage_errors(f"prepare {directory}"):
            make_directory(self._incoming)
            for leftover in self._incoming.iterdir():
                if self._is_old(leftover):
                    leftover.unlink(missing_ok=True)

    @contextmanager
    def staging(self, content: Path | bytes | Iterator[bytes]) -> Iterator[StagedFile]:
        """Copy a file or bytes in under a temporary name, for `keep`; else it goes at the end.

        The slow half of storing, which needs no lock. Raises StorageError.
        """
        path = self._incoming / uuid.uuid4().hex
        digest = hashlib.sha256()
        size_bytes = 0

        def measured() -> Iterator[bytes]:
            nonlocal size_bytes
            for chunk in _chunks(content):
                digest.update(chunk)
                size_bytes += len(chunk)
                yield chunk

        try:
            with storage_errors("store the media file"):
                write_synced(path, measured())
            yield StagedFile(path, digest.hexdigest(), size_bytes)
        finally:
            path.unlink(missing_ok=True)

    def keep(self, staged: StagedFile) -> None:
        """Give a staged file its lasting name. Raises StorageError."""
        target = self.path(staged.content_hash)
        with storage_errors("store the media file"):
            make_directory(target.parent)
            # An equal file may be there; replacing it costs nothing and mends a damaged one.
            rename_synced(staged.path, target)

    def remove(self, content_hash: str) -> None:
        """Delete a file; an absent one is no error. Raises StorageError."""
        with storage_errors(f"delete the media file {content_hash}"):
            self.path(content_hash).unlink(missing_ok=True)

    def prefixes(self) -> list[str]:
        """Return the first digits of the files' hashes, as `Media` says. Raises StorageError."""
        with storage_errors(f"read {self._directory}"):
            return [path.name for path in self._directory.glob("[0-9a-f][0-9a-f]")]

    def unneeded(self, needed: Collection[str], *, prefix: str) -> list[str]:
        """Return the hashes of files that are not needed, as `Media` says. Raises StorageError."""
        with storage_errors(f"read {self._directory}"):
            return [path.name for path in self._unneeded(needed, prefix) if self._is_old(path)]

    def _is_old(self, path: Path) -> bool:
        """Whether no process can still be at work on a file, which may be gone by now."""
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            return False
        return self._grace_seconds == 0 or age > self._grace_seconds


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, some at a time. Raises OSError."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _chunks(content: Path | bytes | Iterator[bytes]) -> Iterable[bytes]:
    if isinstance(content, bytes):
        return (content,)
    return read_chunks(content) if isinstance(content, Path) else content
