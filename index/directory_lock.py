"""The lock that keeps a second process out of a library's directory."""

import fcntl
import os
from pathlib import Path

from index.durable import storage_errors
from index.errors import LibraryLocked, StorageError


class DirectoryLock:
    """Holds `directory/lock` until released. The kernel drops it when the process dies."""

    def __init__(self, directory: Path) -> None:
        """Take the lock. Raises LibraryLocked naming the holder's pid, StorageError."""
        with storage_errors(f"open the lock file in {directory}"):
            self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 32, 0).decode().strip() or "unknown"
            os.close(self._descriptor)
            raise LibraryLocked(
                f"The library in {directory} is in use by the process with pid {holder}; "
                "stop that process or choose another directory.",
                holder=holder,
            ) from error
        try:
            with storage_errors(f"write the lock file in {directory}"):
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except StorageError:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Let others in. The file stays: removing it would let two processes lock two files."""
        os.close(self._descriptor)
