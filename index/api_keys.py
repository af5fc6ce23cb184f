"""The keys of the HTTP API, as the catalogue remembers them: hashes, never the keys themselves.

They are no part of what the library holds: a write here counts as no generation, and archives
leave them out. So the command line may change them beside the process that serves the library.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

from sqlalchemy import URL, Engine, or_, select, update
from sqlalchemy.orm import Session

from index.database import database_errors, for_writing, open_database, sqlite_url
from index.durable import make_directory, storage_errors
from index.errors import ApiKeyExists, ApiKeyNotFound
from index.tables import ApiKeyRow

Scope = Literal["read", "write", "admin"]


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key to be remembered.

    Attributes:
        key_id: short and public, by which it is found.
        secret_hash: what the secret part is compared with.
        rate: how many requests in a span of time, such as `60/minute`; None for the service's own.
        concurrency: how many requests at once; None for the service's own.
    """

    key_id: str
    name: str
    scope: Scope
    secret_hash: bytes
    rate: str | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that is remembered; `revoked_at` is None while it is in use."""

    key_id: str
    name: str
    scope: Scope
    secret_hash: bytes
    rate: str | None
    concurrency: int | None
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class ApiKeyStore:
    """Reads and changes the keys in a catalogue. Any thread may call any method."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, directory: Path, *, catalogue_url: URL | str | None = None) -> "ApiKeyStore":
        """Open the keys of a directory's library, made where absent.

        The directory's lock is not taken: another process may serve the library. Raises
        StorageError.
        """
        with storage_errors(f"create {directory}"):
            make_directory(directory)
        return cls(open_database(catalogue_url or sqlite_url(directory / "catalogue.sqlite")))

    def add(self, new: NewApiKey) -> ApiKey:
        """Remember a key. Raises ApiKeyExists, StorageError."""
        with self._writing() as session:
            taken = select(ApiKeyRow).where(
                ApiKeyRow.name == new.name, ApiKeyRow.revoked_at.is_(None)
            )
            if session.scalars(taken).first() is not None:
                raise ApiKeyExists(
                    f"A key named {new.name!r} is in use; choose another name, or revoke that one "
                    "first."
                )
            row = ApiKeyRow(
                key_id=new.key_id,
                name=new.name,
                scope=new.scope,
                secret_hash=new.secret_hash,
                rate=new.rate,
                concurrency=new.concurrency,
                created_at=datetime.now(UTC),
            )
            session.add(row)
            session.flush()
            return _record(row)

    def all(self) -> list[ApiKey]:
        """Return all keys in the order in which they were made. Raises StorageError."""
        with database_errors("read the API keys"), Session(self._engine) as session:
            rows = session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.created_at))
            return [_record(row) for row in rows]

    def revoke(self, key: str) -> ApiKey:
        """Put the key with this id or name out of use. Raises ApiKeyNotFound, StorageError."""
        with self._writing() as session:
            named = or_(ApiKeyRow.key_id == key, ApiKeyRow.name == key)
            row = session.scalars(
                select(ApiKeyRow).where(named, ApiKeyRow.revoked_at.is_(None))
            ).first()
            if row is None:
                raise ApiKeyNotFound(
                    f"No key that is in use has the id or name {key!r}; `avgzsl keys list` shows "
                    "them."
                )
            row.revoked_at = datetime.now(UTC)
            session.flush()
            return _record(row)

    def note_use(self, moments: Mapping[str, datetime]) -> None:
        """Remember when keys, by their ids, were last used. Raises StorageError."""
        with self._writing() as session:
            for key_id, moment in moments.items():
                session.execute(
                    update(ApiKeyRow).where(ApiKeyRow.key_id == key_id).values(last_used_at=moment)
                )

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """One transaction, committed at the end."""
        with (
            database_errors("write the API keys"),
            Session(for_writing(self._engine), expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session


def _record(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        key_id=row.key_id,
        name=row.name,
        scope=cast(Scope, row.scope),
        secret_hash=row.secret_hash,
        rate=row.rate,
        concurrency=row.concurrency,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
