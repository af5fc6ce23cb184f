"""A second name for files, so that they outlast the removal of the clips made of them."""

import errno
import os
import shutil
import uuid
from pathlib import Path
from typing import Self

from index.directory_lock import DirectoryLock
from index.durable import make_directory, storage_errors
from index.errors import LibraryLocked, StorageError
from index.media import ReadableMedia

NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV}
"""What is answered where there are no hard links, too many of one file, or two file systems."""


class MediaHold:
    """Hard links in a folder of the library's directory, until the `with` block ends.

    Needs no lock on the library. The folder's own lock tells `sweep_holds` that it is in use.
    """

    def __init__(self, directory: Path) -> None:
        """Make the folder. Raises StorageError."""
        self._folder = directory / "holds" / uuid.uuid4().hex
        with storage_errors(f"prepare {self._folder}"):
            make_directory(self._folder)
        self._lock = DirectoryLock(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.release()

    def take(self, media: ReadableMedia, content_hash: str) -> bool:
        """Hold a file; return whether it is there, or is held already. Raises StorageError."""
        held = self.path(content_hash)
        if held.exists():
            return True
        # What lies elsewhere is downloaded first; the link then keeps it.
        with (
            storage_errors(f"hold the media file {content_hash}"),
            media.local(content_hash) as source,
        ):
            try:
                os.link(source, held)
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                return _copy(source, held)
        return True

    def path(self, content_hash: str) -> Path:
        """Where a held file lies."""
        return self._folder / content_hash


def sweep_holds(directory: Path) -> int:
    """Delete the folders of processes that died; return how many. Raises StorageError."""
    swept = 0
    for folder in abandoned_holds(directory):
        with storage_errors(f"clear {folder}"):
            shutil.rmtree(folder)
        swept += 1
    return swept


def abandoned_holds(directory: Path) -> list[Path]:
    """Return the folders that no living process holds. Raises StorageError."""
    with storage_errors(f"read {directory / 'holds'}"):
        folders = list((directory / "holds").glob("*"))
    return [folder for folder in folders if folder.is_dir() and not _in_use(folder)]


def _in_use(folder: Path) -> bool:
    try:
        DirectoryLock(folder).release()
    except LibraryLocked:
        return True
    except StorageError:
        if folder.exists():
            raise
        # Its process has just let go of it.
        return True
    return False


def _copy(source: Path, target: Path) -> bool:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        return False
    return True
