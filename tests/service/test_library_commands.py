"""`avgzsl library ...`, as people and programs run it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app
from tests.index.builders import media_file, new_class, new_clip, open_library, unit

Run = Callable[..., Any]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A folder of a closed library with a class and two clips."""
    with open_library(tmp_path / "data" / "library") as library:
        library.add_class(new_class("dog"))
        for number in range(2):
            upload = media_file(tmp_path, b"media %d" % number)
            library.add_clip(new_clip(unit(number), thumbnail=b"jpeg"), upload)
    return tmp_path / "data"


@pytest.fixture
def run(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, in the library's environment."""
    monkeypatch.setenv("AVGZSL_DATA_DIR", str(data_dir))
    return lambda *arguments: CliRunner().invoke(app, ["library", *map(str, arguments)])


def lose_a_file(data_dir: Path) -> None:
    next((data_dir / "library" / "media").glob("??/*")).unlink()


def test_a_sound_library_is_verified_with_success(run: Run) -> None:
    result = run("verify")
    assert result.exit_code == 0
    assert result.stdout.startswith("2 clips, 2 windows, 1 classes, 3 files, by the model model-a")
    assert "nothing is wrong" in result.stdout
    found = json.loads(run("verify", "--json").stdout)
    assert (found["clips"], found["findings"], found["skipped"]) == (2, [], [])


def test_what_is_wrong_is_told_and_fails(run: Run, data_dir: Path) -> None:
    lose_a_file(data_dir)
    result = run("verify")
    assert result.exit_code == 1
    assert "wrong: media_missing" in result.stdout
    (finding,) = json.loads(run("verify", "--json").stdout)["findings"]
    assert finding["kind"] == "media_missing"


def test_a_repair_tells_what_it_mended_and_what_it_left(run: Run, data_dir: Path) -> None:
    (data_dir / "library" / "vectors" / "audio.vectors").write_bytes(b"rotten")
    lose_a_file(data_dir)
    result = run("repair")
    assert result.exit_code == 1
    assert "mended: saved_vectors audio" in result.stdout
    assert "left: media_missing" in result.stdout
    forgotten = run("repair", "--forget-missing", "--json")
    assert forgotten.exit_code == 0
    assert [finding["kind"] for finding in json.loads(forgotten.stdout)["mended"]] == [
        "media_missing"
    ]
    assert run("repair").stdout == "nothing was wrong\n"


def test_a_library_goes_out_and_comes_back(run: Run, data_dir: Path, tmp_path: Path) -> None:
    archive = tmp_path / "library.tar"
    exported = json.loads(run("export", archive, "--json").stdout)
    assert (exported["clips"], exported["missing"]) == (2, [])
    refused = run("export", archive)
    assert (refused.exit_code, "exists" in refused.stderr) == (1, True)
    assert run("export", archive, "--force").stdout.startswith(f"wrote {archive}: 2 clips")
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    place = ("--data-dir", tmp_path / "other", "--catalogue-url", url)
    restored = run("import", archive, *place)
    assert restored.stdout.startswith(f"restored into {tmp_path / 'other' / 'library'}: 2 clips")
    assert run("verify", *place).exit_code == 0
    again = run("import", archive, *place)
    assert again.exit_code == 1
    assert again.stderr.startswith("avgzsl: The library in")
    assert again.stderr.count("\n") == 1


def test_a_library_in_use_is_verified_and_exported_but_not_repaired(
    run: Run, data_dir: Path, tmp_path: Path
) -> None:
    with open_library(data_dir / "library"):
        verified = run("verify")
        assert verified.exit_code == 0
        assert "Stray files and saved vectors were not checked" in verified.stderr
        assert run("export", tmp_path / "library.tar").exit_code == 0
        for refused in (run("repair"), run("import", tmp_path / "library.tar")):
            assert refused.exit_code == 1
            assert "in use by the process with pid" in refused.stderr


@pytest.mark.parametrize("command", ["verify", "repair", "export"])
def test_where_there_is_no_library_that_is_said(run: Run, tmp_path: Path, command: str) -> None:
    arguments = [tmp_path / "out.tar"] if command == "export" else []
    result = run(command, *arguments, "--data-dir", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith("avgzsl: There is no library")
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_archive_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"x" * 2000)
    result = run("import", tmp_path / "x.tar", "--data-dir", tmp_path / "other")
    assert result.exit_code == 1
    assert "no archive of a library" in result.stderr


def test_a_bad_setting_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVGZSL_VECTOR_STORE", "abacus")
    result = run("verify")
    assert result.exit_code == 1
    assert result.stderr.startswith("avgzsl: AVGZSL_VECTOR_STORE is 'abacus'")
