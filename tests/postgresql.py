"""A PostgreSQL server of the tests' own: Debian's, in a temporary directory, on a Unix socket."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, create_engine

SETTINGS = (
    "listen_addresses=",
    "fsync=off",  # no test pulls the plug
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=100",
    "shared_buffers=16MB",
)


class NoServer(Exception):
    """There can be no server here; the text says why."""


class PostgresqlServer:
    """A server with one database, which each test finds blank."""

    def __init__(self, binaries: Path, folder: Path, account: tuple[str, ...]) -> None:
        self._binaries = binaries
        self._folder = folder
        self._account = account

    def initialise(self) -> None:
        self._run("initdb", "--pgdata", self._data, "--username", "tests", "--auth", "trust",
                  "--encoding", "UTF8", "--locale", "C", "--no-sync")  # fmt: skip

    def start(self) -> None:
        options = " ".join(f"-c {setting}" for setting in SETTINGS)
        self._run("pg_ctl", "start", "--pgdata", self._data, "--wait", "--silent",
                  "--log", str(self._folder / "log"),
                  "--options", f"{options} -c unix_socket_directories={self._folder}")  # fmt: skip

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--pgdata", self._data, "--wait", "--silent",
                  "--mode", "fast")  # fmt: skip

    def blank_database(self) -> str:
        """Empty the one database, whatever it held for the test before, and return its URL.

        A database for each test would be some hundred files for each.
        """
        engine = create_engine(
            self._url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        engine.dispose()
        return self._url.render_as_string(hide_password=False)

    @property
    def _url(self) -> URL:
        return URL.create(
            "postgresql",
            username="tests",
            database="postgres",
            query={"host": str(self._folder)},
        )

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._account, str(self._binaries / program), *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            # A server that kept a pipe open would never let it end.
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "errors").open("ab"),
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            said = (self._folder / "errors").read_text(errors="replace").strip()
            raise NoServer(f"{program} failed: {said[-500:]}")


@contextmanager
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Run a server until the block ends. Raises NoServer."""
    if find_spec("psycopg") is None:
        raise NoServer("the driver psycopg is not installed")
    binaries = _binaries()
    # Short, because the path of a Unix socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="avgzsl-pg-"))
    try:
        server = PostgresqlServer(binaries, folder, _account(folder))
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("pg_ctl")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    raise NoServer("no server is installed (Debian: apt-get install postgresql)")


def _account(folder: Path) -> tuple[str, ...]:
    """The server refuses to run as root; Debian's package makes an account for it."""
    if os.geteuid() != 0:
        return ()
    try:
        shutil.chown(folder, "postgres")
    except LookupError as error:
        raise NoServer("it does not run as root, and there is no account `postgres`") from error
    return ("runuser", "-u", "postgres", "--")
