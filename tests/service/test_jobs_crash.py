"""A process killed at any moment of an import stores each file exactly once in the end."""

import multiprocessing
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from index.job_types import NewJob
from index.library import Library
from index.verification import verify_library
from model.fake import DIM
from service.schemas import ImportRequest
from tests.service.job_worker import work_on_jobs
from tests.service.media import wav

FILES, BROKEN = 25, 2


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_each_file_is_stored_once_whatever_is_killed(tmp_path: Path, kills: int) -> None:
    root, data_dir = tmp_path / "root", tmp_path / "data"
    root.mkdir()
    for number in range(FILES):
        (root / f"{number}.wav").write_bytes(wav(0.1, hertz=200 + number))
    for number in range(BROKEN):
        (root / f"broken {number}.wav").write_bytes(b"no media")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.service.job_worker", "index.library"])
    moments = random.Random(3)
    job_ids = [add_import(data_dir, root)]

    def started() -> None:
        nonlocal worker
        worker = context.Process(target=work_on_jobs, args=(data_dir, (root,)))
        worker.start()

    worker = context.Process()
    for _ in range(kills):
        before = ended_items(data_dir)
        started()
        wait_until(lambda: ended_items(data_dir) > before)  # noqa: B023
        time.sleep(moments.uniform(0, 0.1))
        worker.kill()
        worker.join()
        check(data_dir)
        if not unfinished(data_dir):
            job_ids.append(add_import(data_dir, root))
    started()
    wait_until(lambda: not unfinished(data_dir))
    worker.kill()
    worker.join()

    check(data_dir)
    with open_library(data_dir) as library:
        clips = Counter(clip.filename for clip in library.list_clips(limit=10**6).items)
        assert clips == {f"{number}.wav": len(job_ids) for number in range(FILES)}
        for job_id in job_ids:
            counts = library.jobs.get(job_id).counts
            assert (counts.total, counts.done, counts.failed) == (FILES + BROKEN, FILES, BROKEN)
    assert verify_library(data_dir / "library").findings == ()


def open_library(data_dir: Path) -> Library:
    return Library.open(data_dir / "library", model_id="fake", dim=DIM)


def add_import(data_dir: Path, root: Path) -> str:
    options = ImportRequest(path=str(root)).model_dump(mode="json")
    with open_library(data_dir) as library:
        return library.jobs.add_folder(NewJob("import", options), root).job_id


def check(data_dir: Path) -> None:
    """Every item that is done is a whole clip of its own, and every clip is an item's."""
    with open_library(data_dir) as library:
        of_items = [
            item.clip_id
            for job in library.jobs.page(limit=1000).items
            for item in library.jobs.items(job.job_id, state="done", limit=1000).items
        ]
        clips = library.list_clips(limit=10**6).items
        assert sorted(map(str, of_items)) == sorted(clip.clip_id for clip in clips)
        for clip in clips:
            with library.open_media(clip.clip_id) as file:
                assert len(file.read()) == clip.size_bytes


def ended_items(data_dir: Path) -> int:
    return count(data_dir, "state IN ('done', 'failed')")


def unfinished(data_dir: Path) -> int:
    return count(data_dir, "state IN ('queued', 'running')")


def count(data_dir: Path, condition: str) -> int:
    catalogue = sqlite3.connect(data_dir / "library" / "catalogue.sqlite", timeout=60)
    with closing(catalogue):
        rows = catalogue.execute(f"SELECT count(*) FROM job_items WHERE {condition}")
        found: int = rows.fetchone()[0]
        return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the worker does not get on"
        time.sleep(0.005)
