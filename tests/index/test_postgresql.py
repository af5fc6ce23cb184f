"""What is particular to a catalogue in PostgreSQL: transactions, and a server that leaves."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import make_url

from index.catalogue import Catalogue
from index.errors import ClassNotFound, ClipNotFound, StorageError
from index.library import Library
from index.types import SearchFilter
from tests.index.builders import axis, media_file, new_class, new_clip, open_library, unit
from tests.postgresql import PostgresqlServer


@pytest.fixture
def url(postgresql: PostgresqlServer) -> str:
    return postgresql.blank_database()


@pytest.fixture
def catalogue(url: str) -> Iterator[Catalogue]:
    catalogue = Catalogue.open(url, model_id="m")
    yield catalogue
    catalogue.close()


def kill_connections(catalogue: Catalogue) -> None:
    """Close all connections to the database but the one that asks, as a restart does."""
    with catalogue._engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_reader_keeps_its_moment_while_another_writes(catalogue: Catalogue) -> None:
    with catalogue.read() as reader:
        assert reader.fact("colour") is None
        with catalogue.write() as writer:
            writer.set_fact("colour", "red")
        assert reader.fact("colour") is None
    with catalogue.read() as reader:
        assert reader.fact("colour") == "red"


def test_writers_in_different_processes_take_turns(catalogue: Catalogue, url: str) -> None:
    other = Catalogue.open(url, model_id="m")

    def write(number: int) -> None:
        for _ in range(20):
            with (catalogue if number % 2 else other).write() as writer:
                count = int(writer.fact("count") or 0)
                writer.set_fact("count", str(count + 1))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    with other.read() as reader:
        assert (reader.fact("count"), reader.generation()) == ("120", 120)
    other.close()


def test_a_writer_that_waited_sees_what_it_waited_for(catalogue: Catalogue) -> None:
    waiting = threading.Thread(target=increment, args=(catalogue,))
    with catalogue.write() as writer:
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        writer.set_fact("count", "41")
    waiting.join()
    with catalogue.read() as reader:
        assert reader.fact("count") == "42"


def increment(catalogue: Catalogue) -> None:
    with catalogue.write() as writer:
        writer.set_fact("count", str(int(writer.fact("count") or 0) + 1))


def test_connections_that_the_server_closed_are_replaced(
    directory: Path, upload: Path, url: str
) -> None:
    with open_library(directory, catalogue_url=url) as library:
        library.add_class(new_class("dog"))
        kill_connections(library._catalogue)
        library.add_class(new_class("cat"))
        kill_connections(library._catalogue)
        assert library.list_classes().total == 2
        library.add_clip(new_clip(unit(1)), upload)
        assert len(library.search(unit(1))) == 1


def test_a_write_cut_off_in_the_middle_is_refused_whole(catalogue: Catalogue) -> None:
    def write() -> None:
        with catalogue.write() as writer:
            writer.set_fact("colour", "red")
            kill_connections(catalogue)
            writer.set_fact("size", "big")

    with pytest.raises(StorageError, match="Could not write to the catalogue"):
        write()
    with catalogue.read() as reader:
        assert (reader.fact("colour"), reader.generation()) == (None, 0)


def test_a_statement_does_not_run_for_ever(catalogue: Catalogue) -> None:
    with catalogue._engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "1min"


def test_the_urls_own_options_come_first(url: str) -> None:
    own = make_url(url).update_query_dict({"options": "-c statement_timeout=7s"})
    catalogue = Catalogue.open(own, model_id="m")
    with catalogue._engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "7s"
    catalogue.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@127.0.0.1:1/library",
        "postgres://me:secret@127.0.0.1:1/library",
        "postgresql://me:secret@127.0.0.1:port/library",
        "postgresql+nosuchdriver://me:secret@host/library",
        "mysql://me:secret@host/library",
    ],
)
def test_a_server_that_cannot_be_had_is_told_without_the_password(
    directory: Path, url: str
) -> None:
    with pytest.raises(StorageError, match="catalogue") as refusal:
        open_library(directory, catalogue_url=url)
    assert "secret" not in str(refusal.value)


def test_a_question_with_a_nul_character_finds_nothing(
    directory: Path, upload: Path, url: str
) -> None:
    with open_library(directory, catalogue_url=url) as library:
        library.add_clip(new_clip(axis(0)), upload)
        assert library.list_classes(query="a\0").total == 0
        assert library.list_clips(filter=SearchFilter(tags=("a\0",))).total == 0
        assert library.list_clips(filter=SearchFilter(clip_ids=("a\0",))).total == 0
        assert len(library.search(axis(0), exclude=["\0"])) == 1
        with pytest.raises(ClipNotFound):
            library.get_clip("\0")
        with pytest.raises(ClassNotFound):
            library.get_class("\0")


def test_all_files_are_known_whatever_the_order_of_letters(
    directory: Path, tmp_path: Path, url: str
) -> None:
    """In Danish "aa" comes after "z"."""
    media = next(
        content
        for number in range(100_000)
        if hashlib.sha256(content := b"%d" % number).hexdigest().startswith("aa")
    )
    with open_library(directory, catalogue_url=url) as library:
        library.add_clip(new_clip(unit(1)), media_file(tmp_path, media))
        with library._catalogue.engine.begin() as connection:
            connection.exec_driver_sql(
                'ALTER TABLE clips ALTER content_hash TYPE varchar(64) COLLATE "da-x-icu"'
            )

        assert library.content_hashes() == {hashlib.sha256(media).hexdigest()}


def test_row_ids_are_never_given_twice(directory: Path, upload: Path, url: str) -> None:
    with open_library(directory, catalogue_url=url) as library:
        for number in range(3):
            library.remove_clip(library.add_clip(new_clip(unit(number)), upload).clip_id)
        last = library.add_clip(new_clip(unit(9)), upload)
        with library._catalogue.read() as reader:
            assert next(reader.segment_vectors())[0].row_id == 4
        assert library.search(unit(9))[0].clip == last


def test_answers_are_those_of_a_library_in_sqlite(directory: Path, upload: Path, url: str) -> None:
    def fill(library: Library) -> list[tuple[str, float]]:
        library.seed_classes("v", [new_class(f"class {n}") for n in range(5)])
        for n in range(12):
            library.add_clip(new_clip(unit(n), unit(n + 50), filename=f"{n}.mp4"), upload)
        library.remove_clip(library.list_clips(offset=4, limit=1).items[0].clip_id)
        hits = library.search(unit(3), top_k=20, filter=SearchFilter(class_name="class 1"))
        return [(hit.clip.filename, hit.score) for hit in hits]

    with open_library(directory, catalogue_url=url) as library:
        ours = fill(library)
    with open_library(directory.parent / "other") as library:
        assert fill(library) == ours
