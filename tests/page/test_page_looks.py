"""Everybody can read it: axe-core finds nothing serious, and a narrow phone shows all of it."""

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.page.conftest import TIMEOUT_MS

# A view that was left stays in the document, hidden.
VIEWS = {
    "classify": "button:has-text('dog_bark.wav')",
    "search?q=rain": "article:visible",
    "library": "article:visible",
    "jobs": "#heading-jobs:visible",
    "classes": "li .name",
    "model": "table",
}


@pytest.fixture(params=["light", "dark"])
def coloured(page: Page, request: pytest.FixtureRequest) -> Page:
    page.emulate_media(color_scheme=request.param, reduced_motion="reduce")
    return page


def assert_accessible(page: Page, where: str) -> None:
    violations = Axe().run(page).response["violations"]
    found = [
        f"{where}: {v['id']} ({v['impact']}): {node['html'][:200]} {node['failureSummary']}"
        for v in violations
        if v["impact"] in {"serious", "critical"}
        for node in v["nodes"]
    ]
    assert found == []


@pytest.mark.usefixtures("stored")
def test_axe_finds_nothing_serious_in_any_view(coloured: Page) -> None:
    for view, sign in VIEWS.items():
        coloured.goto(f"/#/{view}")
        expect(coloured.locator(sign).first).to_be_visible()
        assert_accessible(coloured, view)


def test_axe_finds_nothing_serious_in_an_answer_an_error_and_a_notice(coloured: Page) -> None:
    coloured.goto("/#/classify")
    coloured.get_by_role("button", name="bell_then_rain.mp4").click()
    expect(coloured.get_by_role("img", name="Waveform")).to_be_visible()
    coloured.get_by_label("Is a name missing? Add it").fill("Speech")
    coloured.get_by_role("button", name="Add and rank again").click()
    expect(coloured.get_by_role("alert")).to_be_visible()
    assert_accessible(coloured, "an answer")

    coloured.goto("/#/classes")
    coloured.get_by_role("button", name="Remove Speech", exact=True).click()
    expect(coloured.get_by_role("button", name="Undo")).to_be_visible()
    assert_accessible(coloured, "a notice")
    coloured.get_by_role("button", name="Undo").click()


@pytest.mark.usefixtures("stored")
def test_nothing_sticks_out_on_a_phone_of_360_pixels(
    browser: Browser, service: httpx.Client
) -> None:
    context = browser.new_context(
        base_url=str(service.base_url), viewport={"width": 360, "height": 740}
    )
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    for view, sign in VIEWS.items():
        page.goto(f"/#/{view}")
        page.locator(sign).first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 360, view
    page.goto("/#/classify")
    page.get_by_role("button", name="bell_then_rain.mp4").click()
    page.locator("ol.labels").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    context.close()
