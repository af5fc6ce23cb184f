"""Several libraries that share a catalogue: what one writes, the others know within a second."""

import json
import logging
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import index.catalogue_writer
import index.space
from index.catalogue_reader import CatalogueReader
from index.database import sqlite_url
from index.errors import ModelMismatch, StorageError
from index.library import Library
from index.types import SearchFilter
from tests.index.builders import DIM, axis, media_file, new_class, new_clip, open_library, unit
from tests.index.test_postgresql import kill_connections
from tests.postgresql import PostgresqlServer

SECOND = 1.0


@pytest.fixture
def url(tmp_path: Path, catalogue_url: str | None) -> str:
    """Where the shared catalogue lies: in one file or on one server."""
    return catalogue_url or str(sqlite_url(tmp_path / "shared.sqlite"))


@pytest.fixture
def replicas(tmp_path: Path, url: str) -> Iterator[tuple[Library, Library]]:
    with (
        open_library(tmp_path / "one", catalogue_url=url) as one,
        open_library(tmp_path / "two", catalogue_url=url) as two,
    ):
        yield one, two


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> float:
    """Return how many seconds it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it never came"
        time.sleep(0.005)
    return time.monotonic() - start


def names(library: Library) -> tuple[str, ...]:
    return library.label_similarities(axis(0)[None]).names


def found(library: Library, number: int = 0, **parts: object) -> list[str]:
    hits = library.search(axis(number), filter=SearchFilter(**parts))  # type: ignore[arg-type]
    return [hit.clip.filename for hit in hits]


# In one process


def test_classes_and_clips_come_and_go_at_both(
    replicas: tuple[Library, Library], upload: Path
) -> None:
    one, two = replicas
    dog = one.add_class(new_class("dog", axis(0)))
    wait_until(lambda: names(two) == ("dog",))
    cat = two.add_class(new_class("cat", axis(1)))
    clip = two.add_clip(new_clip(axis(1), filename="cat.mp4"), upload)
    wait_until(lambda: found(one, 1, class_name="cat") == ["cat.mp4"])
    one.update_class(dog.class_id, name="hound", vector=axis(2))
    wait_until(lambda: names(two) == ("hound", "cat"))
    assert two.label_similarities(axis(2)[None]).similarity.tolist() == [[1, 0]]
    one.update_class(cat.class_id, enabled=False)
    wait_until(lambda: names(two) == ("hound",))
    one.remove_clip(clip.clip_id)
    one.remove_class(dog.class_id)
    wait_until(lambda: names(two) == () and two.status().vectors["audio"] == 0)
    assert found(two, 1) == []


def test_a_seeded_vocabulary_is_seeded_once_and_marks_what_is_seen(
    replicas: tuple[Library, Library],
) -> None:
    one, two = replicas
    one.add_class(new_class("dog"))
    wait_until(lambda: names(two) == ("dog",))
    vocabulary = [new_class("dog", seen=True), new_class("cat", seen=True)]
    assert two.seed_classes("v", vocabulary) == 1
    assert one.seed_classes("v", vocabulary) == 0
    wait_until(lambda: names(one) == ("dog", "cat"))
    assert one.label_similarities(axis(0)[None]).seen.tolist() == [True, True]


def test_a_write_knows_at_once_what_another_wrote_before(
    replicas: tuple[Library, Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = replicas
    for library in replicas:
        assert library._follower is not None
        library._follower.stop()
    for number in range(4):
        (one if number % 2 else two).add_class(new_class(f"class {number}", axis(number)))
    assert names(one) == tuple(f"class {n}" for n in range(4))
    assert names(two) == tuple(f"class {n}" for n in range(3))


def test_what_was_missed_is_taken_over_part_by_part(
    replicas: tuple[Library, Library], url: str, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = replicas
    assert two._follower is not None
    two._follower.stop()
    added = [one.add_clip(new_clip(unit(number)), upload) for number in range(7)]
    one.remove_clip(added[3].clip_id)
    one.add_class(new_class("dog", unit(9)))
    monkeypatch.setattr(index.space, "BATCH_ROWS", 2)
    read: list[int] = []
    whole = CatalogueReader.vectors_of_segments

    def counted(reader: CatalogueReader, row_ids: list[int]) -> object:
        read.append(len(row_ids))
        return whole(reader, row_ids)

    monkeypatch.setattr(CatalogueReader, "vectors_of_segments", counted)
    two.add_class(new_class("owl", unit(10)))

    assert read == [2, 2, 2, 1]
    wait_until(lambda: answers(two) == answers(one))


@pytest.mark.parametrize("logged", [1, 5000])
def test_after_random_writes_at_both_each_is_like_one_opened_anew(
    replicas: tuple[Library, Library],
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged: int,
) -> None:
    """With a log of one generation, who falls behind has to start from the rows."""
    monkeypatch.setattr(index.catalogue_writer, "LOGGED_GENERATIONS", logged)
    choose = random.Random(logged)
    for number in range(40):
        write_somehow(choose.choice(replicas), choose, number, tmp_path)
    with open_library(tmp_path / "three", catalogue_url=url) as three:
        expected = answers(three)
        for library in replicas:
            wait_until(lambda: answers(library) == expected)  # noqa: B023


def write_somehow(library: Library, choose: random.Random, number: int, folder: Path) -> None:
    classes, clips = library.list_classes(limit=1000).items, library.list_clips(limit=1000).items
    what = choose.randrange(10)
    if what < 3:
        library.add_class(new_class(f"class {number}", unit(number)))
    elif what < 6:
        new = new_clip(unit(number), choose.choice([None, unit(-number % 1000)]))
        library.add_clip(new, media_file(folder, b"%d" % number))
    elif what == 6 and classes:
        library.remove_class(choose.choice(classes).class_id)
    elif what == 7 and clips:
        library.remove_clip(choose.choice(clips).clip_id)
    elif what == 8 and classes:
        chosen = choose.choice(classes)
        library.update_class(chosen.class_id, enabled=not chosen.enabled, vector=unit(number))
    elif clips:
        library.update_clip(choose.choice(clips).clip_id, tags=[f"tag {number}"])


def answers(library: Library) -> object:
    """Return everything that the library's vectors answer, whatever their order in a store."""
    queries = np.stack([unit(1), unit(2)])
    scores = library.label_similarities(queries)
    hits = {
        modality: [
            (hit.clip.clip_id, round(hit.score, 5))
            for hit in library.search(unit(3), modality=modality, top_k=1000)  # type: ignore[arg-type]
        ]
        for modality in ("both", "audio", "video")
    }
    return (scores.names, scores.similarity.round(5).tolist(), hits, library.status().vectors)


