"""The catalogue's database: how it is opened, brought to the current schema and made durable."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import SQLITE_BUSY, OperationalError
from sqlite3 import Connection as SQLiteConnection
from typing import TYPE_CHECKING, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from index.errors import LibraryNotFound, StorageError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"

BUSY_SECONDS = 30.0
"""How long SQLite's lock is waited for; a backup may hold the file for a moment."""

SQLITE_PRAGMAS = (
    f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS:.0f}",  # milliseconds
    "PRAGMA synchronous = FULL",  # a commit that returned survives a power cut
    "PRAGMA foreign_keys = ON",
)

POSTGRESQL_OPTIONS = {
    "connect_timeout": "5",  # seconds
    # A server that vanished without a word is noticed in seconds, not in hours.
    "tcp_user_timeout": "15000",  # milliseconds
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    # Writers wait for each other within a statement; rows are read some thousands at a time.
    "options": "-c statement_timeout=60s",
}
"""What the driver is told where the URL says nothing else."""

WRITE_LOCK = 0x6176677A736C  # "avgzsl"
"""The advisory lock of PostgreSQL that writers of a database take, one after the other."""


@contextmanager
def database_errors(action: str) -> Iterator[None]:
    """Turn what the database refuses into StorageError; `action` completes "Could not ..."."""
    try:
        yield
    except DBAPIError as error:
        raise StorageError(
            f"Could not {action}: {error.orig}. What was stored before is intact; "
            "check the database, its disk's free space and permissions."
        ) from error


def sqlite_url(path: Path) -> URL:
    """The URL of a SQLite file."""
    return URL.create("sqlite", database=str(path))


def open_database(url: URL | str) -> Engine:
    """Connect and migrate to the newest schema this code knows.

    Raises StorageError where the database cannot be used or is newer than this code.
    """
    engine = _engine(url)
    shown = engine.url.render_as_string(hide_password=True)
    with database_errors(f"open the catalogue {shown}"):
        with engine.connect() as connection:
            current = _is_current(connection, shown)
        if not current:
            # Of several that start at once, one migrates, and the others then find it done.
            with for_writing(engine).begin() as connection:
                _migrate(connection, shown)
    return engine


def open_existing_database(url: URL | str) -> Engine:
    """Connect to a database of the newest schema and change nothing: another may be using it.

    Raises LibraryNotFound where there is no database or it is blank, StorageError where it cannot
    be used or has another schema.
    """
    engine = _engine(url)
    shown = engine.url.render_as_string(hide_password=True)
    path = engine.url.database
    # SQLite would create the file.
    if engine.url.get_backend_name() == "sqlite" and not Path(path or "").is_file():
        raise LibraryNotFound(f"There is no library: the catalogue {path} does not exist.")
    with database_errors(f"open the catalogue {shown}"), engine.connect() as connection:
        present, newest = _present_revision(connection), known_revisions()[0]
    if present is None:
        raise LibraryNotFound(f"There is no library: the catalogue {shown} is blank.")
    if present != newest:
        raise StorageError(
            f"The catalogue {shown} has the schema revision {present}, this program's is {newest}; "
            "use the program that wrote it, or start the service of this one to migrate it."
        )
    return engine


def integrity_problems(connection: Connection) -> Iterator[str]:
    """Yield what a SQLite database says of damage to itself; of another kind, nothing.

    Rows that refer to nothing are `CatalogueAuditor`'s to find, in every kind of database.
    """
    if connection.dialect.name != "sqlite":
        return
    for (line,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if line != "ok":
            yield str(line)


def for_writing(engine: Engine) -> Engine:
    """The same database, whose transactions take the write lock at their beginning.

    A transaction that reads first and then writes fails where another wrote in between.
    """
    if engine.dialect.name == "postgresql":
        # The moment of REPEATABLE READ would be that before the lock was had.
        return engine.execution_options(isolation_level="READ COMMITTED", takes_write_lock=True)
    return engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")


def _engine(url: URL | str) -> Engine:
    try:
        url = make_url(url)
    except (ArgumentError, ValueError) as error:
        # It may hold a password, so it is not told.
        raise StorageError(
            "The catalogue URL cannot be read; write postgresql://USER:PASSWORD@HOST/DATABASE with "
            "special characters percent-encoded, or leave it out to use SQLite."
        ) from error
    try:
        match url.get_backend_name():
            case "sqlite":
                # Readers beyond the pool get a connection of their own rather than wait.
                engine = create_engine(url, max_overflow=-1)
                _configure_sqlite(engine)
            case "postgresql" | "postgres":
                engine = _postgresql_engine(url)
            case other:
                raise ArgumentError(f"{other!r} is neither postgresql nor sqlite")
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise StorageError(
            f"The catalogue URL {url.render_as_string(hide_password=True)!r} cannot be used: "
            f"{error}. Install the driver it names (`pip install 'avgzsl[postgres]'` for "
            "PostgreSQL), or leave the URL out to use SQLite."
        ) from error
    return engine


def _postgresql_engine(url: URL) -> Engine:
    if "+" not in url.drivername:
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(
        url,
        isolation_level="REPEATABLE READ",
        max_overflow=-1,
        # The server may have been started anew since a connection was last used.
        pool_pre_ping=True,
        connect_args={k: v for k, v in POSTGRESQL_OPTIONS.items() if k not in url.query},
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("takes_write_lock"):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

    return engine


def _configure_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: SQLiteConnection, _entry: ConnectionPoolEntry) -> None:
        # Python's driver begins transactions late and commits before DDL; SQLAlchemy begins here.
        connection.isolation_level = None
        for pragma in SQLITE_PRAGMAS:
            connection.execute(pragma)
        _let_readers_go_on(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        statement = connection.get_execution_options().get("sqlite_begin")
        if statement is not None:
            connection.exec_driver_sql(statement)
            return
        # Waits for nobody and cannot fail; each search begins one, so by the driver itself.
        cast(SQLiteConnection, connection.connection.driver_connection).execute("BEGIN")


def _let_readers_go_on(connection: SQLiteConnection) -> None:
    """Turn a database to WAL mode, in which readers go on while one writes; then it stays so.

    SQLite does not wait where another connection is just turning a blank file.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except OperationalError as error:
            if error.sqlite_errorcode != SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def known_revisions() -> list[str]:
    """Return the schema revisions of this program, newest first; their files bear their names."""
    files = (MIGRATIONS / "versions").glob("[0-9]*.py")
    return sorted((path.name.partition("_")[0] for path in files), reverse=True)


def lift_time_limit(connection: Connection) -> None:
    """Let the statements of this transaction take as long as they take."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


def migrations() -> "Config":
    """What Alembic is told of this program's migrations."""
    # A quarter of a second to import, which only a start that migrates should take.
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _migrate(connection: Connection, shown: str) -> None:
    from alembic import command  # noqa: PLC0415 - as above

    if _is_current(connection, shown):
        return
    lift_time_limit(connection)
    config = migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _is_current(connection: Connection, shown: str) -> bool:
    """Whether the schema is this program's. Raises StorageError where it is newer."""
    known = known_revisions()
    present = _present_revision(connection)
    if present is not None and present not in known:
        raise StorageError(
            f"The catalogue {shown} has the schema revision {present}, newer than this program "
            f"knows (up to {known[0]}); upgrade the program or restore an older backup."
        )
    return present == known[0]


def _present_revision(connection: Connection) -> str | None:
    """The revision that Alembic noted in the database, None where it noted nothing."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    noted = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return cast(str | None, noted)
