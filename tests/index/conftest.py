from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from index.library import Library
from index.registry import STORES
from tests.index.builders import media_file, open_library
from tests.index.stores import TRAINED, TRAINED_ENTRY


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
def library(directory: Path) -> Iterator[Library]:
    with open_library(directory) as library:
        yield library


@pytest.fixture
def reopened(directory: Path, library: Library) -> Iterator[Callable[[], Library]]:
    """Close the library and open its directory again, as a restart does."""
    opened = [library]

    def reopen() -> Library:
        opened[-1].close()
        opened.append(open_library(directory))
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
