"""`avgzsl jobs`: the service's later work from a shell."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service import job_commands
from service.cli import app
from service.client import Client
from tests.service.conftest import make_app
from tests.service.media import wav
from tests.service.servers import serving


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["jobs", *map(str, arguments)])


def lines_of(result: Any, exit_code: int = 0) -> list[dict[str, Any]]:
    assert result.exit_code == exit_code, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder that may be imported: a clip, a broken one further down, and what is none."""
    folder = tmp_path / "films"
    (folder / "sea").mkdir(parents=True)
    (folder / "tone.wav").write_bytes(wav())
    (folder / "sea" / "broken [1].mp4").write_bytes(b"none")
    (folder / "notes.txt").write_text("none")
    return folder


@pytest.fixture
def client(tmp_path: Path, films: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("COLUMNS", "200")
    app = make_app(tmp_path / "data", import_roots=(films,))
    with serving(app) as url, Client(url) as client:
        monkeypatch.setenv("AVGZSL_URL", url)
        yield client


@pytest.fixture
def idle(tmp_path: Path, films: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A service that takes jobs in and works on none."""
    monkeypatch.setenv("COLUMNS", "200")
    app = make_app(tmp_path / "data", import_roots=(films,), job_workers=0)
    with serving(app) as url, Client(url) as client:
        monkeypatch.setenv("AVGZSL_URL", url)
        yield client


def test_a_folder_is_imported_and_followed_to_its_end(client: Client, films: Path) -> None:
    result = run("import", films, "--tag", "sea", "--follow")

    assert result.exit_code == 1
    assert f"{films}: done, 1 of 2 done, 1 failed, 1 no media" in result.stdout
    assert "failed sea/broken [1].mp4: " in result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    (clip,) = client.list_clips().items
    assert (clip.filename, clip.tags) == ("tone.wav", ["sea"])


def test_a_second_import_stores_nothing_twice_unless_asked_to(client: Client, films: Path) -> None:
    (films / "sea" / "broken [1].mp4").unlink()
    assert lines_of(run("import", films, "--flat", "--follow", "--json"))[-1]["state"] == "done"
    known = lines_of(run("import", films, "--follow", "--json"))[-1]
    assert known["counts"]["done"] == 1
    assert "stored already as" in run("items", known["job_id"]).stdout
    assert client.list_clips().total == 1
    again = run("import", films, "--if-duplicate", "store", "--follow")
    assert (again.exit_code, client.list_clips().total) == (0, 2)


def test_programs_get_each_change_and_the_end_last(client: Client, films: Path) -> None:
    (accepted,) = lines_of(run("import", films, "--json"))
    job_id = accepted["job_id"]

    changes = lines_of(run("follow", job_id, "--json"), exit_code=1)

    revisions = [job["revision"] for job in changes]
    assert revisions == sorted(set(revisions))
    assert (changes[-1]["state"], changes[-1]["counts"]["failed"]) == ("done", 1)
    assert lines_of(run("show", job_id, "--json")) == changes[-1:]
    (failed,) = lines_of(run("items", job_id, "--state", "failed", "--json"))
    assert (failed["name"], failed["error"]["code"]) == ("sea/broken [1].mp4", "unsupported_media")


def test_what_failed_is_tried_again(client: Client, films: Path) -> None:
    run("import", films, "--follow")
    (job,) = client.list_jobs().items
    (films / "sea" / "broken [1].mp4").write_bytes(wav(hertz=300))

    result = run("retry", job.job_id, "--follow")

    assert (result.exit_code, client.list_clips().total) == (0, 2)
    assert "2 of 2 done" in result.stdout
    again = run("retry", job.job_id)
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.startswith("avgzsl: ")


def test_jobs_are_listed_cancelled_and_removed(idle: Client, films: Path) -> None:
    ids = [run("import", films).stdout.strip() for _ in range(2)]
    assert [job["job_id"] for job in lines_of(run("list", "--json"))] == ids[::-1]
    page = run("list", "--limit", 1)
    assert str(films) in page.stdout
    assert "queued" in page.stdout
    assert page.stderr == "1 of 2; --offset 1 shows more\n"
    early = run("rm", ids[0])
    assert early.exit_code == 1
    assert "`avgzsl jobs cancel` stops it first" in early.stderr

    assert run("cancel", ids[0]).stderr == f"cancelled {ids[0]}\n"

    waiting = lines_of(run("list", "--state", "queued", "--json"))
    assert [job["job_id"] for job in waiting] == ids[1:]
    followed = run("follow", ids[0])
    assert followed.exit_code == 1
    assert "cancelled" in followed.stdout
    late = run("cancel", ids[0])
    assert late.exit_code == 1
    assert "`avgzsl jobs rm` removes it" in late.stderr
    assert run("rm", ids[0]).stderr == f"removed {ids[0]}\n"
    assert run("show", ids[0]).exit_code == 1


def test_a_job_outlives_who_follows_it(
    idle: Client, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job_commands.time, "sleep", interrupt)

    result = run("import", films, "--follow")

    (job,) = idle.list_jobs().items
    assert (result.exit_code, job.state) == (130, "queued")
    assert f"`avgzsl jobs follow {job.job_id}` comes back to it" in result.stderr


def test_a_classification_shows_its_answer(client: Client, films: Path) -> None:
    job_id = client.begin_classification(films / "tone.wav", candidate_labels=["rain"]).job_id

    followed = run("follow", job_id)

    assert followed.exit_code == 0
    assert "tone.wav: done, 1 of 1 done" in followed.stdout
    assert "rain" in run("show", job_id).stdout


def test_a_folder_that_may_not_be_imported_is_told_with_what_allows_it(
    client: Client, tmp_path: Path
) -> None:
    result = run("import", tmp_path)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "AVGZSL_IMPORT_ROOTS" in result.stderr
    assert run("import", "films").stderr.startswith("avgzsl: The path 'films' is not absolute")


def test_a_name_is_the_files_or_the_folders(idle: Client, films: Path) -> None:
    idle.begin_clip(films / "tone.wav")
    idle.begin_import(str(films))

    assert [job.name for job in idle.list_jobs().items] == [str(films), "tone.wav"]
