"""What is served at `/`: built of the sources beside it, small, cached, without inline code."""

import gzip
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.service.conftest import assert_problem, make_app

PAGE = Path(__file__).parents[2] / "service" / "page"
DIST = PAGE / "dist"
BESIDE = ("index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts")
MAX_GZIPPED_BYTES = 250_000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """No lifespan: these files need neither model nor library."""
    return TestClient(make_app(tmp_path_factory.mktemp("page")))


def built_files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_build_is_that_of_these_sources() -> None:
    inside = [str(p.relative_to(PAGE)) for p in (PAGE / "src").rglob("*") if p.is_file()]
    digest = hashlib.sha256()
    for name in sorted([*BESIDE, *inside]):
        digest.update(name.encode() + b"\0" + (PAGE / name).read_bytes())

    assert (DIST / "source.sha256").read_text().strip() == digest.hexdigest(), (
        "service/page/dist is stale: run `make page` and commit what it wrote"
    )


@pytest.mark.slow
def test_building_again_gives_the_same_files(tmp_path: Path) -> None:
    node, vite = shutil.which("node"), PAGE / "node_modules" / "vite" / "bin" / "vite.js"
    if node is None or not vite.is_file():
        pytest.skip("node or service/page/node_modules is missing: run `make page`")
    command = [node, str(vite), "build", "--outDir", str(tmp_path), "--logLevel", "error"]
    subprocess.run(command, cwd=PAGE, check=True, timeout=300)

    assert built_files(tmp_path) == built_files(DIST)


def test_it_is_small() -> None:
    assert sum(len(gzip.compress(c)) for c in built_files(DIST).values()) < MAX_GZIPPED_BYTES


def test_it_holds_no_inline_script_or_style_and_no_other_host() -> None:
    html = (DIST / "index.html").read_text("utf-8")

    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", html)
    assert "//" not in html.replace("<!doctype html>", "")


def test_the_lockfile_names_no_registry() -> None:
    assert "resolved" not in (PAGE / "package-lock.json").read_text("utf-8")


def test_the_page_is_asked_for_anew_and_its_assets_never_again(client: TestClient) -> None:
    page = client.get("/")
    assets = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text)

    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-type"].startswith("text/html")
    assert {path.rsplit(".", 1)[1] for path in assets} == {"css", "js", "svg"}
    for path in assets:
        reply = client.get(path)
        assert reply.status_code == 200
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert client.head(path).status_code == 200
    kinds = {client.get(path).headers["content-type"].split(";")[0] for path in assets}
    assert kinds == {"text/css", "text/javascript", "image/svg+xml"}


@pytest.mark.parametrize("name", ["nothing.js", "..%2findex.html", "%2e%2e%2fsource.sha256"])
def test_what_is_no_asset_is_not_found(client: TestClient, name: str) -> None:
    assert_problem(client.get(f"/assets/{name}"), 404, "not_found")
