"""The commands that ask the service, by HTTP or in their own process."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from index.library import Library
from model.fake import FakeEmbedder
from service.cli import app
from tests.service.conftest import make_app
from tests.service.media import mp4, wav
from tests.service.servers import serving

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command on a server with an empty library of a test's own."""
    monkeypatch.setenv("COLUMNS", "120")
    with serving(make_app(tmp_path / "data")) as url:
        monkeypatch.setenv("AVGZSL_URL", url)
        yield invoke


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command that opens the library itself, with the fake model."""
    monkeypatch.delenv("AVGZSL_URL", raising=False)
    monkeypatch.setenv("AVGZSL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("service.resources.load_embedder", lambda settings: FakeEmbedder())
    return invoke


def invoke(*arguments: object, stdin: bytes | None = None) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def lines_of(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    path.write_bytes(wav())
    return path


@pytest.fixture
def beach(tmp_path: Path) -> Path:
    path = tmp_path / "beach.mp4"
    path.write_bytes(mp4())
    return path


def test_it_classifies_for_people(run: Run, tone: Path) -> None:
    result = run("classify", tone, "--label", "a dog [barks]", "--label", "rain")

    assert result.exit_code == 0
    assert "a dog [barks]" in result.stdout
    assert "Probably none of these: " in result.stdout
    assert "Pictures not used: the file has no pictures" in result.stdout
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


def test_it_classifies_for_programs(run: Run, tone: Path, beach: Path) -> None:
    options = ("--top", 1, "--modality", "audio", "--windows", "--json")

    answers = lines_of(run("classify", tone, beach, *options))

    assert [answer["file"] for answer in answers] == [str(tone), str(beach)]
    assert all(len(answer["labels"]) == 1 for answer in answers)
    assert all(answer["windows"] for answer in answers)
    assert not answers[1]["modalities"]["video"]["used"]


def test_it_reads_the_standard_input(run: Run, tone: Path) -> None:
    (piped,) = lines_of(run("classify", "-", "--json", stdin=tone.read_bytes()))
    (named,) = lines_of(run("classify", tone, "--json"))

    assert piped["labels"] == named["labels"]


def test_a_bad_file_stops_no_other(run: Run, tmp_path: Path, tone: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")

    result = run("classify", tmp_path / "empty.mp4", tmp_path / "nowhere.mp4", tone, "--json")

    assert result.exit_code == 1
    problem, answer = (json.loads(line) for line in result.stdout.splitlines())
    assert (problem["file"], problem["code"]) == (str(tmp_path / "empty.mp4"), "empty_file")
    assert answer["labels"]
    empty, missing = result.stderr.splitlines()
    assert empty.startswith(f"avgzsl: {tmp_path / 'empty.mp4'}: The file has 0 bytes")
    assert missing == f"avgzsl: {tmp_path / 'nowhere.mp4'}: No such file or directory"


def test_it_adds_lists_edits_and_removes_classes(run: Run) -> None:
    (added,) = lines_of(run("classes", "add", "kettle", "--synonym", "boiling", "--json"))
    assert (added["name"], added["synonyms"]) == ("kettle", ["boiling"])
    assert run("classes", "add", "one", "two").stdout.count("added") == 2
    assert "kettle" in run("classes", "list", "boil").stdout
    assert len(lines_of(run("classes", "list", "--new", "--json"))) == 3
    edited = run("classes", "edit", "KETTLE", "--name", "tea kettle", "--disable")
    assert edited.stdout == f"changed 'tea kettle', {added['class_id']}\n"
    assert "disabled" in run("classes", "list", "kettle").stdout
    (plain,) = lines_of(run("classes", "edit", added["class_id"], "--no-synonyms", "--json"))
    assert (plain["synonyms"], plain["enabled"]) == ([], False)
    assert run("classes", "rm", "tea kettle", "one").exit_code == 0
    assert [c["name"] for c in lines_of(run("classes", "list", "--new", "--json"))] == ["two"]
    refused = run("classes", "rm", "nothing")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("avgzsl: no class has the name or the id 'nothing'")


def test_it_searches_by_words_file_and_clip(run: Run, stored: dict[str, str], tone: Path) -> None:
    (found,) = lines_of(run("search", "the", "sea", "--minus", "rain", "--tag", "x", "--json"))
    assert [hit["clip_id"] for hit in found["results"]] == [stored["beach.mp4"]]
    assert "beach.mp4" in run("search", "the sea").stdout
    (alike,) = lines_of(run("search", "--like-clip", stored["beach.mp4"], "--json"))
    assert [hit["clip_id"] for hit in alike["results"]] == [stored["tone.wav"]]
    across = ("--query-modality", "audio", "--modality", "video", "--top", 1)
    (by_file,) = lines_of(run("search", "--like", tone, *across, "--json"))
    assert [hit["clip_id"] for hit in by_file["results"]] == [stored["beach.mp4"]]
    nothing = run("search", "the sea", "--tag", "unheard of")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert nothing.stderr == "No clip was found.\n"


@pytest.fixture
def stored(run: Run, tone: Path, beach: Path, tmp_path: Path) -> dict[str, str]:
    """The ids of two stored clips by their names."""
    from service.connection import Place, connected

    with connected(Place(None, None)) as client:
        clips = [client.add_clip(beach, tags=["x"]), client.add_clip(tone)]
    return {clip.filename: clip.clip_id for clip in clips}


def test_it_lists_shows_and_removes_clips(run: Run, stored: dict[str, str]) -> None:
    listed = lines_of(run("clips", "list", "--json"))
    assert [clip["filename"] for clip in listed] == ["tone.wav", "beach.mp4"]
    assert len(lines_of(run("clips", "list", "--tag", "x", "--modality", "video", "--json"))) == 1
    page = run("clips", "list", "--limit", 1)
    assert "tone.wav" in page.stdout
    assert page.stderr == "1 of 2; --offset 1 shows more\n"
    shown = run("clips", "show", stored["tone.wav"])
    assert "not used: the file has no pictures" in shown.stdout
    assert lines_of(run("clips", "show", stored["tone.wav"], "--json")) == [listed[0]]
    assert run("clips", "rm", *stored.values()).exit_code == 0
    gone = run("clips", "show", stored["tone.wav"])
    assert gone.exit_code == 1
    assert gone.stderr.startswith(f"avgzsl: No clip has the id '{stored['tone.wav']}'")


def test_it_shows_the_model(run: Run) -> None:
    assert "fake" in run("model").stdout
    assert lines_of(run("model", "--json"))[0]["vector_store"] == "faiss"


def test_it_prints_vectors(run: Run, tone: Path) -> None:
    (texts,) = lines_of(run("embed", "--text", "a dog", "--text", "rain"))
    (clip,) = lines_of(run("embed", tone, "--modality", "audio"))

    assert texts["texts"] == ["a dog", "rain"]
    assert len(texts["vectors"][0]) == len(clip["audio"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["search"], "WORDS"),
        (["search", "rain", "--like-clip", "x"], "WORDS"),
        (["embed"], "--text"),
        (["classify"], "files"),
        (["classify", "x.wav", "--modality", "smell"], "smell"),
        (["classes", "add", "a", "b", "--synonym", "c"], "one at a time"),
        (["classes", "edit", "a"], "nothing to change"),
        (["model", "--url", "http://127.0.0.1:9", "swap", "bundled"], "behind the command"),
        (["model", "--data-dir", "x", "cancel"], "behind the command"),
    ],
)
def test_wrong_usage_is_told_with_status_2(arguments: list[str], told: str) -> None:
    result = invoke(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert told.lower() in result.stderr.lower()


def test_a_service_that_is_not_there_is_one_line() -> None:
    result = invoke("model", "--url", "http://127.0.0.1:9")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("avgzsl: GET /model got no answer")
    assert result.stderr.count("\n") == 1


def test_without_a_service_it_opens_the_library_itself(run_here: Run, tone: Path) -> None:
    (added,) = lines_of(run_here("classes", "add", "kettle", "--json"))

    assert [c["class_id"] for c in lines_of(run_here("classes", "list", "--new", "--json"))] == [
        added["class_id"]
    ]
    (answer,) = lines_of(run_here("classify", tone, "--top", 1000, "--json"))
    assert "kettle" in [label["name"] for label in answer["labels"]]


def test_a_folder_that_is_named_comes_before_a_service_that_is_set(
    run_here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVGZSL_URL", "http://127.0.0.1:9")

    assert run_here("model", "--data-dir", tmp_path / "other").exit_code == 0
    assert (tmp_path / "other").is_dir()


def test_a_folder_in_use_is_told_with_the_pid_and_a_way_out(run_here: Run, tmp_path: Path) -> None:
    with Library.open(tmp_path / "library", model_id="fake", dim=8):
        result = run_here("model", "--data-dir", tmp_path)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "pid" in result.stderr
    assert "--url" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_own_library_asks_for_no_key(run_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVGZSL_REQUIRE_API_KEYS", "true")
    monkeypatch.setenv("AVGZSL_ALLOWED_HOSTS", "clips.example")
    monkeypatch.setenv("AVGZSL_RATE_LIMIT", "1/day")

    added = run_here("classes", "add", *("one", "two", "three"))

    assert added.exit_code == 0, added.stderr


@pytest.mark.parametrize(
    ("command", "module"), [("train", "model.train"), ("evaluate", "model.evaluate")]
)
def test_training_and_evaluation_have_their_own_options(
    command: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[list[str]] = []
    monkeypatch.setattr(f"{module}.main", lambda arguments: received.append(arguments) or 3)

    result = invoke(command, "--features", "x.npz", "--json", "out.json", "--help", "DIR")

    assert result.exit_code == 3
    assert received == [["--features", "x.npz", "--json", "out.json", "--help", "DIR"]]


def test_their_help_is_theirs() -> None:
    result = invoke("train", "--help")

    assert result.exit_code == 0
    assert "--recipe" in result.stdout


def test_shells_can_complete_it(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(
        app,
        [],
        env={"_AVGZSL_COMPLETE": "complete_bash", "COMP_WORDS": "avgzsl cla", "COMP_CWORD": "1"},
        prog_name="avgzsl",
    )

    assert result.stdout.split() == ["classify", "classes"]
