"""The truth about what the library holds: classes, clips and their vectors, in a database.

A transaction is one moment: a reader sees nothing of a write that commits meanwhile, and a write
happens wholly or not at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session

from index.catalogue_auditor import CatalogueAuditor
from index.catalogue_reader import CatalogueReader
from index.catalogue_writer import CatalogueWriter
from index.database import (
    database_errors,
    for_writing,
    integrity_problems,
    open_database,
    open_existing_database,
)
from index.errors import LibraryNotFound
from index.reindex_rows import ReindexReader, ReindexWriter


class Catalogue:
    """Opens transactions on the rows of one model."""

    def __init__(self, engine: Engine, model_id: str) -> None:
        self._engine = engine
        self._model_id = model_id

    @classmethod
    def open(cls, url: URL | str, *, model_id: str) -> "Catalogue":
        """Open and migrate a database. Raises StorageError."""
        return cls(open_database(url), model_id)

    @classmethod
    def open_existing(cls, url: URL | str) -> "Catalogue":
        """Open a database as it is, for whichever model its rows are of.

        Changes nothing, so that another process may have it open. Raises LibraryNotFound where it
        does not exist or is of no model yet, StorageError.
        """
        engine = open_existing_database(url)
        with cls(engine, model_id="").read() as reader:
            model_id = reader.fact("model_id")
        if model_id is None:
            engine.dispose()
            raise LibraryNotFound("There is no library: the catalogue is of no model yet.")
        return cls(engine, model_id)

    def for_model(self, model_id: str) -> "Catalogue":
        """Return the same database's rows of another model. Closing either closes both."""
        return Catalogue(self._engine, model_id)

    @property
    def engine(self) -> Engine:
        """The database, for what is kept in it besides the library."""
        return self._engine

    @property
    def model_id(self) -> str:
        """The model whose rows these are."""
        return self._model_id

    @contextmanager
    def read(self) -> Iterator[CatalogueReader]:
        """Read at one moment, which begins with the first query. Raises StorageError."""
        with database_errors("read the catalogue"), Session(self._engine) as session:
            yield CatalogueReader(session, self._model_id)

    @contextmanager
    def audit(self) -> Iterator[CatalogueAuditor]:
        """Read, as `read` does, what a sound catalogue never holds. Raises StorageError."""
        with database_errors("read the catalogue"), Session(self._engine) as session:
            yield CatalogueAuditor(session, self._model_id)

    @contextmanager
    def read_alone(self) -> Iterator[CatalogueReader]:
        """Read while nobody writes, in this process or another. Raises StorageError."""
        with (
            database_errors("read the catalogue"),
            Session(for_writing(self._engine)) as session,
        ):
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

    @contextmanager
    def read_reindex(self) -> Iterator[ReindexReader]:
        """Read, as `read` does, what a model that is not in use yet has still to do."""
        with database_errors("read the catalogue"), Session(self._engine) as session:
            yield ReindexReader(session, self._model_id)

    @contextmanager
    def reindex(self) -> Iterator[ReindexWriter]:
        """Write, as `write` does, the rows of a model that is not in use yet."""
        with (
            database_errors("write to the catalogue"),
            Session(for_writing(self._engine), expire_on_commit=False) as session,
            session.begin(),
        ):
            yield ReindexWriter(session, self._model_id)

    def integrity_problems(self) -> list[str]:
        """Return what the database says of damage to itself. Raises StorageError."""
        with database_errors("check the catalogue"), self._engine.connect() as connection:
            return list(integrity_problems(connection))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
