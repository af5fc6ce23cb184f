import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.docker.files import DOCKER, ROOT, instructions, program, run, unknown_settings

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGES = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
DATA_FILES = PYPROJECT["tool"]["setuptools"]["data-files"]


def values(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


def copied() -> list[str]:
    """Paths of the repository that the image's build takes."""
    sources = [rest.split()[:-1] for rest in values("COPY") if not rest.startswith("--from")]
    return [path for paths in sources for path in paths]


def test_it_satisfies_hadolint() -> None:
    done = run(program("hadolint"), "--failure-threshold=style", DOCKER / "Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_copies_what_exists_and_what_the_build_is_given() -> None:
    given = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    ]
    assert copied()
    for path in copied():
        assert (ROOT / path).exists(), path
        assert any(path == name or path.startswith(f"{name}/") for name in given), path
    for name in given:
        assert (ROOT / name).exists(), f".dockerignore names {name}, which is gone"


def test_it_copies_every_package_that_is_installed() -> None:
    packages = {pattern.removesuffix("*") for pattern in PACKAGES}
    data = {pattern.split("/")[0] for patterns in DATA_FILES.values() for pattern in patterns}
    assert packages | data <= set(copied())


def test_its_base_is_pinned_to_a_version_that_the_package_supports() -> None:
    (python,) = (rest for rest in values("ARG") if rest.startswith("PYTHON="))
    version = re.fullmatch(r"PYTHON=(\d+)\.(\d+)\.\d+-slim-[a-z]+", python)
    assert version is not None, python
    assert set(values("FROM")) == {"python:${PYTHON} AS build", "python:${PYTHON}"}
    major, minor = PROJECT["requires-python"].removeprefix(">=").split(".")
    assert (int(version[1]), int(version[2])) >= (int(major), int(minor))
    assert f"python{version[1]}.{version[2]}/site-packages" in " ".join(values("RUN"))
    assert f"python:{python.removeprefix('PYTHON=')}" in " ".join(values("LABEL"))


def test_it_runs_without_rights_and_stops_in_order() -> None:
    assert values("USER") == ["10001:10001"]
    assert values("STOPSIGNAL") == ["SIGTERM"]
    assert values("ENTRYPOINT") == ['["avgzsl"]']
    assert values("CMD") == ['["serve"]']
    assert values("VOLUME") == ["/data"]


def test_its_version_is_the_packages() -> None:
    assert f'org.opencontainers.image.version="{PROJECT["version"]}"' in " ".join(values("LABEL"))


def test_it_sets_only_settings_that_exist() -> None:
    text = (DOCKER / "Dockerfile").read_text("utf-8")
    assert "AVGZSL_DATA_DIR=/data" in text
    assert unknown_settings(text) == set()


def test_it_offers_only_extras_that_exist() -> None:
    text = (DOCKER / "Dockerfile").read_text("utf-8")
    (named,) = re.findall(r"optional parts of the package, separated by commas: ([a-z0-9,]+)", text)
    assert set(named.split(",")) <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize(
    ("cuda", "wanted", "said"),
    [
        ("None", "cpu", None),
        ("'13.0'", "cuda", None),
        ("'13.0'", "cpu", "is a cuda build and TORCH is cpu"),
        ("None", "cuda", "is a cpu build and TORCH is cuda"),
        ("None", "CPU", "must be cpu or cuda"),
    ],
)
def test_its_build_ends_at_the_wrong_build_of_torch(
    cuda: str, wanted: str, said: str | None, tmp_path: Path
) -> None:
    (tmp_path / "torch").mkdir()
    # As a CUDA build without what it depends on: it cannot be imported.
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so')")
    (tmp_path / "torch" / "version.py").write_text(f"__version__ = '2.13.0'\ncuda = {cuda}\n")
    check = DOCKER / "check_torch.py"
    done = run(sys.executable, check, wanted, environment={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode == 0) == (said is None), done.stderr
    assert said is None or said in done.stderr


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that answers `/readyz` with one status; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b'{"detail": "The model fails."}')

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def check_health(port: int) -> subprocess.CompletedProcess[str]:
    check = DOCKER / "healthcheck.py"
    return run(sys.executable, check, environment={"AVGZSL_PORT": str(port)})


def test_it_is_healthy_where_the_service_is_ready() -> None:
    with answering(200) as port:
        assert check_health(port).returncode == 0


def test_it_is_unhealthy_and_says_why_where_the_model_fails_or_nobody_listens() -> None:
    with answering(503) as port:
        done = check_health(port)
    assert done.returncode == 1
    assert "The model fails." in done.stderr
    done = check_health(port)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
