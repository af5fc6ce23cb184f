"""The arrows of the house: who may import whom, and what stays out of a quick start."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("model", "index", "service")
ALLOWED = {"model": {"model"}, "index": {"index"}, "service": set(PACKAGES)}


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the direction"
            yield node.lineno, node.module or ""


def source_files() -> list[Path]:
    return [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]


def test_there_are_files_to_check() -> None:
    assert {p.relative_to(ROOT).parts[0] for p in source_files()} == set(PACKAGES)


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_the_right_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for line, module in imported_modules(path):
        top = module.split(".")[0]
        assert top not in PACKAGES or top in ALLOWED[package], f"line {line} imports {module}"
        assert top != "torch" or package == "model", f"line {line}: torch lives in model only"
        assert not module.startswith("model.distillation") or ("distillation" in path.parts), (
            f"line {line}: the service needs no teacher"
        )


@pytest.mark.parametrize(
    "statement",
    [
        "import service.cli",
        "import service.app",
        "import index.library",
        "import model.fake, model.scoring, model.media.clip",
        "import model.backbones.registry",
    ],
)
def test_imports_that_cost_seconds_wait_until_they_are_needed(statement: str) -> None:
    code = (
        f"{statement}\nimport sys\n"
        "print(*sorted({'torch', 'sentence_transformers', 'transformers'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == ""
