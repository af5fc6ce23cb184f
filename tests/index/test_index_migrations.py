"""Migrations: from blank and from every older schema with rows, on every kind of database."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, create_engine, inspect, make_url, text

from index.catalogue import Catalogue
from index.catalogue_records import Changes, Moment
from index.database import _engine, known_revisions, migrations, open_database, sqlite_url
from index.tables import Base
from index.types import SearchFilter
from tests.index.builders import DIM, MODEL, axis, new_class, open_library

NEWEST, *OLDER = known_revisions()


@pytest.fixture
def url(tmp_path: Path, catalogue_url: str | None) -> URL:
    return (
        sqlite_url(tmp_path / "catalogue.sqlite")
        if catalogue_url is None
        else make_url(catalogue_url)
    )


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    """The database without what `open_database` does to it."""
    engine = _engine(url)
    yield engine
    engine.dispose()


def test_the_files_names_are_the_revisions_that_alembic_finds_in_them() -> None:
    found = ScriptDirectory.from_config(migrations()).walk_revisions()

    assert known_revisions() == [script.revision for script in found]


def test_a_current_catalogue_is_opened_without_alembic(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "catalogue.sqlite")
    open_database(url).dispose()
    code = (
        "import sys\nfrom index.database import open_database\n"
        "open_database(sys.argv[1]).dispose()\nprint('alembic' in sys.modules)"
    )

    run = [sys.executable, "-c", code, str(url)]
    assert subprocess.check_output(run, text=True) == "False\n"


def upgrade(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        config = migrations()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


ROWS: dict[str, list[dict[str, object]]] = {
    "meta": [
        {"key": "generation", "value": "7"},
        {"key": "library_id", "value": "0123456789abcdef"},
        {"key": "model_id", "value": MODEL},
        {"key": "dim", "value": str(DIM)},
    ],
    "vocabularies": [{"vocabulary_id": "v", "seeded_at": datetime(2025, 1, 2)}],
    "classes": [
        {
            "class_id": "c" * 32,
            "key": "dog",
            "name": "Dog",
            "synonyms": json.dumps(["hound"]),
            "search_text": "dog\nhound",
            "description": "barks",
            "seen": True,
            "enabled": True,
            "vocabulary_id": "v",
            "created_at": datetime(2025, 1, 2),
        }
    ],
    "class_vectors": [{"class_row": 1, "model_id": MODEL, "vector": axis(0).tobytes()}],
    "clips": [
        {
            "clip_id": "d" * 32,
            "filename": "old.mp4",
            "content_type": "video/mp4",
            "content_hash": "e" * 64,
            "size_bytes": 5,
            "duration_seconds": 2.5,
            "modalities": json.dumps({"audio": {"used": True, "reason": None}}),
            "warnings": "[]",
            "created_at": datetime(2025, 1, 3, 4, 5, 6),
            "model_id": MODEL,
        }
    ],
    "clip_tags": [{"clip_row": 1, "tag": "old", "position": 0}],
    "clip_vectors": [{"clip_row": 1, "model_id": MODEL, "audio": axis(0).tobytes()}],
    "segments": [
        {
            "clip_row": 1,
            "model_id": MODEL,
            "start_seconds": 0.5,
            "end_seconds": 2.5,
            "audio": axis(0).tobytes(),
        }
    ],
}
"""A library as the schema 0001 holds it."""


def fill(engine: Engine) -> None:
    with engine.begin() as connection:
        for table, rows in ROWS.items():
            for row in rows:
                names = ", ".join(row)
                values = ", ".join(f":{name}" for name in row)
                connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)


@pytest.mark.parametrize("revision", OLDER)
def test_the_rows_of_an_older_schema_are_all_there(
    engine: Engine, url: URL, directory: Path, revision: str
) -> None:
    upgrade(engine, OLDER[-1])
    fill(engine)
    upgrade(engine, revision)
    with open_library(directory, catalogue_url=url) as library:
        (dog,) = library.list_classes().items
        assert (dog.name, dog.synonyms, dog.description, dog.seen) == (
            "Dog", ("hound",), "barks", True,
        )  # fmt: skip
        (hit,) = library.search(axis(0), filter=SearchFilter(tags=("old",), modality="audio"))
        assert (hit.clip.filename, hit.start_seconds, hit.end_seconds) == ("old.mp4", 0.5, 2.5)
        assert hit.score == pytest.approx(1)
        assert hit.clip.created_at == datetime(2025, 1, 3, 4, 5, 6, tzinfo=UTC)
        assert library.label_similarities(axis(0)[None]).similarity.tolist() == [[1]]
        library.add_class(new_class("cat", axis(1)))
    with open_library(directory, catalogue_url=url) as library:
        assert library.list_classes().total == 2


@pytest.mark.parametrize("revision", [None, *OLDER])
def test_every_way_ends_in_the_schema_that_the_code_expects(
    engine: Engine, url: URL, revision: str | None
) -> None:
    if revision is not None:
        upgrade(engine, OLDER[-1])
        fill(engine)
        upgrade(engine, revision)
    open_database(url).dispose()
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        names = set(inspect(connection).get_table_names())
    assert names - {"alembic_version", "sqlite_sequence"} == set(Base.metadata.tables)


def test_what_was_changed_before_there_was_a_log_is_in_none(engine: Engine, url: URL) -> None:
    upgrade(engine, "0001")
    fill(engine)
    catalogue = Catalogue.open(url, model_id=MODEL)
    with catalogue.read() as reader:
        assert reader.fact("changes_after") == "7"
        moment = reader.moment()
        assert moment.generation == 7
        assert reader.changes_after(moment) == Changes([], [])
        assert moment.token is not None
        for other in (Moment(7, moment.token + 1), Moment(6, moment.token), Moment(7, None)):
            assert reader.changes_after(other) is None
    catalogue.close()


def test_of_several_that_open_a_blank_database_at_once_one_migrates(url: URL) -> None:
    barrier = threading.Barrier(4)

    def open_at_once(number: int) -> str | None:
        barrier.wait()
        engine = open_database(url)
        with engine.connect() as connection:
            present = MigrationContext.configure(connection).get_current_revision()
        engine.dispose()
        return present

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(open_at_once, range(4))) == {NEWEST}
    engine = create_engine(url) if url.get_backend_name() == "sqlite" else _engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    engine.dispose()
