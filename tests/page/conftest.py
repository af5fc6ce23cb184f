"""A real browser in front of the real service with the bundled model."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.story.conftest import SAMPLES, ServerProcess, post_file

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TIMEOUT_MS = 60_000
TEST_SECONDS = 300
"""Of one test; then the run ends with every thread's stack, for a call of the browser's driver can
be interrupted by nothing else."""
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS, method="thread"))


@pytest.fixture(scope="package")
def importable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the service may import."""
    return tmp_path_factory.mktemp("importable")


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory, importable: Path) -> Iterator[httpx.Client]:
    data_dir = tmp_path_factory.mktemp("page") / "data"
    with ServerProcess(data_dir, import_roots=str(importable)) as client:
        yield client


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    # Not longer: Playwright runs an event loop in this thread, beside which no other can be run.
    if CHROMIUM is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds; the page's policy forbids Playwright's own wait, an `eval`."""
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.05)


class Complaints:
    """What the browser's console holds against the page, such as breaches of its policy."""

    def __init__(self, page: Page) -> None:
        self.texts: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.texts.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        # The browser notes every refusal of the service itself; the page shows those.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.texts.append(message.text)


@contextmanager
def visiting(browser: Browser, service: httpx.Client, width: int = 1280) -> Iterator[Page]:
    """Open a page as a fresh visitor; afterwards the console must be clean."""
    context = browser.new_context(
        base_url=str(service.base_url), viewport={"width": width, "height": 800}
    )
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    complaints = Complaints(page)
    yield page
    context.close()
    assert complaints.texts == []


@pytest.fixture
def page(browser: Browser, service: httpx.Client) -> Iterator[Page]:
    """A fresh visitor on a laptop."""
    with visiting(browser, service) as page:
        yield page


@pytest.fixture
def empty_library(service: httpx.Client) -> None:
    for clip in service.get("/clips", params={"limit": 1000}).json()["items"]:
        assert service.delete(f"/clips/{clip['clip_id']}").status_code == 204


@pytest.fixture
def stored(service: httpx.Client, empty_library: None) -> dict[str, str]:
    """Three sample clips in the library: their ids by name."""
    names = ("dog_bark.wav", "bell_then_rain.mp4", "balloon.mp4")
    replies = {
        name: post_file(service, "/clips", SAMPLES / name, tags=["sample"]) for name in names
    }
    return {name: reply.json()["clip_id"] for name, reply in replies.items()}
