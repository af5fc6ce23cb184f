"""`/jobs`: work that is done later, seen from outside."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from index.errors import StorageError
from index.jobs import JobStore
from index.library import Library
from service.errors import Overloaded
from service.jobs import JobRunner
from service.pipeline import Pipeline
from service.upload import UploadDirectory
from tests.service.conftest import assert_problem, close_folder, file_part, make_app, store
from tests.service.media import mp4, wav

TIMEOUT_SECONDS = 60.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def client(tmp_path: Path, root: Path) -> Iterator[TestClient]:
    app = make_app(tmp_path / "data", import_roots=(root,), job_retry_seconds=0.01)
    with TestClient(app) as client:
        yield client


@pytest.fixture
def idle(tmp_path: Path, root: Path) -> Iterator[TestClient]:
    """A replica that takes jobs in and works on none."""
    app = make_app(tmp_path / "data", import_roots=(root,), job_workers=0, max_waiting_jobs=3)
    with TestClient(app) as client:
        yield client


def wait_for(client: TestClient, job_id: str, *states: str) -> dict[str, Any]:
    states = states or ("done", "failed", "cancelled")
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        job: dict[str, Any] = client.get(f"/jobs/{job_id}").json()
        if job["state"] in states:
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.02)


def send(
    client: TestClient, path: str = "/clips", content: bytes | None = None, **data: Any
) -> str:
    reply = client.post(path, params={"mode": "async"}, files=file_part(content), data=data)
    assert reply.status_code == 202, reply.text
    job_id: str = reply.json()["job_id"]
    assert reply.headers["location"] == f"/jobs/{job_id}"
    return job_id


def import_folder(client: TestClient, path: Path, **body: Any) -> str:
    reply = client.post("/jobs/import", json={"path": str(path), **body})
    assert reply.status_code == 202, reply.text
    job_id: str = reply.json()["job_id"]
    return job_id


def items(client: TestClient, job_id: str, **params: Any) -> dict[str, dict[str, Any]]:
    listing = client.get(f"/jobs/{job_id}/items", params=params).json()
    return {item["name"]: item for item in listing["items"]}


def fill(folder: Path, count: int = 3) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.wav").write_bytes(wav(0.2, hertz=200 + 10 * number))


# Single files


def test_a_clip_is_stored_later(client: TestClient) -> None:
    job_id = send(client, content=mp4(), tags=["sea"])
    job = wait_for(client, job_id)

    assert (job["kind"], job["state"], job["error"]) == ("clip", "done", None)
    assert job["counts"] == {"total": 1, "done": 1, "failed": 0, "cancelled": 0, "skipped": 0}
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    (item,) = items(client, job_id).values()
    clip = client.get(f"/clips/{item['clip_id']}").json()
    assert clip["tags"] == ["sea"]
    assert client.get(clip["media_url"]).content == mp4()


def test_a_file_is_classified_later_as_it_would_be_at_once(client: TestClient) -> None:
    form = {"top_k": "2", "candidate_labels": ["dog", "piano"], "windows": "true"}
    at_once = client.post("/classify", files=file_part(mp4()), data=form).json()

    job = wait_for(client, send(client, "/classify", mp4(), **form))

    assert job["result"] == at_once
    assert client.get("/clips").json()["total"] == 0


def test_an_acknowledged_upload_outlives_a_restart(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path, job_workers=0)) as client:
        job_id = send(client, content=mp4(), tags=["kept"])
        assert client.get(f"/jobs/{job_id}").json()["state"] == "queued"

    with TestClient(make_app(tmp_path)) as client:
        assert wait_for(client, job_id)["state"] == "done"
        (clip,) = client.get("/clips").json()["items"]
        assert clip["tags"] == ["kept"]


def test_a_job_takes_clips_that_are_too_long_for_a_request(tmp_path: Path) -> None:
    app = make_app(tmp_path, max_duration_seconds=1.0, max_job_duration_seconds=10.0)
    with TestClient(app) as client:
        reply = client.post("/classify", files=file_part(wav(3.0)))
        assert_problem(reply, 413, "duration_too_long")
        assert wait_for(client, send(client, "/classify", wav(3.0)))["state"] == "done"


def test_a_broken_file_fails_once_with_its_reason(client: TestClient) -> None:
    job = wait_for(client, send(client, content=b"no media at all"))

    assert job["state"] == "failed"
    assert job["error"]["code"] == "unsupported_media"
    (item,) = items(client, job["job_id"]).values()
    assert (item["state"], item["attempts"], item["error"]) == ("failed", 1, job["error"])


def test_an_upload_that_nothing_needs_is_deleted(client: TestClient, tmp_path: Path) -> None:
    def kept() -> int:
        media = tmp_path / "data" / "library" / "media"
        return len([path for path in media.rglob("*") if path.is_file()])

    wait_for(client, send(client, "/classify"))
    eventually(lambda: kept() == 0)
    broken = send(client, content=b"no media at all")
    wait_for(client, broken)
    assert kept() == 1
    assert client.delete(f"/jobs/{broken}").status_code == 204
    assert kept() == 0


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_duplicate_is_told_where_it_should_be_skipped(client: TestClient) -> None:
    clip = store(client)
    skipping = send(client, if_duplicate="skip")
    storing = send(client)

    wait_for(client, skipping)
    wait_for(client, storing)

    (skipped,) = items(client, skipping).values()
    (stored,) = items(client, storing).values()
    assert (skipped["state"], skipped["duplicate_of"]) == ("done", clip["clip_id"])
    assert skipped["clip_id"] is None
    assert stored["clip_id"] not in (None, clip["clip_id"])
    assert client.get("/clips").json()["total"] == 2


@pytest.mark.parametrize("data", [{"tags": ["a\nb"]}, {"if_duplicate": "maybe"}])
def test_a_bad_field_is_refused_at_once(idle: TestClient, data: dict[str, Any]) -> None:
    reply = idle.post("/clips", files=file_part(), data={"mode": "async", **data})
    assert reply.status_code == 422
    assert idle.get("/jobs").json()["total"] == 0


def test_more_jobs_than_may_wait_are_refused(idle: TestClient) -> None:
    for _ in range(3):
        send(idle)
    reply = idle.post("/clips", files=file_part(), data={"mode": "async"})

    assert_problem(reply, 429, "overloaded")
    assert int(reply.headers["retry-after"]) > 0


def test_a_job_too_many_is_refused_before_its_file_is_read(
    idle: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        send(idle)

    def receive(*_: Any) -> Any:
        pytest.fail("a file was received for nothing")

    monkeypatch.setattr(UploadDirectory, "receive", receive)
    reply = idle.post("/clips", params={"mode": "async"}, files=file_part())

    assert_problem(reply, 429, "overloaded")


def test_a_stop_is_not_held_up_where_the_catalogue_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    async def carry_out(*_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    def refuse(*_: Any, **__: Any) -> None:
        raise StorageError("The disk is full.")

    with monkeypatch.context() as full:
        full.setattr(JobRunner, "_carry_out", carry_out)
        full.setattr(JobStore, "put_back", refuse)
        client = TestClient(make_app(tmp_path))
        client.__enter__()
        job_id = send(client)
        assert begun.wait(TIMEOUT_SECONDS)
        stopping = threading.Thread(target=client.__exit__, args=(None, None, None), daemon=True)
        stopping.start()
        stopping.join(TIMEOUT_SECONDS)
        assert not stopping.is_alive()

    with TestClient(make_app(tmp_path)) as client:
        assert wait_for(client, job_id)["state"] == "done"


# What is not the file's fault


def test_a_passing_fault_is_tried_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter(range(3))
    whole = Library.add_clip

    def add_clip(*args: Any, **options: Any) -> Any:
        if next(failures, None) is not None:
            raise StorageError("The disk is full.")
        return whole(*args, **options)

    monkeypatch.setattr(Library, "add_clip", add_clip)
    job = wait_for(client, send(client))

    assert job["state"] == "done"
    (item,) = items(client, job["job_id"]).values()
    assert item["attempts"] == 4


def test_a_job_waits_for_its_turn_however_long_others_keep_the_queue_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = iter(range(5))
    whole = Pipeline.embed_clip_with_thumbnail

    async def embed(*args: Any, **options: Any) -> Any:
        if next(refusals, None) is not None:
            raise Overloaded("The queue is full.", retry_after_seconds=1)
        return await whole(*args, **options)

    monkeypatch.setattr(Pipeline, "embed_clip_with_thumbnail", embed)
    app = make_app(tmp_path, job_attempts=2, job_retry_seconds=0.01)
    with TestClient(app) as client:
        job = wait_for(client, send(client))

        assert job["state"] == "done"
        (item,) = items(client, job["job_id"]).values()
        assert (item["attempts"], list(refusals)) == (1, [])


def test_a_lasting_fault_ends_in_failure_and_can_be_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(tmp_path, job_attempts=2, job_retry_seconds=0.01)
    with TestClient(app) as client:
        with monkeypatch.context() as broken:

            def fail(*_: Any, **__: Any) -> Any:
                raise RuntimeError("a secret of the model")

            broken.setattr(Library, "add_clip", fail)
            job = wait_for(client, send(client))
            assert job["state"] == "failed"
            assert job["error"]["code"] == "internal_error"
            assert "secret" not in job["error"]["detail"]

        reply = client.post(f"/jobs/{job['job_id']}/retry")
        assert (reply.status_code, reply.json()["state"]) == (202, "queued")
        assert wait_for(client, job["job_id"])["state"] == "done"
        assert client.get("/clips").json()["total"] == 1
        reply = client.post(f"/jobs/{job['job_id']}/retry")
        assert_problem(reply, 409, "nothing_to_retry")


# Folders


def test_a_folder_is_imported(client: TestClient, root: Path) -> None:
    fill(root / "in" / "deep")
    (root / "in" / "notes.txt").write_text("no media")
    (root / "in" / ".hidden.wav").write_bytes(wav())
    (root / "in" / ".git").mkdir()
    (root / "in" / ".git" / "a.wav").write_bytes(wav())
    (root / "in" / "LOUD.WAV").write_bytes(wav(0.2, hertz=900))

    job = wait_for(client, import_folder(client, root / "in", tags=["archive"]))

    assert job["state"] == "done"
    assert job["counts"] == {"total": 4, "done": 4, "failed": 0, "cancelled": 0, "skipped": 1}
    assert set(items(client, job["job_id"])) == {
        "LOUD.WAV",
        *(f"deep/{number}.wav" for number in range(3)),
    }
    clips = client.get("/clips", params={"tags": "archive"}).json()["items"]
    assert {clip["filename"] for clip in clips} == {"LOUD.WAV", "0.wav", "1.wav", "2.wav"}
    assert {clip["source"] for clip in clips} == {
        str(root / "in" / name) for name in items(client, job["job_id"])
    }


def test_a_folder_is_imported_without_those_below_it(client: TestClient, root: Path) -> None:
    fill(root, 2)
    fill(root / "deep", 3)

    job = wait_for(client, import_folder(client, root, recursive=False))

    assert job["counts"]["total"] == 2


def test_a_second_import_skips_what_is_there(client: TestClient, root: Path) -> None:
    fill(root, 2)
    first = wait_for(client, import_folder(client, root))
    fill(root, 3)
    second = wait_for(client, import_folder(client, root, if_duplicate="skip"))

    before, after = items(client, first["job_id"]), items(client, second["job_id"])
    assert after["0.wav"]["duplicate_of"] == before["0.wav"]["clip_id"]
    assert after["2.wav"]["clip_id"] is not None
    assert client.get("/clips").json()["total"] == 3


def test_broken_files_do_not_hold_the_others_up(client: TestClient, root: Path) -> None:
    fill(root, 3)
    (root / "1.wav").write_bytes(b"no media at all")
    (root / "empty.mp4").touch()

    job = wait_for(client, import_folder(client, root))

    assert job["state"] == "done"
    assert (job["counts"]["done"], job["counts"]["failed"]) == (2, 2)
    failed = items(client, job["job_id"], state="failed")
    assert {name: item["error"]["code"] for name, item in failed.items()} == {
        "1.wav": "unsupported_media",
        "empty.mp4": "empty_file",
    }
    (root / "1.wav").write_bytes(wav(0.2, hertz=999))
    client.post(f"/jobs/{job['job_id']}/retry")
    job = wait_for(client, job["job_id"])
    assert (job["counts"]["done"], job["counts"]["failed"]) == (3, 1)


def test_a_folder_within_that_cannot_be_read_holds_nothing_else_up(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root / "in" / "closed", 1)
    fill(root / "in", 2)
    close_folder(root / "in" / "closed", monkeypatch)

    job = wait_for(client, import_folder(client, root / "in"))

    assert (job["state"], job["counts"]["done"], job["counts"]["failed"]) == ("done", 2, 1)
    error = items(client, job["job_id"])["closed"]["error"]
    assert error["code"] == "unreadable_file"
    assert "Permission denied" in error["detail"]
    assert "import it again" in error["detail"]


def test_an_import_of_a_folder_that_cannot_be_read_fails(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root / "closed", 1)
    close_folder(root / "closed", monkeypatch)

    job = wait_for(client, import_folder(client, root / "closed"))

    assert (job["state"], job["error"]["code"]) == ("failed", "unreadable_file")


def test_links_that_lead_away_are_refused_and_told(
    client: TestClient, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    fill(outside, 1)
    fill(root / "in", 1)
    (root / "in" / "away.wav").symlink_to(outside / "0.wav")
    (root / "in" / "away").symlink_to(outside)
    (root / "in" / "inside.wav").symlink_to(root / "in" / "0.wav")
    (root / "in" / "loop").symlink_to(root / "in")
    (root / "in" / "dangling.wav").symlink_to(root / "nowhere")

    job = wait_for(client, import_folder(client, root / "in"))

    found = items(client, job["job_id"])
    assert {name: item["state"] for name, item in found.items()} == {
        "0.wav": "done",
        "inside.wav": "done",
        "away.wav": "failed",
        "away": "failed",
    }
    assert found["away.wav"]["error"]["code"] == found["away"]["error"]["code"] == "import_refused"
    assert job["counts"]["skipped"] == 2


def test_a_file_that_becomes_a_link_meanwhile_is_not_followed(
    idle: TestClient, root: Path, tmp_path: Path
) -> None:
    fill(tmp_path / "outside", 1)
    fill(root, 2)
    app = idle.app.state.resources  # type: ignore[attr-defined]
    job_id = import_folder(idle, root)
    claim = app.library.jobs.claim(lease_seconds=60, max_attempts=3)
    found = app.jobs._roots.files(root, recursive=True)
    app.library.jobs.expand(claim, found.items, skipped=found.skipped)
    (root / "1.wav").unlink()
    (root / "1.wav").symlink_to(tmp_path / "outside" / "0.wav")
    idle.__exit__(None, None, None)

    with TestClient(make_app(tmp_path / "data", import_roots=(root,))) as client:
        wait_for(client, job_id)
        assert items(client, job_id)["1.wav"]["error"]["code"] == "import_refused"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("{root}/../outside", 403, "import_refused"),
        ("/etc", 403, "import_refused"),
        ("{root}/link", 403, "import_refused"),
        ("{root}/nowhere", 404, "import_folder_not_found"),
        ("{root}/file.wav", 404, "import_folder_not_found"),
        ("relative", 404, "import_folder_not_found"),
        ("/a\0b", 404, "import_folder_not_found"),
    ],
)
def test_a_folder_that_may_not_be_read_is_refused(
    idle: TestClient, root: Path, path: str, status: int, code: str
) -> None:
    (root.parent / "outside").mkdir()
    (root / "link").symlink_to(root.parent / "outside")
    (root / "file.wav").touch()

    reply = idle.post("/jobs/import", json={"path": path.format(root=root)})

    assert_problem(reply, status, code)


def test_nothing_can_be_imported_unless_allowed(shared: TestClient, tmp_path: Path) -> None:
    reply = shared.post("/jobs/import", json={"path": str(tmp_path)})

    assert "AVGZSL_IMPORT_ROOTS" in assert_problem(reply, 403, "import_refused")["detail"]


# Listing, cancelling, following


def test_jobs_are_listed_newest_first(idle: TestClient) -> None:
    ids = [send(idle) for _ in range(3)]
    idle.delete(f"/jobs/{ids[1]}")

    assert [job["job_id"] for job in idle.get("/jobs").json()["items"]] == ids[::-1]
    page = idle.get("/jobs", params={"offset": 1, "limit": 1}).json()
    assert ([job["job_id"] for job in page["items"]], page["total"]) == ([ids[1]], 3)
    cancelled = idle.get("/jobs", params={"state": "cancelled"}).json()
    assert [job["job_id"] for job in cancelled["items"]] == [ids[1]]
    assert_problem(idle.get("/jobs", params={"state": "lost"}), 422, "invalid_request")


def test_a_job_is_cancelled_and_then_removed(idle: TestClient, tmp_path: Path) -> None:
    job_id = send(idle)
    url = f"/jobs/{job_id}"

    assert idle.delete(url).status_code == 204
    job = idle.get(url).json()
    assert (job["state"], job["counts"]["cancelled"]) == ("cancelled", 1)
    assert job["finished_at"] is not None
    assert not [p for p in (tmp_path / "data/library/media").rglob("*") if p.is_file()]
    assert_problem(idle.post(f"{url}/retry"), 409, "nothing_to_retry")
    assert idle.delete(url).status_code == 204
    for reply in (
        idle.get(url),
        idle.delete(url),
        idle.get(f"{url}/items"),
        idle.get(f"{url}/events"),
        idle.post(f"{url}/retry"),
    ):
        assert_problem(reply, 404, "job_not_found")


def test_a_running_import_stops_when_it_is_cancelled(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root, 30)
    whole = Library.add_clip

    def slowly(*args: Any, **options: Any) -> Any:
        time.sleep(0.1)
        return whole(*args, **options)

    monkeypatch.setattr(Library, "add_clip", slowly)
    job_id = import_folder(client, root)
    eventually(lambda: client.get(f"/jobs/{job_id}").json()["counts"]["done"] >= 2)
    client.delete(f"/jobs/{job_id}")
    job = client.get(f"/jobs/{job_id}").json()
    time.sleep(0.5)

    assert job["state"] == "cancelled"
    assert job["counts"]["done"] + job["counts"]["cancelled"] == 30
    assert client.get(f"/jobs/{job_id}").json()["counts"] == job["counts"]
    assert client.get("/clips").json()["total"] == job["counts"]["done"]


def events(reply_text: str) -> list[tuple[str, str | None, dict[str, Any]]]:
    found = []
    for block in reply_text.replace("\r\n", "\n").strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if lines:
            found.append((lines["event"], lines.get("id"), json.loads(lines["data"])))
    return found


def test_a_job_is_followed_to_its_end(client: TestClient, root: Path) -> None:
    fill(root, 4)
    job_id = import_folder(client, root)
    reply = client.get(f"/jobs/{job_id}/events")

    assert reply.headers["content-type"].startswith("text/event-stream")
    found = events(reply.text)
    kind, revision, last = found[-1]
    assert (kind, last) == ("job", client.get(f"/jobs/{job_id}").json())
    assert last["state"] == "done"

    again = client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": "1"})
    names = [data["name"] for kind, _, data in events(again.text) if kind == "item"]
    assert sorted(names) == [f"{number}.wav" for number in range(4)]
    assert revision is not None
    known = client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": revision})
    assert known.status_code == 204


def test_single_uploads_come_before_a_folder(idle: TestClient, root: Path, tmp_path: Path) -> None:
    fill(root, 3)
    folder, single = import_folder(idle, root), send(idle)
    jobs = idle.app.state.resources.library.jobs  # type: ignore[attr-defined]

    first = jobs.claim(lease_seconds=60, max_attempts=3)
    second = jobs.claim(lease_seconds=60, max_attempts=3)

    assert (first.job_id, second.job_id) == (single, folder)


def test_waiting_uploads_are_neither_strays_nor_in_an_archive(
    idle: TestClient, tmp_path: Path
) -> None:
    from index.backup import export_library
    from index.verification import verify_library

    send(idle, content=mp4())
    idle.__exit__(None, None, None)
    library = tmp_path / "data" / "library"

    assert verify_library(library).findings == ()
    assert export_library(library, tmp_path / "archive.tar").files == 0
