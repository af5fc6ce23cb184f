"""Files as a caller names them, opened for one request and sent piece by piece."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

FileInput = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the bytes themselves, or a binary file object, which is sent from its start."""

UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send, and the name to send it under: by default its own."""

    file: FileInput
    filename: str | None = None

    @property
    def name(self) -> str:
        """Return the name that the service gets to know."""
        if self.filename is not None:
            return self.filename
        if isinstance(self.file, (str, os.PathLike)):
            return Path(self.file).name or UNNAMED
        own = getattr(self.file, "name", None)
        return Path(own).name if isinstance(own, str) and own else UNNAMED

    @property
    def can_be_sent_again(self) -> bool:
        """Return whether a second attempt could send the same bytes; a pipe's are gone."""
        return isinstance(self.file, (str, os.PathLike, bytes)) or self.file.seekable()

    @contextmanager
    def opened(self) -> Iterator["bytes | BinaryIO | Piped"]:
        """Hand out what httpx can send. Raises OSError where a path cannot be opened."""
        if isinstance(self.file, bytes):
            yield self.file
        elif isinstance(self.file, (str, os.PathLike)):
            with Path(self.file).open("rb") as file:
                yield file
        else:
            yield self.file if self.file.seekable() else Piped(self.file)


class Piped:
    """A file object that only reads.

    httpx asks a pipe's descriptor how long it is, is told 0, and would announce a body without it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        return self._file.read(size)
