"""What survives a restart, a full disk, a damaged cache, a second process."""

import errno
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event

import index.catalogue_writer
import index.vector_file
from index.catalogue_reader import CatalogueReader
from index.catalogue_records import VectorPair
from index.errors import LibraryLocked, ModelMismatch, StorageError
from index.exact_store import ExactStore
from index.library import Library
from index.media_store import MediaStore
from index.types import ModalityWeights
from index.vector_file import VectorFileHeader
from tests.index.builders import (
    DIM,
    MODEL,
    abandon,
    axis,
    media_file,
    media_path,
    new_class,
    new_clip,
    open_library,
    stored_files,
    unit,
)

Reopen = Callable[[], Library]
CACHES = (
    "labels.vectors",
    "audio.vectors",
    "video.vectors",
    "both-0.5.vectors",
    "windows.vectors",
)


def fill(directory: Path, upload: Path) -> dict[str, str]:
    """Store three clips, remove one, and return what searches then answer."""
    with open_library(directory) as library:
        library.seed_classes("v", [new_class(name) for name in "abc"])
        clips = [library.add_clip(new_clip(unit(n), unit(n + 50)), upload) for n in range(3)]
        library.remove_clip(clips[1].clip_id)
        return answers(library)


def answers(library: Library) -> dict[str, str]:
    """Return every score that the library gives, as text."""
    return {
        modality: str([(hit.clip.clip_id, hit.score) for hit in hits])
        for modality in ("both", "audio", "video")
        if (hits := library.search(unit(7), modality=modality))
    } | {"labels": str(library.label_similarities(unit(7)[None]))}


