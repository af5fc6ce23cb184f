"""The demo's tour over real HTTP with the fake embedder, and what it says when things go wrong."""

import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from service import demo
from service.demo_server import DemoFailed, own_server
from service.samples import samples_dir
from tests.service.conftest import make_app
from tests.service.servers import serving

FAKE_SERVER = """
import os, sys
from pathlib import Path
import uvicorn
from model.fake import FakeEmbedder
from service.app import create_app
from service.settings import Settings
settings = Settings(data_dir=Path(os.environ["AVGZSL_DATA_DIR"]))
port = int(sys.argv[sys.argv.index("--port") + 1])
uvicorn.run(create_app(settings, embedder=FakeEmbedder()), port=port)
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    app = make_app(tmp_path_factory.mktemp("demo"), max_upload_bytes=2_000_000)
    with serving(app) as url:
        yield url


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), width=120)


def test_the_tour_holds_with_meaningless_rankings_and_leaves_nothing_behind(
    url: str, console: Console
) -> None:
    with httpx.Client(base_url=url) as client:
        before = client.get("/classes").json()["total"]
        demo.run_tour(client, samples_dir(), console)
        assert client.get("/clips").json()["total"] == 0
        assert client.get("/classes").json()["total"] == before


def test_it_calls_every_documented_endpoint(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--url", url]) == 0
    shown = capsys.readouterr().out
    assert "Every answer was as expected" in shown
    assert "\nnone\n" in shown


def test_a_failed_step_removes_what_was_stored(
    url: str, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(tour: demo.Tour) -> None:
        tour.call("GET", "/clips/nobody")

    monkeypatch.setattr(demo, "STEPS", (demo.add_class, demo.store_clips, surprise))
    with httpx.Client(base_url=url) as client:
        with pytest.raises(DemoFailed, match=r"/clips/nobody answered 404 .* expects 200"):
            demo.run_tour(client, samples_dir(), console)
        assert client.get("/clips").json()["total"] == 0
        assert client.get("/classes", params={"query": demo.NEW_CLASS}).json()["total"] == 0


def test_a_missing_sample_is_named(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--url", url, "--samples", str(tmp_path)]) == 1
    shown = capsys.readouterr().out.replace("\n", "")
    assert demo.WITH_SOUND in shown
    assert "is missing" in shown


def test_a_server_that_does_not_answer_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--url", "http://127.0.0.1:9"]) == 1
    assert "/healthz got no answer" in capsys.readouterr().out


def test_its_own_server_starts_with_an_empty_library_and_is_stopped(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVGZSL_CATALOGUE_URL", "sqlite:////nowhere/catalogue.db")
    with own_server(console, (sys.executable, "-c", FAKE_SERVER)) as own_url:
        assert httpx.get(f"{own_url}/clips").json()["total"] == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{own_url}/clips")


def test_a_server_that_stops_at_its_start_shows_its_log(console: Console) -> None:
    command = (sys.executable, "-c", "raise SystemExit('the model is not there')")
    with (
        pytest.raises(DemoFailed, match=r"status 1\. Its log:\nthe model is not there"),
        own_server(console, command),
    ):
        pytest.fail("it should not become ready")
