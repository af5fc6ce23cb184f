"""Which model `POST /model` chose, so that the next start serves it again.

The file names what was chosen last, newest first. Which of them is in use is what the library says:
it changes to another model's vectors in one transaction, this file before.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from index.durable import make_directory, replace_file, storage_errors
from index.errors import LibraryNotFound

logger = logging.getLogger(__name__)

FILE = "chosen_model.json"
KEPT = 4
"""The one to come and the one in use would do, were a change never given up."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model by what loads it, `bundled` or a folder, and the space of its vectors."""

    model: str
    space_id: str


class ChosenModel:
    """The choices made since the setting `AVGZSL_MODEL` had its present value.

    Args:
        data_dir: where they are remembered.
        setting: that value; what was chosen under another one no longer counts.
    """

    def __init__(self, data_dir: Path, *, setting: str) -> None:
        self._path = data_dir / FILE
        self._setting = setting

    def choose(self, choice: Choice) -> None:
        """Remember a choice; it is on disk then. Raises StorageError."""
        former = [known for known in self._choices() if known.model != choice.model]
        choices = [choice, *former][:KEPT]
        content = {"setting": self._setting, "choices": [asdict(known) for known in choices]}
        with storage_errors(f"write {self._path}"):
            make_directory(self._path.parent)
            replace_file(self._path, [json.dumps(content, indent=2).encode()])

    def in_use(self, library_dir: Path) -> str:
        """Return the model that the directory's library is of, else the setting.

        Raises StorageError.
        """
        # A library imports much, and most were never told to change.
        from index.catalogue import Catalogue  # noqa: PLC0415
        from index.database import sqlite_url  # noqa: PLC0415

        choices = self._choices()
        if not choices:
            return self._setting
        try:
            catalogue = Catalogue.open_existing(sqlite_url(library_dir / "catalogue.sqlite"))
        except LibraryNotFound:
            return self._setting
        space_id = catalogue.model_id
        catalogue.close()
        for choice in choices:
            if choice.space_id == space_id:
                logger.info("serving the model that POST /model chose: %s", choice.model)
                return choice.model
        return self._setting

    def _choices(self) -> list[Choice]:
        try:
            content = json.loads(self._path.read_bytes())
            if content["setting"] != self._setting:
                return []
            return [Choice(**choice) for choice in content["choices"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is unreadable and left aside: %s", self._path, error)
            return []
