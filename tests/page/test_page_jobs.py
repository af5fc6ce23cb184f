"""Work that goes on without the page: uploads, imports and where both are shown."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.page.conftest import eventually, visiting
from tests.page.test_page_looks import assert_accessible
from tests.story.conftest import ROOT, SAMPLES, ServerProcess

expect.set_options(timeout=60_000)


def listed(service: httpx.Client) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = service.get("/jobs", params={"limit": 1000}).json()["items"]
    return jobs


@pytest.fixture
def no_jobs(service: httpx.Client, empty_library: None) -> None:
    def all_gone() -> bool:
        jobs = listed(service)
        for job in jobs:
            service.delete(f"/jobs/{job['job_id']}")
        return not jobs

    eventually(all_gone)


@pytest.fixture
def films(importable: Path) -> Iterator[Path]:
    """A folder of the server: a clip, a broken one and what is none."""
    folder = importable / "films"
    folder.mkdir()
    shutil.copy(SAMPLES / "balloon.mp4", folder)
    (folder / "broken.mp4").write_bytes(b"these are no pictures")
    (folder / "notes.txt").write_text("none")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service that takes jobs in and works on none."""
    with ServerProcess(tmp_path_factory.mktemp("idle") / "data", job_workers="0") as client:
        yield client


def choose(page: Page, *paths: Path) -> Locator:
    """Upload files in the library; return the region that tells of them."""
    page.goto("/#/library")
    page.locator("input[type=file][multiple]").set_input_files(list(paths))
    return page.get_by_role("region", name="Uploads")


def import_folder(page: Page, path: Path) -> None:
    page.goto("/#/jobs")
    page.get_by_text("Import a folder of the server").click()
    page.get_by_label("Folder on the server").fill(str(path))
    page.get_by_label("Folder on the server").press("Enter")


@pytest.mark.usefixtures("no_jobs")
def test_an_upload_says_what_is_a_duplicate_and_what_failed(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"these are no pictures")
    same = tmp_path / "same.mp4"
    shutil.copy(SAMPLES / "balloon.mp4", same)

    expect(choose(page, SAMPLES / "balloon.mp4").get_by_role("heading")).to_have_text(
        "1 file stored"
    )
    uploads = choose(page, same, broken)

    expect(uploads.get_by_role("heading")).to_have_text("1 file stored, 1 already there, 1 not")
    expect(uploads).to_contain_text("stored already, as balloon.mp4; nothing was added")
    expect(page.get_by_role("article")).to_have_count(1)
    with page.expect_response("**/retry"):
        uploads.get_by_role("button", name="Try again").click()
    expect(uploads.get_by_role("heading")).to_have_text("1 file stored, 1 already there, 1 not")
    page.reload()
    # What failed still needs somebody; the rest is done.
    expect(uploads.get_by_role("heading")).to_have_text("0 files stored, 1 not")
    uploads.get_by_role("button", name="Clear finished").click()
    expect(uploads).to_have_count(0)


def test_uploads_that_wait_are_shown_again_after_a_reload_and_can_be_cancelled(
    browser: Browser, idle: httpx.Client
) -> None:
    with visiting(browser, idle) as page:
        uploads = choose(page, SAMPLES / "balloon.mp4", SAMPLES / "dog_bark.wav")
        expect(uploads).to_contain_text("All are sent. You may leave")
        page.reload()
        expect(uploads.get_by_role("listitem")).to_have_count(2)
        expect(uploads.get_by_text("waits for its turn")).to_have_count(2)

        uploads.get_by_role("button", name="Cancel balloon.mp4").click()
        expect(uploads.get_by_text("cancelled")).to_be_visible()

        page.goto("/#/jobs")
        job = page.get_by_role("article", name="balloon.mp4")
        expect(job).to_contain_text("cancelled")
        page.get_by_role("button", name="Cancel dog_bark.wav").click()
        eventually(lambda: all(job["state"] == "cancelled" for job in listed(idle)))
        page.get_by_role("button", name="Remove balloon.mp4").click()
        page.get_by_role("button", name="Remove dog_bark.wav").click()
        expect(page.get_by_text("No job yet.")).to_be_visible()


