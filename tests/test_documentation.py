"""The documentation says what the code says, and builds."""

import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import yaml

from service.errors import HTTP_CODES, PROBLEMS
from service.settings import PREFIX, ClientSettings, Settings
from tests.service.test_openapi import OPERATIONS

pytest.importorskip("mkdocs")

from docs import site_pages

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
SETTINGS = {**Settings.model_fields, **ClientSettings.model_fields}


def test_every_setting_is_documented() -> None:
    page = site_pages.settings_page()
    for name, field in SETTINGS.items():
        assert field.description, f"{name} has no description in service/settings.py"
        assert f"| `{PREFIX}{name.upper()}` |" in page
        assert field.description in page


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_every_setting_that_a_page_names_exists(path: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+\b(?!\.\.\.)", path.read_text("utf-8")))
    known = {f"{PREFIX}{name.upper()}" for name in SETTINGS}
    groups = {name for name in named if name.endswith("_")}
    assert named - groups <= known
    assert all(any(name.startswith(group) for name in known) for group in groups)


def test_every_operation_is_documented() -> None:
    page = site_pages.api_page()
    for method, path in OPERATIONS:
        assert f"\n## {method.upper()} {path}\n" in page


def test_every_error_code_is_documented() -> None:
    page = site_pages.errors_page()
    for error, problem in PROBLEMS.items():
        # A client that is gone reads no answer.
        assert f"| {problem.status} | `{problem.code}` |" in page or problem.status == 499, error


def test_codes_that_no_type_of_error_has_are_those_of_the_code() -> None:
    sources = [(ROOT / package).rglob("*.py") for package in ("service", "index")]
    text = "".join(path.read_text("utf-8") for path in chain.from_iterable(sources))
    page = site_pages.errors_page()
    known = {code for _, code in site_pages.UNTYPED_ERRORS} | set(site_pages.LATER_ERRORS)
    assert known >= set(HTTP_CODES.values())
    for code in known:
        assert f'"{code}"' in text
        assert f"| `{code}` |" in page


def test_troubleshooting_names_codes_that_exist() -> None:
    text = (DOCS / "troubleshooting.md").read_text("utf-8")
    named = re.findall(r"(\d{3}) `([a-z_]+)`", text)
    assert len(named) > 5
    known = {(str(problem.status), problem.code) for problem in PROBLEMS.values()}
    assert set(named) <= known


def test_the_figures_of_the_method_are_those_of_the_tables() -> None:
    tables = (DOCS / "zero_shot_tables.md").read_text("utf-8").partition("### Test")[2]
    rows = re.findall(
        r"^\| (?:recipe `)?(\w+).*?(, descriptions)? \| ([\d.]+[^|]*?) \| ([\d.]+[^|]*?) \|$",
        (DOCS / "method.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert len(rows) == 7
    for name, text, harmonic_mean, zero_shot in rows:
        (columns,) = re.findall(
            rf"^\| {name.lower()}{text} \| both \| (.*) \|$", tables, re.MULTILINE
        )
        assert columns.split(" | ")[2:4] == [harmonic_mean, zero_shot], name


def test_every_page_is_in_the_navigation() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    listed: set[str] = set(re.findall(r"[\w/]+\.md", str(navigation)))
    assert listed == {page.name for page in PAGES} | set(site_pages.generated())


def test_a_link_from_elsewhere_leads_to_a_page_or_nowhere() -> None:
    for source in site_pages.ELSEWHERE.values():
        text = site_pages.elsewhere(source)
        for target in re.findall(r"\]\(([^)]+)\)", text):
            page = target.partition("#")[0]
            assert "://" in page or (DOCS / page).exists() or page in site_pages.generated()


def test_it_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES)
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]*src=\"https?://|<link[^>]*rel=\"(?:stylesheet|preconnect)\""
        r"[^>]*href=\"https?://|<link[^>]*href=\"https?://[^>]*rel=\"(?:stylesheet|preconnect)\""
    )
    for page in pages:
        assert loaded.search(page.read_text("utf-8")) is None, page.name
