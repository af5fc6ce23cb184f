"""A process killed at any moment loses nothing that it acknowledged and leaves no half item."""

import multiprocessing
import random
import time
from pathlib import Path

from index.library import Library
from index.types import Vector
from tests.index.builders import open_library, stored_files, unit
from tests.index.crash_worker import work

KILLS = 20


def test_every_acknowledged_write_survives_kills_at_random_moments(
    directory: Path, tmp_path: Path
) -> None:
    # Forked from a server that has the imports done: a kill costs no start-up of a second.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.index.crash_worker", "index.faiss_store"])
    moments = random.Random(1)
    journal = tmp_path / "journal"
    journal.touch()
    for seed in range(KILLS):
        size = journal.stat().st_size
        worker = context.Process(target=work, args=(directory, journal, seed))
        worker.start()
        wait_until(lambda: journal.stat().st_size > size, "the worker wrote nothing")  # noqa: B023
        time.sleep(moments.uniform(0, 0.15))
        worker.kill()
        worker.join()
        with open_library(directory) as library:
            check(library, directory, journal.read_text().splitlines())
    assert journal.read_text().count("added") > KILLS / 2


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
    assert library.media_path(clip_id).stat().st_size == library.get_clip(clip_id).size_bytes
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
    assert {library.media_path(clip.clip_id).name for clip in clips} == {
        Path(path).name for path in files if path.startswith("media")
    }
    assert len([path for path in files if path.startswith("thumb")]) == len(clips)
