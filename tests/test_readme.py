"""What the documentation tells readers to type, typed: on a real server with the bundled model.

Numbers are not compared, as they vary; but each name and each text that a shown answer has must be
in the answer.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.client import Client
from tests.story.conftest import ServerProcess

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
VARYING = re.compile(r"[0-9a-f]{32}|\d{4}-\d\d-\d\dT[0-9:.]+Z")

TYPED = re.compile(r"(curl|avgzsl|for) ")
NOT_TYPED = {
    r"make |(\S*/)?pip |python3\.11 -m venv |export TORCH_INDEX": "installs",
    r"docker[ /]|kubectl ": "needs an engine",
    r"(\w+=\S+ )*(\S*/)?avgzsl serve": "serves until it is stopped; this test has a server",
    r"(\S*/)?python -m model\.|python benchmarks/": "needs training data",
    r"(\w+=\S+ )*avgzsl index --ray": "needs Ray; tests/service/test_ray_indexing.py does it",
    r"curl .*/jobs/import|avgzsl jobs import": "reads a folder that this server may not",
    r"avgzsl model swap /srv/": "needs another model's folder",
    r"fresh/bin/": "needs what the line before it installs",
    r"avgzsl library repair": "refused while the service runs, which this test needs",
}
FAILING = {"avgzsl classify samples/clock.mp4 empty.mp4 --json": 1}


@dataclass(frozen=True)
class Command:
    """A command of a document, and what is shown below it."""

    text: str
    shown: str


def blocks(document: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(document.read_text("utf-8")) if kind == language]


def commands(document: Path) -> Iterator[Command]:
    for block in blocks(document, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            length = next(n for n, line in enumerate(lines, 1) if not line.endswith("\\"))
            yield Command("\n".join(lines[:length]), "\n".join(lines[length:]))


def is_typed(command: Command) -> bool:
    return TYPED.match(command.text) is not None and not any(
        re.match(pattern, command.text) for pattern in NOT_TYPED
    )


def names(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("readme") / "data")
    with server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the server, which forgets in the end what the documents stored in it."""
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client
        for clip in client.list_clips(limit=1000).items:
            client.remove_clip(clip.clip_id)
        for one in client.list_classes(seen=False).items:
            client.remove_class(one.class_id)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder as a reader has it: the samples, an empty file, and `avgzsl` on the path."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (tmp_path / "empty.mp4").touch()
    program = tmp_path / "bin" / "avgzsl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m service "$@"\n')
    program.chmod(0o755)
    return tmp_path


def typed(text: str, desk: Path, server: ServerProcess) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            "bash",
            "-o",
            "pipefail",
            "-c",
            text.replace("localhost:8000", f"localhost:{server.port}"),
        ],
        cwd=desk,
        env={
            **os.environ,
            "PATH": f"{desk / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "AVGZSL_URL": f"http://127.0.0.1:{server.port}",
            "AVGZSL_DATA_DIR": str(server.data_dir),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def texts(answer: str) -> set[str]:
    return {VARYING.sub("...", quoted) for quoted in QUOTED.findall(answer)}


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if any(map(is_typed, commands(d)))], ids=names
)
def test_what_a_document_says_to_type_does_what_it_shows(
    document: Path, desk: Path, server: ServerProcess, client: Client
) -> None:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("the documents' commands need curl and bash")
    for command in filter(is_typed, commands(document)):
        done = typed(command.text, desk, server)

        assert done.returncode == FAILING.get(command.text, 0), command.text + "\n" + done.stderr
        assert texts(command.shown) <= texts(done.stdout), command.text + "\n" + done.stdout


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks(d, "python")], ids=names)
def test_what_a_document_says_to_program_runs(
    document: Path,
    desk: Path,
    server: ServerProcess,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(desk)
    for block in blocks(document, "python"):
        program = block.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        exec(compile(program, str(document), "exec"), {})


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_what_is_not_typed_here_has_a_reason(document: Path) -> None:
    for command in commands(document):
        reasons = [r for pattern, r in NOT_TYPED.items() if re.match(pattern, command.text)]
        assert is_typed(command) or reasons, (
            f"{command.text!r} is neither run here nor has it a reason why not in NOT_TYPED"
        )