@pytest.mark.usefixtures("no_jobs")
def test_a_folder_of_the_server_is_imported_followed_and_tried_again(
    page: Page, service: httpx.Client, films: Path
) -> None:
    import_folder(page, films)

    job = page.get_by_role("article", name=str(films))
    expect(job).to_contain_text("1 of 2 files done · 1 failed · 1 no media")
    expect(job.locator(".badge")).to_have_text("done")
    job.get_by_role("button", name="Show 1 failed file").click()
    path = f"/jobs/{listed(service)[0]['job_id']}/items"
    failed = service.get(path, params={"state": "failed"}).json()
    expect(job.get_by_role("listitem")).to_contain_text(failed["items"][0]["error"]["detail"])

    shutil.copy(SAMPLES / "dog_bark.wav", films / "broken.mp4")
    job.get_by_role("button", name="Try again").click()
    expect(job).to_contain_text("2 of 2 files done")
    job.get_by_role("button", name="Show all files").click()
    expect(job.get_by_role("listitem")).to_have_count(2)
    page.goto("/#/library")
    expect(page.get_by_role("article", name="broken.mp4")).to_be_visible()


@pytest.mark.usefixtures("no_jobs")
def test_a_folder_that_may_not_be_imported_is_refused_in_the_services_sentence(
    page: Page, tmp_path: Path
) -> None:
    with page.expect_response("**/jobs/import") as reply:
        import_folder(page, tmp_path)

    assert reply.value.status == httpx.codes.FORBIDDEN
    expect(page.get_by_role("alert")).to_have_text(reply.value.json()["detail"])


@pytest.mark.usefixtures("no_jobs")
def test_jobs_are_chosen_by_their_state(page: Page, service: httpx.Client) -> None:
    with (SAMPLES / "dog_bark.wav").open("rb") as file:
        files, form = {"file": ("dog_bark.wav", file)}, {"candidate_labels": "a dog barks"}
        service.post("/classify", params={"mode": "async"}, files=files, data=form)
    page.goto("/#/jobs")
    expect(page.get_by_role("article", name="dog_bark.wav")).to_contain_text("a dog barks 1")

    page.get_by_label("State").select_option("Failed")

    expect(page.get_by_text("No job is in this state.")).to_be_visible()


@pytest.mark.usefixtures("no_jobs")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_jobs_and_a_phone_shows_all_of_them(
    browser: Browser, service: httpx.Client, films: Path, scheme: str
) -> None:
    with visiting(browser, service, width=360) as page:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        uploads = choose(page, SAMPLES / "balloon.mp4", films / "broken.mp4")
        expect(uploads.get_by_role("heading")).to_have_text("1 file stored, 1 not")
        assert_accessible(page, "uploads")
        import_folder(page, films)
        page.get_by_role("button", name="Show 1 failed file").click()
        expect(page.get_by_role("article").get_by_role("listitem").first).to_be_visible()
        assert_accessible(page, "jobs")
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_service_with_keys_is_used_with_one_of_its_own(browser: Browser, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with (
        ServerProcess(data_dir, require_api_keys="true") as service,
        visiting(browser, service) as page,
    ):
        command = [sys.executable, "-m", "service", "keys", "create", "page", "--scope", "write"]
        made = subprocess.run(
            [*command, "--data-dir", str(data_dir), "--json"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            timeout=120,
        )
        page.goto("/#/library")
        key = page.get_by_label("API key", exact=True)
        key.fill("avgzsl_wrong")
        with page.expect_response("**/session") as reply:
            key.press("Enter")
        expect(page.get_by_role("alert")).to_have_text(reply.value.json()["detail"])
        key.fill(json.loads(made.stdout)["key"])
        key.press("Enter")

        expect(page.get_by_text("The library is empty.")).to_be_visible()
        uploads = choose(page, SAMPLES / "balloon.mp4")
        expect(uploads.get_by_role("heading")).to_have_text("1 file stored")
        page.reload()
        expect(page.get_by_role("article", name="balloon.mp4")).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)
        # The key's scope is `write`, and an import needs `admin`.
        with page.expect_response("**/jobs/import") as refusal:
            import_folder(page, tmp_path)
        assert refusal.value.status == httpx.codes.FORBIDDEN
        expect(page.get_by_role("alert")).to_have_text(refusal.value.json()["detail"])
