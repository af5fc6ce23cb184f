"""A process killed at any moment loses nothing that it acknowledged and leaves no half item."""

import multiprocessing
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from index.archive import ArchiveReader
from index.backup import export_library, import_library
from index.library import Library
from index.repair import repair_library
from index.types import Vector
from index.verification import verify_library
from tests.index.builders import (
    media_file,
    media_path,
    new_class,
    new_clip,
    open_library,
    stored_files,
    unit,
)
from tests.index.crash_worker import announced, work

SOME_OR_MANY = pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
FEW_OR_MANY = pytest.mark.parametrize("kills", [5, pytest.param(70, marks=pytest.mark.slow)])


def forkserver() -> ForkServerContext:
    """Return what makes processes that have the imports done: a kill costs no start-up."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.index.crash_worker", "index.faiss_store", "index.backup", "index.repair"]
    )
    return context


@SOME_OR_MANY
def test_every_acknowledged_write_survives_kills_at_random_moments(
    directory: Path, tmp_path: Path, kills: int
) -> None:
    context = forkserver()
    moments = random.Random(1)
    journal = tmp_path / "journal"
    journal.touch()
    for seed in range(kills):
        size = journal.stat().st_size
        worker = context.Process(target=work, args=(directory, journal, seed))
        worker.start()
        wait_until(lambda: journal.stat().st_size > size, "the worker wrote nothing")  # noqa: B023
        time.sleep(moments.uniform(0, 0.15))
        worker.kill()
        worker.join()
        with open_library(directory) as library:
            check(library, directory, journal.read_text().splitlines())
    assert journal.read_text().count("added") > kills / 2


def wait_until(condition, failure: str) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.002)


def check(library: Library, directory: Path, journal: list[str]) -> None:
    words = [line.split() for line in journal]
    doomed = {identity for verb, _, identity, *_ in words if verb == "removing"}
    gone = {identity for verb, _, identity, *_ in words if verb == "removed"}
    clips = {clip.clip_id: clip for clip in library.list_clips(limit=10**6).items}
    classes = {row.class_id: row for row in library.list_classes(limit=10**6).items}
    assert not gone & (clips.keys() | classes.keys())
    for verb, kind, identity, *rest in words:
        if verb == "added" and identity not in doomed:
            vector = unit(int(rest[0]))
            if kind == "clip":
                check_clip(library, identity, vector)
            else:
                check_class(library, classes[identity].name, vector)
    check_no_half_item(library, directory)


def check_clip(library: Library, clip_id: str, audio: Vector) -> None:
    assert media_path(library, clip_id).stat().st_size == library.get_clip(clip_id).size_bytes
    assert library.thumbnail(clip_id)
    hits = library.search(audio, modality="audio", top_k=1)
    assert (hits[0].clip.clip_id, round(hits[0].score, 4)) == (clip_id, 1)


def check_class(library: Library, name: str, vector: Vector) -> None:
    scores = library.label_similarities(vector[None])
    assert scores.names[int(scores.similarity[0].argmax())] == name


def check_no_half_item(library: Library, directory: Path) -> None:
    """The vectors are the catalogue's, and so are the files."""
    clips = library.list_clips(limit=10**6).items
    counts = library.status().vectors
    assert {counts["audio"], counts["video"], counts["both"]} == {len(clips)}
    assert counts["labels"] == library.list_classes().total
    files = stored_files(directory)
    assert {media_path(library, clip.clip_id).name for clip in clips} == {
        Path(path).name for path in files if path.startswith("media")
    }
    assert len([path for path in files if path.startswith("thumb")]) == len(clips)


# Work on a whole library


@pytest.fixture
def stored(directory: Path, tmp_path: Path) -> list[str]:
    """The ids of the clips of a closed library."""
    with open_library(directory) as library:
        library.seed_classes("v", [new_class(f"class {n}") for n in range(5)])
        return [
            library.add_clip(
                new_clip(unit(n), unit(n + 50), thumbnail=b"t%d" % n),
                media_file(tmp_path, b"media %d" % n * 10_000),
            ).clip_id
            for n in range(12)
        ]


def kill_at_random(
    prepare: Callable[[], None],
    call: tuple[Callable[..., object], *tuple[object, ...]],
    check_after: Callable[[], None],
    *,
    started: Path,
    kills: int,
) -> None:
    """Call a function in a process that is killed on its way, again and again.

    The first call goes to its end, which says how long the way is.
    """
    context, moments, duration = forkserver(), random.Random(2), 0.0
    for turn in range(kills + 1):
        prepare()
        started.unlink(missing_ok=True)
        worker = context.Process(target=announced, args=(started, *call))
        worker.start()
        wait_until(started.exists, "the worker did not start")
        began = time.monotonic()
        if turn == 0:
            worker.join()
            assert worker.exitcode == 0
            duration = time.monotonic() - began
        else:
            worker.join(moments.uniform(0, 1.1 * duration))
            worker.kill()
            worker.join()
        check_after()


@FEW_OR_MANY
def test_an_export_that_is_killed_leaves_a_whole_archive_or_none(
    directory: Path, stored: list[str], tmp_path: Path, kills: int
) -> None:
    archive = tmp_path / "library.tar"

    def check_archive() -> None:
        if archive.exists():
            with ArchiveReader(archive) as reader:
                assert len(list(reader)) == 2 + 2 + 2 + 2 * len(stored)
        with open_library(directory) as library:
            assert library.list_clips().total == len(stored)
        assert list((directory / "holds").iterdir()) == []

    kill_at_random(
        lambda: archive.unlink(missing_ok=True),
        (export_library, directory, archive),
        check_archive,
        started=tmp_path / "started",
        kills=kills,
    )


@FEW_OR_MANY
def test_an_import_that_is_killed_restored_everything_or_nothing(
    directory: Path, stored: list[str], tmp_path: Path, kills: int
) -> None:
    archive, target = tmp_path / "library.tar", tmp_path / "target"
    export_library(directory, archive)

    def check_target() -> None:
        open_library(target).close()
        found = verify_library(target)
        assert found.findings == ()
        assert found.clips in (0, len(stored))
        if not found.clips:
            assert found.classes == 0
            assert stored_files(target) == set()
            assert import_library(archive, target).clips == len(stored)
            assert verify_library(target).findings == ()

    kill_at_random(
        lambda: shutil.rmtree(target, ignore_errors=True),
        (import_library, archive, target),
        check_target,
        started=tmp_path / "started",
        kills=kills,
    )


@FEW_OR_MANY
def test_a_repair_that_is_killed_can_be_done_again(
    directory: Path, stored: list[str], tmp_path: Path, kills: int
) -> None:
    def damage() -> None:
        (directory / "media" / "incoming" / "half").write_bytes(b"half")
        (directory / "vectors" / "audio.vectors").write_bytes(b"rotten")
        with closing(sqlite3.connect(directory / "catalogue.sqlite")) as catalogue:
            catalogue.execute("INSERT INTO clip_tags VALUES (1000, 'nobody', 0)")
            catalogue.commit()

    def check_repaired() -> None:
        repair_library(directory)
        found = verify_library(directory)
        assert (found.findings, found.clips) == ((), len(stored))
        with open_library(directory) as library:
            assert library.search(unit(3), modality="audio")[0].clip.clip_id == stored[3]

    kill_at_random(
        damage,
        (repair_library, directory),
        check_repaired,
        started=tmp_path / "started",
        kills=kills,
    )
