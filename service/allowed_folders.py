"""Folders of this machine that a request may name; links count by where they lead."""

import os
from collections.abc import Sequence
from pathlib import Path

from service.errors import ServiceError, shown


class AllowedFolders:
    """What lies below some roots.

    Args:
        roots: the folders.
        setting: the variable that names them, for messages.
        purpose: completes "a folder that may be", for messages.
        refused: raised for what lies elsewhere.
        missing: raised for what is no folder.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        setting: str,
        purpose: str,
        refused: type[ServiceError],
        missing: type[ServiceError],
    ) -> None:
        self._roots = tuple(root.resolve() for root in roots)
        self._setting = setting
        self._purpose = purpose
        self._refused = refused
        self._missing = missing

    def folder(self, path: str) -> Path:
        """Return a folder without links. Raises what is raised for refused and missing ones."""
        if "\0" in path or not os.path.isabs(path):
            raise self._missing(
                f"The path {shown(path)} is not absolute; send the whole path of a folder on the "
                "machine of the service."
            )
        folder = Path(path).resolve()
        # Before it is looked at: what lies elsewhere is nobody's business.
        self.check(folder, path)
        if not folder.is_dir():
            raise self._missing(
                f"{shown(path)} is no folder on the machine of the service; mind that a container "
                "has folders of its own."
            )
        return folder

    def check(self, resolved: Path, path: str) -> None:
        """Raise unless a path without links, given as `path`, lies below one of the roots."""
        if any(resolved.is_relative_to(root) for root in self._roots):
            return
        allowed = ", ".join(map(str, self._roots)) or "no folder"
        raise self._refused(
            f"{shown(path)} does not lie in a folder that may be {self._purpose} ({allowed}); "
            f"{self._setting} says which may be."
        )
