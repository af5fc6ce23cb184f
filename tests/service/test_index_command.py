"""`avgzsl index`: each file once, whatever happens on the way."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.client import Client
from service.folder_indexing import media_files
from tests.service.conftest import close_folder, make_app
from tests.service.media import mp4, wav
from tests.service.servers import serving

ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of a server with an empty library, which the commands find too."""
    with serving(make_app(tmp_path / "data")) as url, Client(url) as client:
        monkeypatch.setenv("AVGZSL_URL", url)
        yield client


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder of two clips, one of them further down, and of what is none."""
    folder = tmp_path / "films"
    (folder / "sea").mkdir(parents=True)
    (folder / ".cache").mkdir()
    (folder / "tone.WAV").write_bytes(wav())
    (folder / "sea" / "beach.mp4").write_bytes(mp4())
    (folder / "notes.txt").write_text("none")
    (folder / ".hidden.wav").write_bytes(wav())
    (folder / ".cache" / "x.wav").write_bytes(wav())
    return folder


def index(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["index", *map(str, arguments)])


def outcomes(result: Any) -> dict[str, str]:
    """Return the state of each file by its name."""
    *lines, summary = [json.loads(line) for line in result.stdout.splitlines()]
    assert sum(summary["summary"].values()) == len(lines)
    return {Path(line["path"]).name: line["state"] for line in lines}


def test_it_finds_media_below_folders_and_takes_files_as_they_are(films: Path) -> None:
    (films / "round").symlink_to(films)

    found = list(media_files([films, films / "notes.txt"]))

    assert found == [films / "tone.WAV", films / "sea" / "beach.mp4", films / "notes.txt"]


def test_a_folder_that_cannot_be_looked_into_is_told(
    client: Client, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_folder(films / "sea", monkeypatch)

    result = index(films)

    assert result.exit_code == 1
    assert "1 stored, 0 known, 0 moved, 1 failed" in result.stdout
    assert f"failed {films / 'sea'}: it is a folder that cannot be looked into" in result.stderr


def test_it_stores_what_is_not_there_yet(client: Client, films: Path) -> None:
    first = index(films, "--tag", "holiday", "--json")
    assert (first.exit_code, first.stderr) == (0, "")
    assert outcomes(first) == {"tone.WAV": "stored", "beach.mp4": "stored"}
    (films / "new.wav").write_bytes(wav(hertz=300.0))

    again = index(films)

    assert again.stdout == "1 stored, 2 known, 0 moved, 0 failed\n"
    assert sorted(again.stderr.splitlines()) == [
        f"known  {films / 'sea' / 'beach.mp4'}",
        f"known  {films / 'tone.WAV'}",
        f"stored {films / 'new.wav'}",
    ]
    clips = client.list_clips(filter={"tags": ["holiday"]}).items
    assert sorted(str(clip.source) for clip in clips) == [
        str(films / "sea" / "beach.mp4"),
        str(films / "tone.WAV"),
    ]


def test_copies_are_stored_once_and_moves_are_followed(client: Client, films: Path) -> None:
    (films / "copy.wav").write_bytes(wav())
    assert sorted(outcomes(index(films, "--workers", 1, "--json")).values()) == [
        "known",
        "stored",
        "stored",
    ]
    (films / "sea" / "beach.mp4").rename(films / "shore.mp4")

    assert outcomes(index(films, "--json"))["shore.mp4"] == "moved"

    assert {clip.source for clip in client.list_clips().items} >= {str(films / "shore.mp4")}
    assert client.list_clips().total == 2


def test_a_clip_that_was_uploaded_gets_its_path(client: Client, films: Path) -> None:
    uploaded = client.add_clip(films / "tone.WAV")

    assert outcomes(index(films, "--json"))["tone.WAV"] == "known"

    assert client.get_clip(uploaded.clip_id).source == str(films / "tone.WAV")


def test_a_broken_file_stops_no_other_and_fails_in_the_end(client: Client, films: Path) -> None:
    (films / "a broken.mp4").write_bytes(b"no media" * 99)
    (films / "empty.wav").write_bytes(b"")
    (films / "gone.wav").symlink_to(films / "nowhere")

    result = index(films, "--json")

    assert result.exit_code == 1
    failed = [json.loads(line) for line in result.stdout.splitlines() if '"failed"' in line]
    codes = {Path(line["path"]).name: line["code"] for line in failed if "path" in line}
    assert codes == {
        "a broken.mp4": "unsupported_media",
        "empty.wav": "empty_file",
        "gone.wav": "unreadable_file",
    }
    assert client.list_clips().total == 2
    assert "a broken.mp4: The file is no audio or video" in index(films).stderr


def test_what_would_befall_every_file_stops_it(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(make_app(tmp_path / "data", require_api_keys=True)) as url:
        result = index(films, "--url", url)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "needs an API key" in result.stderr
    assert result.stderr.endswith(
        "Stopped after 0 of 2 files; the same command goes on from here.\n"
    )


def test_interrupted_it_says_how_to_go_on_and_does(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    count = 60
    for number in range(count):
        (folder / f"{number:03}.wav").write_bytes(wav(0.3, hertz=200.0 + number))
    # Tests that a shell runs in the background ignore it, and so would what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = subprocess.Popen(
        [sys.executable, "-m", "service", "index", str(folder), "--workers", "2", "--json"],
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    assert '"stored"' in command.stdout.readline()
    command.send_signal(signal.SIGINT)
    shown, told = command.communicate(timeout=60)

    assert command.returncode == 130
    assert "summary" not in shown
    assert "interrupted after " in told
    assert "the same command goes on from here" in told
    assert "Traceback" not in told
    before = client.list_clips().total
    assert 1 <= before < count
    rest = index(folder)
    assert rest.stdout == f"{count - before} stored, {before} known, 0 moved, 0 failed\n"
    assert client.list_clips().total == count


def test_a_search_leads_back_to_the_files(client: Client, films: Path) -> None:
    index(films)
    uploaded = client.add_clip(wav(hertz=300.0), filename="uploaded.wav")
    search = ["search", "the sea", "--top", "9", "--paths-only"]

    found = CliRunner().invoke(app, search)

    paths = {str(films / "tone.WAV"), str(films / "sea" / "beach.mp4")}
    assert set(found.stdout.splitlines()) == paths
    assert found.stderr == (f"avgzsl: no path of clip {uploaded.clip_id} (uploaded.wav) is known\n")
    assert set(CliRunner().invoke(app, [*search, "-0"]).stdout.split("\0")) == {*paths, ""}


def test_a_folder_that_is_not_there_is_wrong_usage() -> None:
    assert index("nowhere").exit_code == 2


def test_an_address_needs_ray() -> None:
    result = index("s3://bucket/films")

    assert result.exit_code == 2
    assert "'s3://bucket/films' is an address, which only --ray reads" in result.stderr


def test_ray_writes_to_no_service(films: Path) -> None:
    result = index(films, "--ray", "--url", "http://127.0.0.1:9")

    assert result.exit_code == 2
    assert "http://127.0.0.1:9 is a service" in result.stderr
