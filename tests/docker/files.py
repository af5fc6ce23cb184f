"""What the tests of `docker/` read: the image's instructions and the compose file, resolved."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent.parent
DOCKER = ROOT / "docker"


def program(name: str) -> str:
    """The path of a program that the extra `deploy` brings, or that lies on the PATH."""
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if found is None:
        pytest.skip(f"{name} is not installed; pip install -e '.[deploy]' brings it")
    return found


def run(
    *command: str | Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program that ends soon; what became of it is the caller's to judge."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, check=False
    )


def instructions() -> Iterator[tuple[str, str]]:
    """The instructions of docker/Dockerfile: a word in capitals and what follows it."""
    lines = (DOCKER / "Dockerfile").read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            word, rest = line.split(maxsplit=1)
            yield word, rest


def compose(*profiles: str, folder: Path = ROOT, **variables: str) -> dict[str, Any]:
    """The compose file as Compose itself reads it: merged, interpolated and checked."""
    flags = [f"--profile={profile}" for profile in profiles]
    done = run(
        program("docker-compose"),
        f"--project-directory={folder}",
        f"--file={folder / 'docker-compose.yml'}",
        *flags,
        *("config", "--format=json"),
        environment={"PATH": os.environ["PATH"], "HOME": str(folder), **variables},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def unknown_settings(text: str) -> set[str]:
    """The variables of the service that a text names and `Settings` does not know."""
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", text))
    return named - {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
