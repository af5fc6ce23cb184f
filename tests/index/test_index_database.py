"""The schema: made from blank, the same as the code's, never downgraded silently."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from index.catalogue import Catalogue
from index.database import open_database, sqlite_url
from index.errors import StorageError
from index.tables import Base


def test_a_blank_database_gets_the_schema_that_the_code_expects(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "catalogue.sqlite"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        names = set(inspect(connection).get_table_names())
    engine.dispose()
    assert names - {"alembic_version", "sqlite_sequence"} == set(Base.metadata.tables)


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    open_database(sqlite_url(path)).dispose()
    before = path.read_bytes()
    open_database(sqlite_url(path)).dispose()
    assert path.read_bytes() == before


def test_a_path_with_awkward_characters_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20#?é"
    folder.mkdir()
    open_database(sqlite_url(folder / "catalogue.sqlite")).dispose()
    assert (folder / "catalogue.sqlite").exists()


def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    open_database(sqlite_url(path)).dispose()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    with pytest.raises(StorageError, match="revision 9999, newer than this program") as refusal:
        open_database(sqlite_url(path))
    assert "upgrade the program" in str(refusal.value)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    connection.close()


def test_a_migration_that_fails_leaves_the_database_blank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "catalogue.sqlite"
    with monkeypatch.context() as patch:
        patch.setattr("alembic.op.create_table", fail_at_third_table())
        with pytest.raises(InterruptedError):
            open_database(sqlite_url(path))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()
    open_database(sqlite_url(path)).dispose()


def fail_at_third_table() -> Callable[..., object]:
    create, names = op.create_table, []

    def create_or_fail(name: str, *columns: Any, **options: Any) -> object:
        names.append(name)
        if len(names) == 3:
            raise InterruptedError
        return create(name, *columns, **options)

    return create_or_fail


def test_every_connection_is_durable_and_checks_foreign_keys(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "catalogue.sqlite"))
    with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            values = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
            assert values == ["wal", 2, 1]
    engine.dispose()


def test_a_reader_keeps_its_moment_while_another_writes(tmp_path: Path) -> None:
    catalogue = Catalogue.open(sqlite_url(tmp_path / "catalogue.sqlite"), model_id="m")
    with catalogue.read() as reader:
        assert reader.fact("colour") is None
        with catalogue.write() as writer:
            writer.set_fact("colour", "red")
        assert reader.fact("colour") is None
    with catalogue.read() as reader:
        assert reader.fact("colour") == "red"
    catalogue.close()


def test_every_write_counts_as_one_generation_and_a_failed_one_as_none(tmp_path: Path) -> None:
    catalogue = Catalogue.open(sqlite_url(tmp_path / "catalogue.sqlite"), model_id="m")
    for _ in range(3):
        with catalogue.write() as writer:
            writer.set_fact("colour", "red")
    with pytest.raises(ZeroDivisionError), catalogue.write() as writer:
        writer.set_fact("colour", str(1 / 0))
    with catalogue.read() as reader:
        assert reader.generation() == 3
    catalogue.close()
