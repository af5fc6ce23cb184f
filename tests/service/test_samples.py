"""The sample clips that a page offers to try the service with."""

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service import samples
from tests.service.conftest import assert_problem

ROOT = Path(__file__).parents[2]


def test_each_is_listed_as_the_samples_own_readme_describes_it(shared: TestClient) -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| [^|]+ \|$",
        (ROOT / "samples" / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    described = {
        name: tuple(None if text in {"-", "no sound track"} else text for text in texts)
        for name, *texts in rows
    }
    items = shared.get("/samples").json()["items"]

    assert {item["name"]: (item["heard"], item["seen"]) for item in items} == described


def test_each_is_sent_whole_with_its_type(shared: TestClient) -> None:
    for item in shared.get("/samples").json()["items"]:
        reply = shared.get(item["url"])
        assert reply.content == (ROOT / "samples" / item["name"]).read_bytes()
        assert reply.headers["content-type"] == item["content_type"]
        assert len(reply.content) == item["size_bytes"]


@pytest.mark.parametrize("name", ["nobody.mp4", "README.md", "..%2fpyproject.toml", "sounds.py"])
def test_nothing_else_is_sent(shared: TestClient, name: str) -> None:
    reply = shared.get(f"/samples/{name}")

    assert reply.status_code == 404
    assert reply.json()["code"] in {"sample_not_found", "not_found"}


def test_an_installation_without_them_lists_none(
    shared: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "samples_dir", lambda: tmp_path)

    assert shared.get("/samples").json() == {"items": []}
    assert_problem(shared.get("/samples/clock.mp4"), 404, "sample_not_found")


def test_an_installed_package_brings_them_beside_itself() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    ((target, patterns),) = settings["tool"]["setuptools"]["data-files"].items()
    shipped = {path.name for pattern in patterns for path in ROOT.glob(pattern)}

    assert samples.INSTALLED.parts[-3:] == tuple(target.split("/"))
    assert shipped == set(samples.SAMPLES)
