"""The space in use: who reads and writes it at what moment, and how its vectors keep up."""

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from index.catalogue import Catalogue
from index.catalogue_reader import CatalogueReader
from index.catalogue_writer import CatalogueWriter
from index.errors import LibraryError, ModelMismatch, StorageError
from index.read_write_lock import ReadWriteLock
from index.space import Space

logger = logging.getLogger(__name__)


class CurrentSpace:
    """A library's `Space`, which is another one after a change of model.

    One thread at a time writes, between `exclusive` and `follow`. Any number read meanwhile: they
    wait only while the space is replaced.
    """

    def __init__(self, space: Space, directory: Path, *, shared: bool) -> None:
        """Take a space that is loaded; other processes write to a `shared` catalogue too."""
        self._space = space
        self._directory = directory
        self._shared = shared
        self._writer = threading.Lock()
        self._space_lock = ReadWriteLock()
        self._closed = False
        self._out_of_step = False

    @property
    def space(self) -> Space:
        """The space as of now; who reads several things of it asks under `reading`."""
        return self._space

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue as the space's model sees it."""
        return self._space.catalogue

    def close(self) -> None:
        """Save the vectors; whoever reads or writes from now on is refused."""
        with self._writer:
            if self._closed:
                return
            self._closed = True
            self.follow()
            if not self._out_of_step:
                self._space.save()

    def refuse_closed(self) -> None:
        """Raise StorageError once closed: another process may own the directory by then."""
        if self._closed:
            raise StorageError(f"The library in {self._directory} is closed; open it again.")

    def refuse_other_model(self, model_id: str | None) -> None:
        """Raise ModelMismatch where vectors are of another model than the one in use."""
        if model_id not in (None, self._space.model_id):
            raise ModelMismatch(
                f"The vectors are of the model {model_id}; the library is of "
                f"{self._space.model_id} by now. Embed again."
            )

    # Reading

    @contextmanager
    def reading(self) -> Iterator[CatalogueReader]:
        """Read the catalogue at one moment, while the model stays the same. Raises StorageError."""
        with self.staying() as space, space.catalogue.read() as reader:
            if self._shared:
                reader.check_model()
            yield reader

    @contextmanager
    def staying(self) -> Iterator[Space]:
        """Keep the space from being replaced. Raises StorageError."""
        with self._space_lock.reading():
            self.refuse_closed()
            yield self._space

    def catch_up(self) -> None:
        """Wait for vectors that hold every committed change. Raises StorageError."""
        if self._out_of_step:
            with self.exclusive():
                pass  # Being the writer brings them into step.

    # Writing

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Be the one writer. Raises StorageError."""
        with self._writer:
            self.refuse_closed()
            if self._out_of_step:
                self._space.follow()
                self._out_of_step = False
            yield

    @contextmanager
    def write(self) -> Iterator[CatalogueWriter]:
        """Write to the catalogue, being the one writer. Raises ModelMismatch, StorageError."""
        with self.catalogue.write() as writer:
            writer.check_model()
            yield writer

    def follow(self) -> None:
        """Bring committed rows into the vectors; where a store refuses, rebuild these from them.

        The rows are on disk by now, so the caller's write has succeeded either way. Where store or
        database are still out of reach, whoever needs the vectors next tries again.
        """
        try:
            self._space.follow()
        except Exception:
            logger.exception("The vectors could not take over a committed change; trying again.")
            self._out_of_step = True
            try:
                self._space.follow()
                self._out_of_step = False
            except LibraryError:
                logger.exception("The vectors cannot be brought into step yet.")

    def follow_others(self) -> None:
        """Take over what other processes committed. Raises LibraryError."""
        if self._space.is_behind():
            with self.exclusive():
                self.follow()

    # Replacing

    def nobody_reading(self) -> AbstractContextManager[None]:
        """Wait for those who read, and keep others from it: for a moment only."""
        return self._space_lock.writing()

    def replace(self, space: Space) -> Space:
        """Use another space, in step with its rows, while nobody reads; return the former."""
        former, self._space = self._space, space
        self._out_of_step = False
        return former
