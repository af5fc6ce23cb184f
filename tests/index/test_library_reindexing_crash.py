"""A change of model that is killed at any moment loses nothing and leaves no mixture."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from index.library import Library
from tests.index.builders import media_path
from tests.index.reindexing_crash_worker import MODELS, model_in_use, open_in_use, work
from tests.index.test_library_crash import wait_until


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_every_acknowledged_write_survives_kills_at_random_moments_of_re_indexing(
    directory: Path, tmp_path: Path, kills: int
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.index.reindexing_crash_worker", "index.faiss_store"])
    moments = random.Random(1)
    journal = tmp_path / "journal"
    journal.touch()
    half_done = 0
    for seed in range(kills):
        size, changes = journal.stat().st_size, journal.read_text().count("swapped")
        worker = context.Process(target=work, args=(directory, journal, seed))
        worker.start()
        wait_until(lambda: journal.stat().st_size > size, "the worker wrote nothing")  # noqa: B023
        if seed % 5 == 4:
            # On a busy machine a change takes longer than the moments below.
            wait_until(lambda: journal.read_text().count("swapped") > changes, "no change of model")  # noqa: B023
        time.sleep(moments.uniform(0, 0.6))
        worker.kill()
        worker.join()
        with open_in_use(directory) as library:
            half_done += library.status().reindex is not None
            check(library, directory, journal.read_text().splitlines())
    assert half_done > 1, "no kill came during a change of model"


def check(library: Library, directory: Path, journal: list[str]) -> None:
    words = [line.split() for line in journal]
    doomed = {line[2] for line in words if line[0] == "removing"}
    gone = {line[2] for line in words if line[0] == "removed"}
    model = MODELS[library.status().model_id]
    assert model is model_in_use(directory)
    clips = {clip.clip_id: clip for clip in library.list_clips(limit=10**6).items}
    classes = {row.class_id: row for row in library.list_classes(limit=10**6).items}
    assert not gone & clips.keys()
    for verb, *rest in words:
        if verb == "added" and rest[1] not in doomed:
            kind, identity, number = rest
            if kind == "clip":
                vector = model.clip_vector(number.encode())
                hits = library.search(vector, modality="audio", top_k=1)
                assert (hits[0].clip.clip_id, round(hits[0].score, 4)) == (identity, 1)
                assert media_path(library, identity).read_bytes() == number.encode()
            else:
                scores = library.label_similarities(model.class_vector(f"class {number}")[None])
                assert scores.names[int(scores.similarity[0].argmax())] == classes[identity].name
    assert {clip.model_id for clip in clips.values()} <= {model.model_id}
    status = library.status()
    assert status.segments == status.vectors["audio"] == 2 * len(clips)
    assert status.vectors["labels"] == len(classes)
    if model.model_id == "model-b":
        assert "owl" in {row.name for row in classes.values()}
