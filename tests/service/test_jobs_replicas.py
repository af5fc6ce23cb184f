"""Two replicas on one PostgreSQL share the work on jobs, and no file is stored twice."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from index.library import Library
from tests.postgresql import NoServer, PostgresqlServer, postgresql_server
from tests.service.conftest import file_part, make_app
from tests.service.media import wav

FILES = 40
TIMEOUT_SECONDS = 120.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    try:
        with postgresql_server() as server:
            yield server
    except NoServer as reason:
        pytest.skip(f"no PostgreSQL: {reason}")


@pytest.fixture
def database(server: PostgresqlServer) -> str:
    return server.blank_database()


def test_replicas_share_a_folder_without_storing_a_file_twice(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for number in range(FILES):
        (root / f"{number}.wav").write_bytes(wav(0.1, hertz=200 + number))
    shared: dict[str, Any] = {
        "catalogue_url": database,
        "media_url": f"file://{tmp_path / 'media'}",
        "import_roots": (root,),
    }
    stored_by: Counter[int] = Counter()
    whole = Library.add_clip

    def noted(library: Library, *args: Any, **options: Any) -> Any:
        # So slow that there is something left for the other one, whenever it comes.
        time.sleep(0.1)
        clip = whole(library, *args, **options)
        stored_by[id(library)] += 1
        return clip

    monkeypatch.setattr(Library, "add_clip", noted)
    with (
        TestClient(make_app(tmp_path / "one", **shared)) as one,
        TestClient(make_app(tmp_path / "two", **shared)) as two,
    ):
        job_id = one.post("/jobs/import", json={"path": str(root)}).json()["job_id"]
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (job := two.get(f"/jobs/{job_id}").json())["state"] != "done":
            assert time.monotonic() < deadline, job
            time.sleep(0.1)

        assert job["counts"]["done"] == FILES
        clips = one.get("/clips", params={"limit": 1000}).json()["items"]
        assert Counter(clip["filename"] for clip in clips) == {
            f"{number}.wav": 1 for number in range(FILES)
        }
        assert len(stored_by) == 2
        assert sum(stored_by.values()) == FILES


def test_an_upload_that_one_replica_took_in_another_works_on(database: str, tmp_path: Path) -> None:
    shared: dict[str, Any] = {
        "catalogue_url": database,
        "media_url": f"file://{tmp_path / 'media'}",
    }
    with TestClient(make_app(tmp_path / "one", job_workers=0, **shared)) as taking:
        upload = {"files": file_part(), "data": {"mode": "async"}}
        job_id = taking.post("/classify", **upload).json()["job_id"]
        with TestClient(make_app(tmp_path / "two", **shared)):
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while (job := taking.get(f"/jobs/{job_id}").json())["state"] not in ("done", "failed"):
                assert time.monotonic() < deadline, job
                time.sleep(0.1)
    assert job["state"] == "done"
    assert job["result"]["labels"]
