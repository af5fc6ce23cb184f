"""Writing files so that a crash leaves the whole old file or the whole new one."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from index.errors import StorageError


def write_synced(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new file and wait until the disk holds it. Raises FileExistsError, OSError."""
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def rename_synced(source: Path, target: Path) -> None:
    """Move a synced file over `target`, in the same file system, and wait for the directory."""
    os.replace(source, target)
    sync_directory(target.parent)


def replace_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Replace a file's content as one step: written beside it, synced, then renamed over it."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        write_synced(temporary, chunks)
        rename_synced(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_directory(path: Path) -> None:
    """Create a directory and its parents where absent, so that they survive a power cut."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Wait until the disk holds a directory's entries."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(action: str) -> Iterator[None]:
    """Turn an OSError into StorageError; `action` completes "Could not ..."."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"Could not {action}: {error.strerror or error}. "
            "What was stored before is intact; check the disk's free space and permissions."
        ) from error