def rebuilt(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [m for m in caplog.messages if m.startswith("Rebuilding")]


# The vector cache


def test_saved_vectors_are_used_after_a_clean_close(
    directory: Path, upload: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = fill(directory, upload)
    caplog.set_level(logging.INFO)
    with open_library(directory) as library:
        assert answers(library) == before
    assert rebuilt(caplog) == []


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)


def become_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [Path.unlink, become_empty, flip_a_bit, become_a_directory])
def test_a_damaged_cache_file_is_rebuilt_from_the_catalogue_and_said(
    directory: Path,
    upload: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    before = fill(directory, upload)
    caplog.set_level(logging.INFO)
    for name in CACHES:
        path = directory / "vectors" / name
        caplog.clear()
        damage(path)
        with open_library(directory) as library:
            assert answers(library) == before
        assert [line.split("'")[1] for line in rebuilt(caplog)] == [path.stem]
        if path.is_dir():
            path.rmdir()
            open_library(directory).close()


def test_rows_of_which_several_stores_are_made_are_read_once(
    directory: Path, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fill(directory, upload)
    for name in CACHES:
        become_empty(directory / "vectors" / name)
    read, passes = CatalogueReader.segment_vectors, []

    def counted(reader: CatalogueReader) -> Iterator[list[VectorPair]]:
        passes.append(reader)
        return read(reader)

    monkeypatch.setattr(CatalogueReader, "segment_vectors", counted)
    with open_library(directory) as library:
        assert answers(library) == before
    assert len(passes) == 1


def test_a_cache_of_another_version_is_rebuilt_from_the_catalogue_and_said(
    directory: Path,
    upload: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of_another_version(header: VectorFileHeader) -> dict[str, object]:
        return asdict(header) | {"compression": "none"}

    with monkeypatch.context() as patched:
        patched.setattr(index.vector_file, "asdict", of_another_version)
        before = fill(directory, upload)
    caplog.set_level(logging.INFO)
    with open_library(directory) as library:
        assert answers(library) == before
    lines = rebuilt(caplog)
    assert len(lines) == len(CACHES)
    assert all("another version" in line for line in lines)


def test_an_older_cache_is_brought_up_to_date_without_rebuilding(
    directory: Path, upload: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(directory, upload)
    old = {name: (directory / "vectors" / name).read_bytes() for name in CACHES}
    with open_library(directory) as library:
        library.remove_clip(library.list_clips().items[0].clip_id)
        library.add_clip(new_clip(unit(7), unit(7)), upload)
        library.add_clip(new_clip(unit(8)), upload)
        library.add_class(new_class("new"))
        library.update_class(library.list_classes().items[0].class_id, enabled=False)
        library.remove_class(library.list_classes().items[1].class_id)
        after, vectors = answers(library), library.status().vectors
    for name, content in old.items():
        (directory / "vectors" / name).write_bytes(content)
    caplog.set_level(logging.INFO)
    with open_library(directory) as library:
        assert answers(library) == after
        assert library.status().vectors == vectors
    assert rebuilt(caplog) == []


def test_after_a_crash_the_saved_vectors_are_brought_up_to_date(
    directory: Path, upload: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(directory, upload)
    crashed = open_library(directory)
    crashed.add_clip(new_clip(unit(7), unit(7)), upload)
    after = answers(crashed)
    abandon(crashed)
    caplog.set_level(logging.INFO)
    with open_library(directory) as library:
        assert answers(library) == after
    assert rebuilt(caplog) == []


@pytest.mark.parametrize("writes", [0, 1, 3])
def test_a_restored_catalogue_is_not_given_vectors_of_the_way_it_did_not_go(
    directory: Path, upload: Path, caplog: pytest.LogCaptureFixture, writes: int
) -> None:
    fill(directory, upload)
    catalogue = directory / "catalogue.sqlite"
    backup = catalogue.read_bytes()
    with open_library(directory) as library:
        library.add_clip(new_clip(unit(7), unit(7)), upload)
        library.add_class(new_class("lost"))
    vectors = {name: (directory / "vectors" / name).read_bytes() for name in CACHES}
    catalogue.write_bytes(backup)
    with open_library(directory) as library:
        for number in range(writes):
            library.add_clip(new_clip(unit(number + 20), unit(7)), upload)
        after = answers(library)
    for name, content in vectors.items():
        (directory / "vectors" / name).write_bytes(content)
    caplog.set_level(logging.INFO)
    with open_library(directory) as library:
        assert answers(library) == after
    assert len(rebuilt(caplog)) == len(CACHES)
    assert all("the log does not lead" in line for line in rebuilt(caplog))


def test_a_log_that_was_cut_since_the_vectors_were_saved_rebuilds_them(
    directory: Path, upload: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(directory, upload)
    monkeypatch.setattr(index.catalogue_writer, "LOGGED_GENERATIONS", 2)
    crashed = open_library(directory)
    for number in range(4):
        crashed.add_clip(new_clip(unit(number + 20), unit(7)), upload)
    after = answers(crashed)
    abandon(crashed)
    caplog.set_level(logging.INFO)
    with open_library(directory) as library:
        assert answers(library) == after
    assert len(rebuilt(caplog)) == len(CACHES)


def test_vectors_saved_right_after_the_log_was_emptied_are_used(
    directory: Path, upload: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = fill(directory, upload)
    with open_library(directory) as library, library._catalogue.write() as writer:
        writer.everything_changed()
    caplog.set_level(logging.INFO)
    with open_library(directory) as library:
        assert answers(library) == before
    assert rebuilt(caplog) == []


def test_other_weights_do_not_reuse_the_mixed_vectors(directory: Path, upload: Path) -> None:
    with open_library(directory) as library:
        library.add_clip(new_clip(axis(0), axis(1)), upload)
    with open_library(directory, weights=ModalityWeights(audio=1, video=0)) as library:
        assert library.search(axis(0))[0].score == pytest.approx(1)
    names = {path.name for path in (directory / "vectors").iterdir()}
    assert names == {*CACHES, "both-1.vectors"} - {"both-0.5.vectors"}


def test_the_catalogue_alone_carries_everything_to_another_store(
    directory: Path, upload: Path
) -> None:
    fill(directory, upload)
    with open_library(directory, vector_store="exact") as exact:
        found = [(hit.clip.clip_id, hit.score) for hit in exact.search(unit(7))]
    with open_library(directory) as faiss:
        again = [(hit.clip.clip_id, hit.score) for hit in faiss.search(unit(7))]
    assert [name for name, _ in found] == [name for name, _ in again]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in again], atol=1e-6)


def test_a_cache_that_cannot_be_saved_does_not_spoil_closing(
    directory: Path, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = open_library(directory)
    clip = library.add_clip(new_clip(unit(1)), upload)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        library.close()
    with open_library(directory) as library:
        assert library.search(unit(1))[0].clip == clip


def test_a_vector_store_that_fails_is_rebuilt_with_the_committed_clip(
    directory: Path, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, calls = ExactStore.add, []

    def fail_once(self: ExactStore, *arguments: object) -> None:
        calls.append(self.name)
        if len(calls) == 2:
            raise MemoryError
        add(self, *arguments)  # type: ignore[arg-type]

    with open_library(directory, vector_store="exact") as library:
        first = library.add_clip(new_clip(unit(1), unit(1)), upload)
        monkeypatch.setattr(ExactStore, "add", fail_once)
        second = library.add_clip(new_clip(unit(2), unit(2)), upload)
        for modality in ("both", "audio", "video"):
            hits = library.search(unit(2), modality=modality)
            assert [hit.clip for hit in hits] == [second, first]


def test_a_new_library_has_no_vectors_to_speak_of(
    directory: Path, upload: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with open_library(directory) as library:
        assert rebuilt(caplog) == []
        library.add_clip(new_clip(unit(1)), upload)
    for path in (directory / "vectors").iterdir():
        path.unlink()
    open_library(directory).close()
    assert {line.split("'")[1] for line in rebuilt(caplog)} == {"audio", "both-0.5", "windows"}


# A write that the disk or the database refuses


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_refuses_the_clip_and_loses_nothing(
    library: Library, upload: Path, reopened: Reopen, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    directory = upload.parent / "library"
    kept = library.add_clip(new_clip(unit(1), thumbnail=b"jpeg"), upload)
    files, before = stored_files(directory), answers(library)
    other = media_file(upload.parent, b"other")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, full_disk)
        with pytest.raises(StorageError, match="No space left on device"):
            library.add_clip(new_clip(unit(2), thumbnail=b"png"), other)
    assert stored_files(directory) == files
    assert answers(library) == before
    later = library.add_clip(new_clip(unit(2), thumbnail=b"png"), other)
    assert reopened().list_clips().items == (later, kept)


def test_a_full_disk_under_a_shared_file_keeps_it_for_the_first_clip(
    library: Library, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = library.add_clip(new_clip(unit(1)), upload)
    refuse_commits(library, 1)
    with pytest.raises(StorageError, match="database or disk is full"):
        library.add_clip(new_clip(unit(2)), upload)
    assert media_path(library, kept.clip_id).read_bytes() == b"media"


def refuse_commits(library: Library, count: int) -> None:
    """Let the next commits fail as a full disk makes them fail."""
    left = [count]

    @event.listens_for(library._catalogue._engine, "commit")
    def refuse(connection: object) -> None:
        if left[0]:
            left[0] -= 1
            raise_full(connection)


def raise_full(connection) -> None:  # type: ignore[no-untyped-def]
    """Fill the database up to the pages that it has, and write one more."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    try:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('x', zeroblob(1000000))")
    finally:
        connection.exec_driver_sql("PRAGMA max_page_count = 1073741823")


def test_a_full_database_refuses_every_write_and_loses_nothing(
    library: Library, upload: Path, directory: Path, reopened: Reopen
) -> None:
    clip = library.add_clip(new_clip(unit(1), tags=("a",)), upload)
    dog = library.add_class(new_class("dog"))
    before, files = answers(library), stored_files(directory)
    other = media_file(upload.parent, b"other")
    writes: list[Callable[[], object]] = [
        lambda: library.add_clip(new_clip(unit(2)), other),
        lambda: library.update_clip(clip.clip_id, tags=["b"]),
        lambda: library.remove_clip(clip.clip_id),
        lambda: library.add_class(new_class("cat")),
        lambda: library.update_class(dog.class_id, enabled=False),
        lambda: library.remove_class(dog.class_id),
        lambda: library.seed_classes("v", [new_class("cow")]),
    ]
    refuse_commits(library, len(writes))
    for write in writes:
        with pytest.raises(StorageError, match="database or disk is full"):
            write()
    assert stored_files(directory) == files
    assert answers(library) == before
    library = reopened()
    assert answers(library) == before
    assert library.list_clips().items == (clip,)
    assert library.list_classes().items == (dog,)


def test_files_left_by_a_crash_are_deleted_on_opening(directory: Path, upload: Path) -> None:
    fill(directory, upload)
    files = stored_files(directory)
    stray = directory / "media" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    (directory / "media" / "incoming" / "half").write_bytes(b"half")
    with open_library(directory):
        assert stored_files(directory) == files


def test_a_start_does_not_wait_for_the_look_at_all_files(
    directory: Path, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(directory, upload)
    stray = directory / "media" / "ff" / ("ff" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    opened = threading.Event()
    unneeded = MediaStore.unneeded

    def later(store: MediaStore, needed: Collection[str], *, prefix: str) -> list[str]:
        assert opened.wait(60)
        return unneeded(store, needed, prefix=prefix)

    monkeypatch.setattr(MediaStore, "unneeded", later)
    with Library.open(directory, model_id=MODEL, dim=DIM) as library:
        assert library.status().clips == 2
        assert stray.exists()
        opened.set()
        library.wait_for_sweep()
        assert not stray.exists()


def test_files_that_cannot_be_listed_keep_no_library_from_opening(
    directory: Path, upload: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(directory, upload)

    def refuse(*_: object, **__: object) -> list[str]:
        raise StorageError("The disk does not answer.")

    monkeypatch.setattr(MediaStore, "unneeded", refuse)
    with open_library(directory) as library:
        assert library.status().clips == 2
    assert "The disk does not answer." in caplog.text


def test_files_that_are_not_the_librarys_are_left_alone(directory: Path, upload: Path) -> None:
    fill(directory, upload)
    foreign = [directory / "media" / "notes.txt", directory / "media" / "ab" / "holiday.mp4"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    with open_library(directory):
        assert all(path.exists() for path in foreign)


# Who may open a directory


def test_an_empty_catalogue_does_not_get_to_delete_a_librarys_media(
    directory: Path, upload: Path
) -> None:
    fill(directory, upload)
    files = stored_files(directory)
    saved = (directory / "catalogue.sqlite").read_bytes()
    (directory / "catalogue.sqlite").unlink()
    with pytest.raises(StorageError, match="Restore that catalogue"):
        open_library(directory)
    assert stored_files(directory) == files
    (directory / "catalogue.sqlite").write_bytes(saved)
    with open_library(directory) as library:
        assert library.list_clips().total == 2


def test_another_librarys_catalogue_is_refused(directory: Path, upload: Path) -> None:
    fill(directory, upload)
    other = directory.parent / "other"
    open_library(other).close()
    with pytest.raises(StorageError, match="not the one"):
        open_library(directory, catalogue_url=f"sqlite:///{other / 'catalogue.sqlite'}")


def test_a_file_that_is_no_database_is_named(directory: Path) -> None:
    directory.mkdir()
    (directory / "catalogue.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(StorageError, match=r"catalogue\.sqlite: file is not a database"):
        open_library(directory)
    (directory / "catalogue.sqlite").unlink()
    open_library(directory).close()


def test_an_unusable_catalogue_url_says_what_to_do(directory: Path) -> None:
    for url in ("postgresql+nosuchdriver://u:secret@host/db", "nosuch://host/db"):
        with pytest.raises(StorageError, match="Install the driver") as refusal:
            open_library(directory, catalogue_url=url)
        assert "secret" not in str(refusal.value)


def test_a_second_opening_is_refused_until_the_first_is_closed(directory: Path) -> None:
    with (
        open_library(directory),
        pytest.raises(LibraryLocked, match=f"{directory}.*pid {os.getpid()}"),
    ):
        open_library(directory)
    open_library(directory).close()


HOLDER = """
import sys, time
from tests.index.builders import open_library
from pathlib import Path
library = open_library(Path(sys.argv[1]))
print("open", flush=True)
time.sleep(60)
"""


def test_another_process_is_named_and_its_death_frees_the_directory(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "open\n"
            with pytest.raises(LibraryLocked, match=f"pid {holder.pid};"):
                open_library(directory)
        finally:
            holder.send_signal(signal.SIGKILL)
    open_library(directory).close()


def test_a_refused_opening_leaves_the_directory_free(directory: Path) -> None:
    with pytest.raises(ValueError, match="Unknown vector store 'no such'"):
        open_library(directory, vector_store="no such")
    with pytest.raises(ValueError, match="weights"):
        open_library(directory, weights=ModalityWeights(0, 0))
    open_library(directory).close()


def test_a_directory_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="Could not create"):
        open_library(tmp_path / "file" / "library")


def test_a_closed_library_answers_no_more_and_closes_twice(directory: Path, upload: Path) -> None:
    library = open_library(directory)
    library.close()
    library.close()
    calls: list[Callable[[], object]] = [
        lambda: library.add_clip(new_clip(unit(1)), upload),
        lambda: library.add_class(new_class("x")),
        lambda: library.search(unit(1)),
        lambda: library.label_similarities(unit(1)[None]),
        library.status,
    ]
    for call in calls:
        with pytest.raises(StorageError, match="is closed"):
            call()


# Another model


@pytest.mark.parametrize("kept", ["clip", "class", "changed seeded class"])
def test_a_users_rows_keep_another_model_out(directory: Path, upload: Path, kept: str) -> None:
    with open_library(directory) as library:
        library.seed_classes("v", [new_class("dog", seen=True)])
        if kept == "clip":
            library.add_clip(new_clip(unit(1)), upload)
        elif kept == "class":
            library.add_class(new_class("cat"))
        else:
            library.update_class(library.list_classes().items[0].class_id, enabled=False)
    for model_id, dim in (("model-b", DIM), (MODEL, DIM + 1)):
        with pytest.raises(ModelMismatch, match="avgzsl library reindex"):
            Library.open(directory, model_id=model_id, dim=dim)
    with open_library(directory) as library:
        assert library.list_classes(query="dog").total == 1


def test_seeded_classes_alone_give_way_to_another_models(directory: Path) -> None:
    with open_library(directory) as library:
        library.seed_classes("v", [new_class("dog"), new_class("cat")])
    with Library.open(directory, model_id="model-b", dim=4) as library:
        assert library.list_classes().total == 0
        assert library.seed_classes("v", [new_class("dog", unit(1, 4))]) == 1
        assert library.label_similarities(unit(1, 4)[None]).names == ("dog",)
        assert library.status().model_id == "model-b"


def test_row_ids_are_never_given_twice(library: Library, upload: Path, directory: Path) -> None:
    """A deleted row's id in a vector store must not become another clip's."""
    for number in range(3):
        library.remove_clip(library.add_clip(new_clip(unit(number)), upload).clip_id)
    last = library.add_clip(new_clip(unit(9)), upload)
    with sqlite3.connect(directory / "catalogue.sqlite") as connection:
        assert connection.execute("SELECT id FROM segments").fetchall() == [(4,)]
    connection.close()
    assert library.search(unit(9))[0].clip == last


AGAINST_THE_RULES = """
import sys
from pathlib import Path
from index.backup import export_library
from index.errors import StorageError
from index.verification import verify_library
from tests.index.builders import open_library

directory = Path(sys.argv[1])
for call in (open_library, verify_library, lambda path: export_library(path, path / "backup.tar")):
    try:
        call(directory)
    except StorageError as error:
        print(error)
"""


def test_a_directory_that_may_only_be_read_is_told_and_left_as_it_is(
    directory: Path, upload: Path
) -> None:
    fill(directory, upload)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = [sys.executable, "-B", "-c", AGAINST_THE_RULES, str(directory)]
    if os.geteuid() == 0:
        # Root may write whatever the permissions say, unless that capability is taken away.
        if shutil.which("setpriv") is None:
            pytest.skip("the tests run as root, and there is no setpriv (util-linux)")
        command = ["setpriv", "--bounding-set", "-dac_override", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    refused = ["Permission denied", *["attempt to write a readonly database"] * 2]
    messages = done.stdout.splitlines()
    assert all(why in message for why, message in zip(refused, messages, strict=True))
    assert all("permissions" in message for message in messages)
    assert {path: path.read_bytes() for path in before} == before
