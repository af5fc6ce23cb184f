"""The truth about what the library holds: classes, clips and their vectors, in a database.

A transaction is one moment: a reader sees nothing of a write that commits meanwhile, and a write
happens wholly or not at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session

from index.catalogue_reader import CatalogueReader
from index.catalogue_writer import CatalogueWriter
from index.database import database_errors, for_writing, open_database


class Catalogue:
    """Opens transactions on the rows of one model."""

    def __init__(self, engine: Engine, model_id: str) -> None:
        self._engine = engine
        self._model_id = model_id

    @classmethod
    def open(cls, url: URL | str, *, model_id: str) -> "Catalogue":
        """Open and migrate a database. Raises StorageError."""
        return cls(open_database(url), model_id)

    @contextmanager
    def read(self) -> Iterator[CatalogueReader]:
        """Read at one moment, which begins with the first query. Raises StorageError."""
        with database_errors("read the catalogue"), Session(self._engine) as session:
            yield CatalogueReader(session, self._model_id)

    @contextmanager
    def write(self) -> Iterator[CatalogueWriter]:
        """Write; commit at the end, roll back on any exception. Raises StorageError."""
        with (
            database_errors("write to the catalogue"),
            Session(for_writing(self._engine), expire_on_commit=False) as session,
            session.begin(),
        ):
            yield CatalogueWriter(session, self._model_id)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
