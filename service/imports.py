"""Folders of this machine that may be imported: which, and what of them are media files."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from index.job_types import JobFailure, NewJobItem
from service.allowed_folders import AllowedFolders
from service.content_types import is_media
from service.errors import (
    PROBLEMS,
    ImportFolderNotFound,
    ImportRefused,
    UnreadableFile,
    shown,
)


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """The media files of a folder, with those that may not be read; `skipped` are no media."""

    items: tuple[NewJobItem, ...]
    skipped: int


class ImportRoots:
    """The folders below which imports may read; links count by where they lead."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._allowed = AllowedFolders(
            roots,
            setting="AVGZSL_IMPORT_ROOTS",
            purpose="imported",
            refused=ImportRefused,
            missing=ImportFolderNotFound,
        )

    def folder(self, path: str) -> Path:
        """Return a folder without links. Raises ImportRefused, ImportFolderNotFound."""
        return self._allowed.folder(path)

    def file(self, path: Path) -> Path:
        """Return a file without links. Raises ImportRefused, UnreadableFile."""
        resolved = path.resolve()
        self._allowed.check(resolved, str(path))
        try:
            with resolved.open("rb"):
                return resolved
        except OSError as error:
            raise UnreadableFile(
                f"The file {shown(str(path))} cannot be read: {error.strerror or error}."
            ) from error

    def files(self, path: Path, *, recursive: bool) -> FolderFiles:
        """Look for the media files of a folder, in the order of their names.

        Hidden files and folders are left out, links to folders are not followed; a folder in it
        that cannot be read is one that failed. Raises ImportRefused, ImportFolderNotFound,
        UnreadableFile.
        """
        folder = self.folder(str(path))
        items: list[NewJobItem] = []
        skipped = 0

        def unreadable(error: OSError) -> None:
            place = Path(str(error.filename))
            refused = UnreadableFile(
                f"The folder {shown(str(place))} cannot be read: {error.strerror or error}. Let "
                "the service read it, and import it again."
            )
            if place == folder:
                raise refused from error
            failure = JobFailure(PROBLEMS[UnreadableFile].code, str(refused))
            items.append(NewJobItem(str(place.relative_to(folder)), str(place), failure=failure))

        for file in _walk(folder, recursive=recursive, unreadable=unreadable):
            # A link to a folder comes as a file; one that leads away is told, not just left out.
            if not file.is_symlink() and not is_media(file.name):
                skipped += 1
                continue
            item = self._item(file, folder)
            if item is None:
                skipped += 1
            else:
                items.append(item)
        return FolderFiles(tuple(items), skipped)

    def _item(self, file: Path, folder: Path) -> NewJobItem | None:
        name = str(file.relative_to(folder))
        try:
            self._allowed.check(file.resolve(), name)
        except ImportRefused as error:
            failure = JobFailure(PROBLEMS[ImportRefused].code, str(error))
            return NewJobItem(name=name, path=str(file), failure=failure)
        if not file.is_file() or not is_media(file.name):
            return None
        return NewJobItem(name=name, path=str(file))


def _walk(
    folder: Path, *, recursive: bool, unreadable: Callable[[OSError], None]
) -> Iterator[Path]:
    """Yield what is in a folder and is no folder, links to folders among it."""
    for directory, folders, files in os.walk(folder, onerror=unreadable):
        links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        for name in sorted([*files, *links]):
            if not name.startswith("."):
                yield Path(directory) / name
        folders[:] = sorted(
            name for name in folders if recursive and not name.startswith(".") and name not in links
        )
