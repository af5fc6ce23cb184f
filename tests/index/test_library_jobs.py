"""Jobs as the library keeps them: whose turn it is, and what comes of items, exactly once."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from index.errors import DuplicateClip, JobItemLost, JobNotFound, NothingToRetry
from index.job_types import Claim, JobFailure, NewJob, NewJobItem
from index.jobs import JobStore
from index.library import Library
from tests.index.builders import abandon, axis, media_file, new_clip, open_library

LEASE_SECONDS = 60.0


def take(jobs: JobStore, *, lease_seconds: float = LEASE_SECONDS, attempts: int = 3) -> Claim:
    claim = jobs.claim(lease_seconds=lease_seconds, max_attempts=attempts)
    assert claim is not None
    return claim


def take_none(jobs: JobStore) -> None:
    assert jobs.claim(lease_seconds=LEASE_SECONDS, max_attempts=3) is None


def add_upload(library: Library, upload: Path) -> str:
    item = NewJobItem("clip.mp4", content_type="video/mp4")
    return library.jobs.add_upload(NewJob("clip", {"tags": ["sea"]}), item, upload).job_id


def kept_files(directory: Path) -> int:
    return sum(path.is_file() for path in (directory / "media").rglob("*"))


def test_an_item_is_given_to_one_worker(library: Library, upload: Path) -> None:
    job_id = add_upload(library, upload)
    claim = take(library.jobs)

    assert (claim.job_id, claim.name, claim.options) == (job_id, "clip.mp4", {"tags": ["sea"]})
    take_none(library.jobs)
    job = library.jobs.get(job_id)
    assert (job.state, [item.name for item in job.current]) == ("running", ["clip.mp4"])
    with library.jobs.file(claim) as path:
        assert path.read_bytes() == upload.read_bytes()


def test_a_clip_and_the_end_of_its_item_are_one(library: Library, upload: Path) -> None:
    job_id = add_upload(library, upload)
    claim = take(library.jobs)
    clip = library.add_clip(new_clip(axis(0)), upload, claim=claim)

    job = library.jobs.get(job_id)
    (item,) = library.jobs.items(job_id).items
    assert (job.state, job.counts.done, item.clip_id) == ("done", 1, clip.clip_id)
    with pytest.raises(JobItemLost):
        library.add_clip(new_clip(axis(1)), upload, claim=claim)
    assert library.list_clips().total == 1


def test_whoever_comes_too_late_stores_nothing(
    library: Library, directory: Path, upload: Path
) -> None:
    job_id = add_upload(library, upload)
    late = take(library.jobs, lease_seconds=0.01)
    time.sleep(0.05)
    second = take(library.jobs)

    assert (second.item_id, second.attempts) == (late.item_id, 2)
    for end in (
        lambda: library.add_clip(new_clip(axis(0)), upload, claim=late),
        lambda: library.jobs.renew(late, lease_seconds=LEASE_SECONDS),
        lambda: library.jobs.end_failed(late, JobFailure("code", "detail")),
        lambda: library.jobs.put_back(late),
    ):
        with pytest.raises(JobItemLost):
            end()
    assert library.list_clips().total == 0
    library.add_clip(new_clip(axis(0)), upload, claim=second)
    assert library.jobs.get(job_id).state == "done"
    assert kept_files(directory) == 1


def test_a_lease_that_is_renewed_is_kept(library: Library, upload: Path) -> None:
    job_id = add_upload(library, upload)
    claim = take(library.jobs, lease_seconds=0.01)
    library.jobs.renew(
        claim, lease_seconds=LEASE_SECONDS, decoded_seconds=3.0, declared_seconds=9.0
    )
    time.sleep(0.05)

    take_none(library.jobs)
    (current,) = library.jobs.get(job_id).current
    assert (current.decoded_seconds, current.declared_seconds) == (3.0, 9.0)


def test_an_item_that_always_stops_its_worker_fails(library: Library, upload: Path) -> None:
    job_id = add_upload(library, upload)
    for _ in range(2):
        take(library.jobs, lease_seconds=0.01, attempts=2)
        time.sleep(0.05)

    assert library.jobs.claim(lease_seconds=LEASE_SECONDS, max_attempts=2) is None
    job = library.jobs.get(job_id)
    assert job.state == "failed"
    assert job.failure is not None
    assert job.failure.code == "interrupted"


def test_an_item_that_was_put_back_waits_its_time(library: Library, upload: Path) -> None:
    add_upload(library, upload)
    library.jobs.put_back(take(library.jobs), delay_seconds=0.2)
    take_none(library.jobs)
    time.sleep(0.3)
    again = take(library.jobs)
    assert again.attempts == 2
    library.jobs.put_back(again, counts=False)
    assert take(library.jobs).attempts == 2


def test_a_restart_goes_on_with_what_was_begun(
    library: Library, directory: Path, catalogue_url: str | None, upload: Path
) -> None:
    add_upload(library, upload)
    lost = take(library.jobs)
    abandon(library)

    with open_library(directory, catalogue_url=catalogue_url) as reopened:
        take_none(reopened.jobs)
        assert reopened.jobs.take_up() == 1
        claim = take(reopened.jobs)
        assert claim.item_id == lost.item_id
        with reopened.jobs.file(claim) as path:
            assert path.read_bytes() == upload.read_bytes()


def test_a_folder_becomes_its_files(library: Library, tmp_path: Path) -> None:
    job_id = library.jobs.add_folder(NewJob("import"), tmp_path).job_id
    files = [NewJobItem(f"{n}.wav", path=f"/in/{n}.wav") for n in range(3)]
    refused = NewJobItem("away.wav", path="/x", failure=JobFailure("refused", "It leads away."))
    claim = take(library.jobs)
    assert (claim.is_folder, claim.path) == (True, str(tmp_path))
    library.jobs.expand(claim, [*files, refused], skipped=7)

    job = library.jobs.get(job_id)
    assert (job.state, job.counts.total, job.counts.failed, job.counts.skipped) == (
        "running", 4, 1, 7,
    )  # fmt: skip
    assert [take(library.jobs).path for _ in files] == ["/in/0.wav", "/in/1.wav", "/in/2.wav"]


def test_an_empty_folder_is_done(library: Library, tmp_path: Path) -> None:
    job_id = library.jobs.add_folder(NewJob("import"), tmp_path).job_id
    library.jobs.expand(take(library.jobs), [], skipped=2)

    job = library.jobs.get(job_id)
    assert (job.state, job.counts.total, job.counts.skipped) == ("done", 0, 2)


def test_a_job_with_some_failures_is_done_and_only_these_are_retried(
    library: Library, tmp_path: Path, upload: Path
) -> None:
    job_id = library.jobs.add_folder(NewJob("import"), tmp_path).job_id
    files = [NewJobItem(f"{n}.wav", path=f"/in/{n}.wav") for n in range(2)]
    library.jobs.expand(take(library.jobs), files, skipped=0)
    library.jobs.end_failed(take(library.jobs), JobFailure("broken", "It is broken."))
    library.add_clip(new_clip(axis(0)), upload, claim=take(library.jobs))

    assert library.jobs.get(job_id).state == "done"
    assert library.jobs.retry(job_id).state == "queued"
    assert take(library.jobs).name == "0.wav"
    take_none(library.jobs)
    with pytest.raises(NothingToRetry):
        library.jobs.retry(job_id)


def test_a_refused_duplicate_leaves_the_item_to_be_ended(library: Library, upload: Path) -> None:
    clip = library.add_clip(new_clip(axis(0)), upload)
    job_id = add_upload(library, upload)
    claim = take(library.jobs)
    with pytest.raises(DuplicateClip) as refused:
        library.add_clip(new_clip(axis(0)), upload, refuse_duplicate=True, claim=claim)
    assert refused.value.clip_id == clip.clip_id
    library.jobs.end_duplicate(claim, clip.clip_id)

    (item,) = library.jobs.items(job_id).items
    assert (item.state, item.duplicate_of) == ("done", clip.clip_id)
    assert library.list_clips().total == 1


def test_an_upload_is_kept_while_somebody_needs_it(
    library: Library, directory: Path, tmp_path: Path
) -> None:
    upload = media_file(tmp_path, b"same bytes")
    clip = library.add_clip(new_clip(axis(0)), upload)
    first, second = add_upload(library, upload), add_upload(library, upload)
    library.remove_clip(clip.clip_id)
    assert kept_files(directory) == 1
    library.jobs.cancel_or_remove(first)
    assert kept_files(directory) == 1
    library.jobs.end_failed(take(library.jobs), JobFailure("broken", "It is broken."))
    assert kept_files(directory) == 1
    library.jobs.cancel_or_remove(second)
    assert kept_files(directory) == 0


def test_old_jobs_are_forgotten_with_their_uploads(
    library: Library, directory: Path, upload: Path
) -> None:
    finished, waiting = add_upload(library, upload), add_upload(library, upload)
    library.jobs.end_failed(take(library.jobs), JobFailure("broken", "It is broken."))
    library.jobs.forget_finished(datetime.now(UTC) - timedelta(days=1))
    assert library.jobs.page().total == 2

    library.jobs.forget_finished(datetime.now(UTC) + timedelta(seconds=1))

    assert [job.job_id for job in library.jobs.page().items] == [waiting]
    with pytest.raises(JobNotFound):
        library.jobs.get(finished)
    assert kept_files(directory) == 1


def test_what_ended_since_a_revision_is_told(library: Library, tmp_path: Path) -> None:
    job_id = library.jobs.add_folder(NewJob("import"), tmp_path).job_id
    files = [NewJobItem(f"{n}.wav", path=f"/in/{n}.wav") for n in range(3)]
    library.jobs.expand(take(library.jobs), files, skipped=0)
    library.jobs.end_failed(take(library.jobs), JobFailure("broken", "It is broken."))
    job, ended = library.jobs.news(job_id, 0)
    assert [item.name for item in ended] == ["0.wav"]
    assert library.jobs.news(job_id, job.revision)[1] == []
    library.jobs.end_duplicate(take(library.jobs), "some clip")
    later, ended = library.jobs.news(job_id, job.revision)
    assert [item.name for item in ended] == ["1.wav"]
    assert later.revision > job.revision
