from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from index.library import Library
from index.registry import STORES
from tests.index.builders import media_file, open_library
from tests.index.stores import TRAINED, TRAINED_ENTRY
from tests.postgresql import NoServer, PostgresqlServer, postgresql_server

ON_EVERY_CATALOGUE = {
    "test_api_keys",
    "test_index_migrations",
    "test_library_jobs",
    "test_library_classes",
    "test_library_replicas",
    "test_library_clips",
    "test_library_concurrency",
    "test_library_search",
}
"""The modules whose tests are also run with the catalogue in PostgreSQL."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    if "catalogue_url" in metafunc.fixturenames and module in ON_EVERY_CATALOGUE:
        metafunc.parametrize("catalogue_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    try:
        with postgresql_server() as server:
            yield server
    except NoServer as reason:
        pytest.skip(f"no PostgreSQL: {reason}")


@pytest.fixture
def catalogue_url(request: pytest.FixtureRequest) -> str | None:
    """Where the catalogue lies; None for a SQLite file in the library's directory."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return None
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.blank_database()


@pytest.fixture(autouse=True)
def trained_store_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STORES, TRAINED, TRAINED_ENTRY)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "library"


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    return media_file(tmp_path)


@pytest.fixture
def library(directory: Path, catalogue_url: str | None) -> Iterator[Library]:
    with open_library(directory, catalogue_url=catalogue_url) as library:
        yield library


@pytest.fixture
def reopened(
    directory: Path, catalogue_url: str | None, library: Library
) -> Iterator[Callable[[], Library]]:
    """Close the library and open its directory again, as a restart does."""
    opened = [library]

    def reopen() -> Library:
        opened[-1].close()
        opened.append(open_library(directory, catalogue_url=catalogue_url))
        return opened[-1]

    yield reopen
    opened[-1].close()


@pytest.fixture
def before_and_after_restart(
    library: Library, reopened: Callable[[], Library]
) -> Iterator[Library]:
    """The library, and once that is done with, the same directory's opened again."""

    def each() -> Iterator[Library]:
        yield library
        yield reopened()

    return each()