def test_vectors_saved_by_one_are_those_of_the_moment_that_they_name(
    url: str, tmp_path: Path, upload: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_library(tmp_path / "two", catalogue_url=url) as two:
        with open_library(tmp_path / "one", catalogue_url=url) as one:
            one.add_class(new_class("dog"))
            assert one._follower is not None
            one._follower.stop()
            two.add_class(new_class("cat"))
        caplog.set_level(logging.INFO)
        with open_library(tmp_path / "one", catalogue_url=url) as one:
            assert "Rebuilding" not in caplog.text
            assert names(one) == ("dog", "cat")
            clip = one.add_clip(new_clip(axis(0)), upload)
        two.remove_clip(clip.clip_id)
        with open_library(tmp_path / "one", catalogue_url=url) as one:
            assert found(one) == []


def test_another_model_is_refused_to_who_still_serves_the_former(
    replicas: tuple[Library, Library], url: str, tmp_path: Path
) -> None:
    one, two = replicas
    with Library.open(tmp_path / "three", model_id="model-b", dim=DIM, catalogue_url=url) as three:
        three.add_class(new_class("dog"))
        with pytest.raises(ModelMismatch, match="is of the model model-b by now"):
            one.add_class(new_class("cat"))
        with pytest.raises(ModelMismatch, match="start it with the other model"):
            wait_until(lambda: bool(two.search(axis(0))))
        assert names(three) == ("dog",)


def test_a_catalogue_in_the_librarys_own_directory_is_not_watched(directory: Path) -> None:
    with open_library(directory) as library:
        assert library._follower is None


# With a database that goes away


def test_searches_go_on_while_the_database_fails_and_what_was_missed_is_learnt(
    postgresql: PostgresqlServer,
    tmp_path: Path,
    upload: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = postgresql.blank_database()
    with (
        open_library(tmp_path / "one", catalogue_url=url) as one,
        open_library(tmp_path / "two", catalogue_url=url) as two,
    ):
        one.add_class(new_class("dog"))
        wait_until(lambda: names(two) == ("dog",))

        def out_of_reach() -> bool:
            raise StorageError("Could not read the catalogue.")

        with monkeypatch.context() as patch:
            patch.setattr(two._space, "is_behind", out_of_reach)
            one.add_class(new_class("cat"))
            time.sleep(0.8)
            assert names(two) == ("dog",)
        wait_until(lambda: names(two) == ("dog", "cat"))
        told = [message for message in caplog.messages if "not learnt for now" in message]
        assert len(told) == 1
        kill_connections(one._catalogue)
        one.add_class(new_class("cow"))
        wait_until(lambda: names(two) == ("dog", "cat", "cow"))


def test_a_server_that_stops_refuses_writes_and_is_followed_again_once_it_is_back(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    url = postgresql.blank_database()
    with (
        open_library(tmp_path / "one", catalogue_url=url) as one,
        open_library(tmp_path / "two", catalogue_url=url) as two,
    ):
        one.add_class(new_class("dog"))
        wait_until(lambda: names(two) == ("dog",))
        postgresql.stop()
        try:
            for _ in range(2):
                with pytest.raises(StorageError, match="Could not write to the catalogue"):
                    one.add_class(new_class("lost"))
            assert names(two) == ("dog",)
        finally:
            postgresql.start()
        one.add_class(new_class("cat"))
        wait_until(lambda: names(two) == ("dog", "cat"))


# In two processes


class OtherProcess:
    def __init__(self, directory: Path, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.index.replica_worker", str(directory), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "open"

    def ask(self, question: str) -> object:
        self.tell(question)
        return self._answer()

    def tell(self, question: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    def _answer(self) -> object:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@pytest.fixture
def pair(tmp_path: Path, url: str) -> Iterator[tuple[Library, OtherProcess]]:
    with ExitStack() as resources:
        here = resources.enter_context(open_library(tmp_path / "here", catalogue_url=url))
        there = OtherProcess(tmp_path / "there", url)
        resources.callback(there.kill)
        yield here, there


def test_what_one_process_writes_the_other_knows_within_a_second(
    pair: tuple[Library, OtherProcess], upload: Path, record_property: Callable[[str, object], None]
) -> None:
    here, there = pair
    took = []
    there.ask("add_clip near.mp4 1")
    there.ask("add_clip far.mp4 2")
    wait_until(lambda: len(found(here)) == 2)

    dog = there.ask("add_class dog 1")
    took.append(wait_until(lambda: names(here) == ("dog",)))
    assert here.label_similarities(axis(1)[None]).similarity.tolist() == [[1]]
    there.ask("add_class cat 2")
    took.append(wait_until(lambda: found(here, 1, class_name="dog") == ["near.mp4"]))

    here.add_class(new_class("cow", axis(3)))
    took.append(wait_until(lambda: there.ask("names 3") == {"dog": 0, "cat": 0, "cow": 1}))
    clip = here.add_clip(new_clip(axis(3), filename="moo.mp4"), upload)
    took.append(wait_until(lambda: there.ask("search 3 cow") == ["moo.mp4"]))

    here.remove_clip(clip.clip_id)
    took.append(wait_until(lambda: there.ask("search 3 cow") == []))
    there.ask(f"remove_class {dog}")
    took.append(wait_until(lambda: names(here) == ("cat", "cow")))
    record_property("seconds until known", took)
    print("seconds until known:", [round(seconds, 3) for seconds in took])
    assert max(took) < SECOND


def test_the_death_of_one_process_leaves_the_other_fine(
    pair: tuple[Library, OtherProcess], url: str, tmp_path: Path
) -> None:
    here, there = pair
    there.tell("write_for_ever")
    wait_until(lambda: len(names(here)) > 5)
    there.kill()
    here.add_class(new_class("still here"))
    with open_library(tmp_path / "there", catalogue_url=url) as again:
        assert answers(again) == answers(here)
        again.add_class(new_class("and back"))
        wait_until(lambda: names(here)[-2:] == ("still here", "and back"))
