"""Every write to the disk that an operation makes fails in turn; nothing acknowledged is lost.

The faults are real ones to Python and SQLite alike: a shared library stands before the C library's
calls (`faults.c`) in a process of its own (`fault_worker.py`, which is what asserts).
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPERATIONS = [
    "add_clip",
    "add_clip_of_a_known_file",
    "remove_clip",
    "remove_clip_of_a_shared_file",
    "update_clip",
    "add_class",
    "update_class",
    "remove_class",
    "close",
    "open",
    "repair",
    "export",
]
STRIDE = 5
"""The default suite tries one in so many writes."""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler, and a loader that preloads, to let calls to the disk fail")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def writes_tried(
    faults: Path, folder: Path, error: int, operations: list[str], *, lasting: bool, stride: int
) -> dict[str, int]:
    """Return how many writes each operation makes, all of which it survived the failure of."""
    arguments = [str(folder / "work"), str(error), str(int(lasting)), str(stride), *operations]
    done = subprocess.run(
        [sys.executable, "-m", "tests.index.fault_worker", *arguments],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(faults), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    return {name: int(count) for name, count in lines}


def test_some_writes_of_each_kind_that_fail_lose_nothing(faults: Path, tmp_path: Path) -> None:
    operations = ["add_clip", "remove_clip", "add_class", "close", "open"]
    tried = writes_tried(faults, tmp_path, errno.ENOSPC, operations, lasting=False, stride=STRIDE)
    assert tried.keys() == set(operations)
    assert all(count >= 15 for count in tried.values()), tried


@pytest.mark.slow
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("lasting", [False, True])
def test_every_write_that_fails_loses_nothing(
    faults: Path, tmp_path: Path, error: int, lasting: bool
) -> None:
    tried = writes_tried(faults, tmp_path, error, OPERATIONS, lasting=lasting, stride=1)
    assert tried.keys() == set(OPERATIONS)
    assert all(count >= 10 for count in tried.values()), tried


@pytest.mark.slow
def test_every_write_of_an_import_that_fails_leaves_nothing_or_everything(
    faults: Path, tmp_path: Path
) -> None:
    assert (
        writes_tried(faults, tmp_path, errno.ENOSPC, ["import"], lasting=False, stride=1)["import"]
        > 100
    )
