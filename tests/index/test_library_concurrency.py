"""Readers beside a writer: each answer is one moment's, and what was acknowledged is in it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from index.errors import ClassExists
from index.library import Library
from index.types import SearchFilter
from tests.index.builders import (
    axis,
    media_file,
    media_path,
    new_class,
    new_clip,
    stored_files,
    unit,
)


def while_reading(read: Callable[[], None], write: Callable[[], None], readers: int = 3) -> None:
    """Run `write` once while threads repeat `read`; raise what any of them raised."""
    done = threading.Event()

    def repeat() -> None:
        while not done.is_set():
            read()

    with ThreadPoolExecutor(readers) as pool:
        running = [pool.submit(repeat) for _ in range(readers)]
        try:
            write()
        finally:
            done.set()
        for future in running:
            future.result()


def test_a_reader_never_sees_a_new_name_with_the_old_vector(library: Library) -> None:
    dog = library.add_class(new_class("dog", axis(0)))
    library.add_class(new_class("other", axis(2)))
    states = {"dog": 1.0, "cat": 0.0}

    def read() -> None:
        scores = library.label_similarities(axis(0)[None])
        assert scores.similarity[0, 0] == states[scores.names[0]]

    def write() -> None:
        for turn in range(30):
            name, vector = ("cat", axis(1)) if turn % 2 == 0 else ("dog", axis(0))
            library.update_class(dog.class_id, name=name, vector=vector)

    while_reading(read, write)


def test_scores_fit_their_names_while_classes_come_and_go(library: Library) -> None:
    vectors = {f"class {n}": unit(n) for n in range(40)}
    library.seed_classes("v", [new_class(name, vectors[name]) for name in list(vectors)[:10]])
    queries = np.stack([unit(100), unit(101)])

    def read() -> None:
        scores = library.label_similarities(queries)
        expected = queries @ np.stack([vectors[name] for name in scores.names]).T
        np.testing.assert_allclose(scores.similarity, expected, atol=1e-6)

    def write() -> None:
        for name in list(vectors)[10:]:
            added = library.add_class(new_class(name, vectors[name]))
            if len(name) % 2:
                library.remove_class(added.class_id)

    while_reading(read, write)


def test_searches_go_on_while_clips_come_and_go(library: Library, upload: Path) -> None:
    kept = library.add_clip(new_clip(unit(0), unit(1), tags=("kept",)), upload)

    def read() -> None:
        hits = library.search(unit(0), top_k=50)
        assert kept in [hit.clip for hit in hits]
        assert library.search(unit(0), filter=SearchFilter(tags=("kept",)))[0].clip == kept
        assert kept in library.list_clips(limit=1000).items

    def write() -> None:
        for number in range(15):
            clip = library.add_clip(new_clip(unit(number), None), upload)
            found = library.search(unit(number), modality="audio", top_k=50)
            assert clip in [hit.clip for hit in found]
            if number % 2:
                library.remove_clip(clip.clip_id)
                found = library.search(unit(number), top_k=50)
                assert clip not in [hit.clip for hit in found]

    while_reading(read, write)


def test_writers_from_many_threads_lose_nothing(
    library: Library, directory: Path, tmp_path: Path
) -> None:
    def write(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        upload = media_file(folder, b"%d" % (number % 3))
        clip = library.add_clip(new_clip(unit(number)), upload)
        library.add_class(new_class(f"class {number}"))
        if number % 4 == 0:
            library.remove_clip(clip.clip_id)
            return ""
        return clip.clip_id

    with ThreadPoolExecutor(6) as pool:
        added = {clip_id for clip_id in pool.map(write, range(24)) if clip_id}
    assert {clip.clip_id for clip in library.list_clips().items} == added
    assert all(media_path(library, clip_id).exists() for clip_id in added)
    assert library.list_classes().total == len(library.label_similarities(unit(0)[None]).names)
    assert len(stored_files(directory)) == 3
    assert library.status().vectors["audio"] == len(added) == 18


def test_one_name_added_by_many_threads_is_taken_once(library: Library) -> None:
    def add(_: int) -> bool:
        try:
            library.add_class(new_class("dog"))
        except ClassExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(16))) == 1
