"""Where a library's files lie: in its own directory, in a shared folder, or by a URL."""

import re
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from index.durable import make_directory, replace_file, storage_errors
from index.errors import StorageError
from index.media_store import MediaFolder, MediaStore, StagedFile

GRACE_SECONDS = 3600.0
"""Shared files that are younger may be another process's, which has yet to write their rows."""


class ReadableMedia(Protocol):
    """Files by the SHA-256 of their bytes."""

    def open(self, content_hash: str) -> BinaryIO:
        """Open a file for reading, anywhere in it. Raises OSError where it is absent or away."""
        ...

    def local(self, content_hash: str) -> AbstractContextManager[Path]:
        """Give a path to read a file by, for a while; it may turn out to be absent.

        Raises StorageError where it is away.
        """
        ...


class Media(ReadableMedia, Protocol):
    """Files by content as a writer has them. What `keep` has returned from is stored whole."""

    def staging(
        self, content: Path | bytes | Iterator[bytes]
    ) -> AbstractContextManager[StagedFile]:
        """Take bytes in for `keep`: the slow half of storing, which needs no lock.

        Raises StorageError.
        """
        ...

    def keep(self, staged: StagedFile) -> None:
        """Make a staged file last; nobody removes files meanwhile. Raises StorageError."""
        ...

    def remove(self, content_hash: str) -> None:
        """Delete a file; an absent one is no error. Raises StorageError."""
        ...

    def prefixes(self) -> list[str]:
        """Return the first two hexadecimal digits that the files' hashes have.

        Raises StorageError.
        """
        ...

    def unneeded(self, needed: Collection[str], *, prefix: str) -> list[str]:
        """Return the hashes of files that are not needed and that nobody is at work on.

        Those that begin with `prefix`, two hexadecimal digits.

        Raises StorageError.
        """
        ...


class MediaPlace(NamedTuple):
    """The files of clips, and their thumbnails."""

    media: Media
    thumbnails: Media


class ReadableMediaPlace(NamedTuple):
    """The same, to be read beside whoever writes."""

    media: ReadableMedia
    thumbnails: ReadableMedia


def read_media(directory: Path, url: str | None) -> ReadableMediaPlace:
    """Return the files of a library to read, beside a process that writes them.

    Raises StorageError where the place cannot be used.
    """
    protocol, _, path = (url or "").partition("://")
    if url is None or protocol == "file":
        folder = Path(path) if url else directory
        return ReadableMediaPlace(MediaFolder(folder / "media"), MediaFolder(folder / "thumbnails"))
    # It imports fsspec, and that what the protocol needs.
    from index.remote_media import RemoteFolder, RemoteMedia  # noqa: PLC0415

    place, spool = RemoteFolder(url), directory / "incoming"
    return ReadableMediaPlace(
        RemoteMedia(place, "media", spool, grace_seconds=GRACE_SECONDS),
        RemoteMedia(place, "thumbnails", spool, grace_seconds=GRACE_SECONDS),
    )


def open_media(directory: Path, url: str | None, *, library_id: str, has_clips: bool) -> MediaPlace:
    """Open the files of a library: in its directory, or where a URL says.

    A place by URL is marked as the library's: files that its catalogue does not know get deleted,
    so it must not meet another's. Raises StorageError where it is another's, where it is nobody's
    though the library has clips, or where it cannot be used.
    """
    if url is None:
        return MediaPlace(MediaStore(directory / "media"), MediaStore(directory / "thumbnails"))
    protocol, _, path = url.partition("://")
    if protocol == "file":
        return _shared_folder(Path(path), library_id, has_clips)
    # It imports fsspec, and that what the protocol needs.
    from index.remote_media import RemoteFolder, RemoteMedia  # noqa: PLC0415

    folder = RemoteFolder(url)
    written = folder.read("library_id")
    _check_marker(shown_url(url), written, library_id, has_clips)
    if written is None:
        folder.write("library_id", library_id.encode())
    spool = directory / "incoming"
    _clear_old(spool)
    return MediaPlace(
        RemoteMedia(folder, "media", spool, grace_seconds=GRACE_SECONDS),
        RemoteMedia(folder, "thumbnails", spool, grace_seconds=GRACE_SECONDS),
    )


def shown_url(url: str) -> str:
    """Return a URL without the password that it may hold."""
    return re.sub(r"//[^/]*@", "//***@", url)


def _clear_old(spool: Path) -> None:
    """Delete what processes that died have left in a folder for a while."""
    with storage_errors(f"clear {spool}"):
        for leftover in spool.glob("*"):
            if time.time() - leftover.stat().st_mtime > GRACE_SECONDS:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _shared_folder(folder: Path, library_id: str, has_clips: bool) -> MediaPlace:
    marker = folder / "library_id"
    with storage_errors(f"prepare {folder}"):
        make_directory(folder)
        written = marker.read_bytes() if marker.exists() else None
        _check_marker(str(folder), written, library_id, has_clips)
        if written is None:
            replace_file(marker, [library_id.encode()])
    return MediaPlace(
        MediaStore(folder / "media", grace_seconds=GRACE_SECONDS),
        MediaStore(folder / "thumbnails", grace_seconds=GRACE_SECONDS),
    )


def _check_marker(place: str, written: bytes | None, library_id: str, has_clips: bool) -> None:
    if written is None and has_clips:
        raise StorageError(
            f"The media of this library's clips are not in {place}. Copy `media`, `thumbnails` and "
            "`library_id` of the library's directory there first."
        )
    if written is not None and written.decode("utf-8", "replace").strip() != library_id:
        raise StorageError(
            f"The media in {place} are of another library than the catalogue is (of "
            f"{written[:80].decode('utf-8', 'replace')}, not of {library_id}). Use that library's "
            "catalogue, or an empty place for a new library."
        )
