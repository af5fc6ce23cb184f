"""What a visitor does at `/`, in a real browser against the real service."""

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import eventually
from tests.story.conftest import SAMPLES

expect.set_options(timeout=60_000)


def classify_sample(page: Page, name: str) -> None:
    page.goto("/#/classify")
    page.get_by_role("button", name=name).click()
    expect(page.locator("ol.labels")).to_be_visible()


def ranked(page: Page) -> list[str]:
    return page.locator("ol.labels li .name").all_inner_texts()


# --- classify ------------------------------------------------------------------------------------


def test_a_sample_is_named_and_shown_over_time(page: Page) -> None:
    classify_sample(page, "bell_then_rain.mp4")

    assert len(ranked(page)) == 5
    first = page.locator("ol.labels li").first
    expect(first.get_by_text("by sound")).to_be_attached()
    expect(first.get_by_text("by pictures")).to_be_attached()
    expect(page.get_by_text("None of these:")).to_be_visible()
    expect(page.get_by_role("img", name="Waveform")).to_be_visible()
    expect(page.locator(".frames img")).to_have_count(8)
    windows = page.get_by_role("list", name="What is there, window by window")
    expect(windows.get_by_role("button")).to_have_count(3)
    expect(windows.get_by_role("button").last).to_contain_text("Rain")


def test_pressing_a_window_plays_from_there(page: Page) -> None:
    classify_sample(page, "bell_then_rain.mp4")
    windows = page.get_by_role("list", name="What is there, window by window")
    windows.get_by_role("button").last.click()

    eventually(lambda: page.evaluate("document.querySelector('video').currentTime > 4.1"))


def test_it_says_why_a_modality_was_not_used(page: Page) -> None:
    classify_sample(page, "balloon.mp4")
    expect(page.get_by_text("Sound not used: the file has no sound")).to_be_visible()

    page.get_by_text("Sound only").click()
    expect(page.get_by_role("alert")).to_contain_text("no sound")
    page.get_by_text("Sound and pictures").click()
    expect(page.locator("ol.labels")).to_be_visible()


def test_a_new_name_is_ranked_at_once_without_choosing_the_file_again(
    page: Page, service: httpx.Client
) -> None:
    classify_sample(page, "dog_bark.wav")
    page.get_by_label("Is a name missing? Add it").fill("small dog yapping in a yard")
    page.get_by_role("button", name="Add and rank again").click()

    expect(page.get_by_text("came in number")).to_be_visible()
    known = service.get("/classes", params={"query": "small dog yapping in a yard"}).json()
    service.delete(f"/classes/{known['items'][0]['class_id']}")
    assert "small dog yapping in a yard" in ranked(page)


def test_names_typed_by_hand_are_ranked_alone_and_kept_over_a_reload(page: Page) -> None:
    classify_sample(page, "dog_bark.wav")
    names = page.get_by_label("Only these names")
    names.fill("a dog barks, a cat meows")
    names.press("Enter")

    expect(page.locator("ol.labels li")).to_have_count(2)
    assert ranked(page)[0] == "a dog barks"
    page.reload()
    expect(page.get_by_role("button", name="Remove a cat meows")).to_be_visible()


def test_what_cannot_be_read_is_told_in_the_services_own_sentence(page: Page) -> None:
    page.goto("/")
    broken = {"name": "notes.mp4", "mimeType": "video/mp4", "buffer": b"these are no pictures"}
    with page.expect_response("**/classify") as reply:
        page.locator("#main input[type=file]").first.set_input_files([broken])

    problem = reply.value.json()
    assert problem["code"] == "unsupported_media"
    expect(page.get_by_role("alert")).to_contain_text(problem["detail"])


@pytest.mark.parametrize("source", ["sound", "video"])
def test_a_recording_is_classified(page: Page, source: str) -> None:
    page.goto("/")
    page.get_by_role("button", name=f"Record {source}").click()
    stop = page.get_by_role("button", name="Stop and classify")
    expect(page.get_by_role("timer")).to_have_text("0:01")
    stop.click()

    expect(page.locator("ol.labels")).to_be_visible()
    expect(page.get_by_role("heading", name="recording.webm")).to_be_visible()
    expect(page.get_by_text("Sound used")).to_be_visible()


def test_another_recording_lets_go_of_the_first(page: Page) -> None:
    page.add_init_script(
        "window.streams = [];"
        "const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);"
        "navigator.mediaDevices.getUserMedia = async (wanted) => {"
        "  const stream = await ask(wanted); window.streams.push(stream); return stream; }"
    )
    page.goto("/")
    page.get_by_role("button", name="Record sound").click()
    expect(page.get_by_role("timer")).to_be_visible()
    page.get_by_role("button", name="Record video").click()
    eventually(lambda: page.evaluate("streams.length") == 2)

    states = "streams.map((stream) => stream.getTracks().map((track) => track.readyState))"
    eventually(lambda: page.evaluate(states) == [["ended"], ["live", "live"]])
    expect(page.get_by_role("timer")).to_have_text(re.compile("0:0[1-9]"))
    page.get_by_role("button", name="Stop and classify").click()
    expect(page.locator("ol.labels")).to_be_visible()
    assert page.evaluate(states)[1] == ["ended", "ended"]


def test_a_clip_that_is_chosen_while_another_is_fetched_stays(page: Page) -> None:
    page.goto("/")
    sample = page.get_by_role("button", name="clock.mp4")
    expect(sample).to_be_visible()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/samples/clock.mp4", hold)
    sample.click()
    expect(page.get_by_text("Fetching the clip ...")).to_be_visible()
    page.locator("#main input[type=file]").first.set_input_files(SAMPLES / "dog_bark.wav")

    expect(page.locator("ol.labels")).to_be_visible()
    expect(page.get_by_role("heading", name="dog_bark.wav")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    assert len(held) == 1


def test_a_refused_microphone_is_told_in_a_sentence(page: Page) -> None:
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = () =>"
        " Promise.reject(new DOMException('no', 'NotAllowedError'))"
    )
    page.goto("/")
    page.get_by_role("button", name="Record sound").click()

    expect(page.get_by_role("alert")).to_contain_text("not allowed to use the microphone")


def test_a_service_that_is_gone_is_told_in_a_sentence(page: Page) -> None:
    page.goto("/")
    sample = page.get_by_role("button", name="clock.mp4")
    expect(sample).to_be_visible()
    page.route("**/classify", lambda route: route.abort())
    sample.click()

    expect(page.get_by_role("alert")).to_contain_text("The service does not answer")


# --- library -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_library")
def test_an_empty_library_teaches_and_loads_the_samples(page: Page) -> None:
    page.goto("/#/search")
    expect(page.get_by_text("There is nothing to find yet.")).to_be_visible()
    page.get_by_role("button", name="Load the sample clips").click()

    expect(page.get_by_text("12 files stored")).to_be_visible()
    expect(page.get_by_text("12 clips")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(12)


@pytest.mark.usefixtures("empty_library")
def test_each_of_many_files_has_its_outcome(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "notes.mp4"
    broken.write_bytes(b"")
    page.goto("/#/library")
    page.get_by_label("Tags for them").fill("holiday")
    page.get_by_label("Tags for them").press("Enter")
    page.locator("input[type=file][multiple]").set_input_files([SAMPLES / "balloon.mp4", broken])

    uploads = page.get_by_role("region", name="Uploads")
    expect(uploads.get_by_role("heading")).to_have_text("1 file stored, 1 not")
    expect(
        uploads.get_by_text("The file has 0 bytes; send an audio or video file.")
    ).to_be_visible()
    expect(page.get_by_role("article", name="balloon.mp4")).to_contain_text("holiday")


def test_a_deletion_can_be_undone_until_its_notice_is_gone(
    page: Page, service: httpx.Client, stored: dict[str, str]
) -> None:
    page.goto("/#/library")
    clip = page.get_by_role("article", name="balloon.mp4")
    clip.get_by_role("button", name="Delete balloon.mp4").click()
    expect(clip).to_have_count(0)
    assert service.get(f"/clips/{stored['balloon.mp4']}").status_code == 200
    page.get_by_role("button", name="Undo").click()
    expect(clip).to_be_visible()

    clip.get_by_role("button", name="Delete balloon.mp4").click()
    with page.expect_response(lambda reply: reply.request.method == "DELETE"):
        page.get_by_role("button", name="Dismiss").click()
    assert service.get(f"/clips/{stored['balloon.mp4']}").status_code == 404


@pytest.mark.usefixtures("stored")
def test_a_deletion_by_keyboard_is_undone_by_keyboard(page: Page) -> None:
    page.goto("/#/library")
    clip = page.get_by_role("article", name="balloon.mp4")
    clip.get_by_role("button", name="Delete balloon.mp4").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")

    expect(clip).to_be_visible()
    expect(page.get_by_role("heading", name="Library")).to_be_focused()


def test_leaving_the_page_carries_out_a_deletion(
    page: Page, service: httpx.Client, stored: dict[str, str]
) -> None:
    page.goto("/#/library")
    page.get_by_role("button", name="Delete balloon.mp4").click()
    expect(page.get_by_role("article", name="balloon.mp4")).to_have_count(0)
    page.goto("about:blank")

    url = f"/clips/{stored['balloon.mp4']}"
    eventually(lambda: service.get(url).status_code == httpx.codes.NOT_FOUND)


def test_tags_are_edited_and_filter_the_library(
    page: Page, service: httpx.Client, stored: dict[str, str]
) -> None:
    page.goto("/#/library")
    page.get_by_role("button", name="Tags of dog_bark.wav").click()
    tags = page.get_by_label("Tags of dog_bark.wav", exact=True)
    tags.fill("pet")
    with page.expect_response(lambda reply: reply.request.method == "PATCH"):
        tags.press("Enter")
    tagged = service.get(f"/clips/{stored['dog_bark.wav']}").json()["tags"]
    assert sorted(tagged) == ["pet", "sample"]

    page.get_by_text("Filters").click()
    page.get_by_label("Has all of these tags").fill("pet")
    page.get_by_label("Has all of these tags").press("Enter")
    expect(page.get_by_role("article")).to_have_count(1)


# --- search --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stored")
def test_words_find_clips_at_their_best_moment_and_a_reload_keeps_them(page: Page) -> None:
    page.goto("/#/search")
    page.get_by_label("Words to search by").fill("rain")
    page.get_by_role("button", name="Search", exact=True).click()
    first = page.get_by_role("article").first
    expect(first).to_contain_text("bell_then_rain.mp4")
    expect(first).to_contain_text("best at 0:04 to 0:08")

    without = page.get_by_label("But not like")
    without.fill("umbrella")
    with page.expect_response("**/retrieve") as reply:
        without.press("Enter")
    assert reply.value.request.post_data_json["minus"] == ["umbrella"]
    page.reload()
    expect(page.get_by_label("Words to search by")).to_have_value("rain")
    expect(page.get_by_role("button", name="Remove umbrella")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(3)


@pytest.mark.usefixtures("stored")
def test_pointing_at_a_result_plays_its_best_moment_unless_motion_is_unwanted(page: Page) -> None:
    page.goto("/#/search?q=rain")
    first = page.get_by_role("article").first
    first.locator(".preview").hover()
    moment = "document.querySelector('article video')?.currentTime"
    eventually(lambda: (page.evaluate(moment) or 0) > 4)

    page.emulate_media(reduced_motion="reduce")
    page.mouse.move(0, 0)
    first.locator(".preview").hover()
    expect(first.locator("video")).to_have_count(0)
    first.get_by_role("button", name="Play bell_then_rain.mp4").click()
    expect(first.locator("video")).to_have_count(1)


@pytest.mark.usefixtures("stored")
def test_a_clip_and_a_file_find_what_is_like_them(page: Page) -> None:
    page.goto("/#/library")
    page.get_by_role("button", name="Similar to balloon.mp4").click()
    expect(page.get_by_text("Like balloon.mp4")).to_be_visible()
    expect(page.get_by_role("article", name=". ")).to_have_count(2)

    page.get_by_role("button", name="Search by words instead").click()
    chooser = page.locator("input[type=file]:not([multiple])").last
    chooser.set_input_files(SAMPLES / "balloon.mp4")
    expect(page.get_by_role("article", name="1. balloon.mp4")).to_be_visible()


@pytest.mark.usefixtures("stored")
def test_a_file_that_cannot_be_searched_by_is_forgotten_with_its_error(
    page: Page, tmp_path: Path
) -> None:
    broken = tmp_path / "notes.mp4"
    broken.write_bytes(b"no media" * 99)
    page.goto("/#/search")
    page.locator("input[type=file]:not([multiple])").last.set_input_files(broken)
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_role("button", name="Search by words instead").click()

    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.usefixtures("stored")
def test_a_day_that_is_none_restricts_nothing(page: Page) -> None:
    page.goto("/#/search?q=rain&after=20245-01-01")

    expect(page.get_by_role("article")).to_have_count(3)


@pytest.mark.usefixtures("stored")
def test_a_stored_clip_is_classified_and_drawn_by_the_service(page: Page) -> None:
    page.goto("/#/library")
    sound = page.get_by_role("article", name="dog_bark.wav")
    expect(sound.get_by_role("img", name="Waveform")).to_be_visible()
    with page.expect_response("**/waveform?buckets=480"):
        page.get_by_role("button", name="Classify dog_bark.wav").click()

    expect(page.locator("ol.labels")).to_be_visible()
    expect(page.get_by_role("button", name="Find similar clips")).to_be_visible()
    page.get_by_role("button", name="Spectrogram").click()
    picture = page.get_by_role("img", name="Spectrogram of the clip")
    eventually(lambda: bool(picture.evaluate("picture => picture.naturalWidth > 0")))


# --- classes, model, the frame -------------------------------------------------------------------


def test_a_class_is_added_found_disabled_and_removed(page: Page, service: httpx.Client) -> None:
    page.goto("/#/classes")
    page.get_by_label("New class").fill("theremin lesson")
    page.get_by_label("Also called").fill("ether wave, termenvox")
    page.get_by_label("Described as").fill("A wavering electric tone")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("also ether wave, termenvox")).to_be_visible()

    def found() -> dict[str, object]:
        items = service.get("/classes", params={"query": "termenvox"}).json()["items"]
        return dict(items[0]) if items else {}

    with page.expect_response(lambda reply: reply.request.method == "PATCH"):
        page.get_by_label("theremin lesson is enabled").uncheck()
    assert found()["enabled"] is False
    page.get_by_text("All", exact=True).click()
    page.get_by_label("Search among the classes").fill("termenvox")
    expect(page.get_by_text("1 class", exact=True)).to_be_visible()
    page.get_by_role("button", name="Remove theremin lesson").click()
    page.get_by_role("button", name="Dismiss").last.click()
    expect(page.get_by_text("0 classes")).to_be_visible()
    assert found() == {}


def test_a_name_that_is_there_already_is_refused_in_a_sentence(page: Page) -> None:
    page.goto("/#/classes")
    page.get_by_label("New class").fill("Speech")
    page.get_by_label("New class").press("Enter")

    expect(page.get_by_role("alert")).to_contain_text("Speech")


def test_the_model_page_tells_ids_and_sizes(page: Page, service: httpx.Client) -> None:
    page.goto("/#/model")

    expect(page.get_by_text(service.get("/model").json()["model_id"])).to_be_visible()
    expect(page.get_by_role("row", name="Class names")).to_contain_text("exact")


def test_the_model_page_follows_a_change_of_model(page: Page, service: httpx.Client) -> None:
    model = service.get("/model").json()
    swap = {
        "model": "/srv/models/next",
        "state": "loading",
        "model_id": None,
        "space_id": None,
        "error": None,
        "started_at": "2026-11-20T09:00:00Z",
        "finished_at": None,
    }
    failed = {
        **swap,
        "state": "failed",
        "error": {"code": "model_unusable", "detail": "checkpoint.json is missing."},
        "finished_at": "2026-11-20T09:00:05Z",
    }
    answers = [{**model, "swap": swap}, {**model, "swap": failed}]
    page.route("**/model", lambda route: route.fulfill(json=answers[0]))
    page.goto("/#/model")
    expect(page.get_by_role("heading", name="Loading the model /srv/models/next")).to_be_visible()

    # It looks again by itself.
    page.unroute("**/model")
    page.route("**/model", lambda route: route.fulfill(json=answers[1]))

    expect(page.get_by_role("alert")).to_contain_text("checkpoint.json is missing.")
    page.unroute("**/model")


def test_the_last_tab_and_the_colours_are_kept(page: Page) -> None:
    page.goto("/#/classes")
    theme = page.get_by_role("button", name="Now colours of the system")
    theme.click()
    page.goto("/")

    expect(page.get_by_role("heading", name="Classes", level=1)).to_be_visible()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_it_is_used_by_keyboard_alone(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("button", name="dog_bark.wav")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.textContent")
        if focused.strip().startswith("dog_bark.wav"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("ol.labels")).to_be_visible()
    page.get_by_role("link", name="Search").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Find clips")).to_be_focused()


def test_a_service_that_wants_a_key_is_given_one(page: Page) -> None:
    signed_in = False

    def guarded(route: object, request: object) -> None:
        if signed_in:
            route.continue_()  # type: ignore[attr-defined]
        else:
            problem = '{"code": "missing_api_key", "detail": "A key is needed."}'
            route.fulfill(status=401, content_type="application/problem+json", body=problem)  # type: ignore[attr-defined]

    def session(route: object, request: object) -> None:
        nonlocal signed_in
        signed_in = request.post_data_json == {"api_key": "avgzsl_right"}  # type: ignore[attr-defined]
        problem = '{"code": "invalid_api_key", "detail": "No key is like this."}'
        route.fulfill(status=200 if signed_in else 401, body="{}" if signed_in else problem)  # type: ignore[attr-defined]

    page.route("**/model", guarded)
    page.route("**/session", session)
    page.goto("/#/model")
    key = page.get_by_label("API key", exact=True)
    key.fill("avgzsl_wrong")
    key.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("No key is like this.")
    key.fill("avgzsl_right")
    key.press("Enter")

    expect(page.get_by_role("row", name="Class names")).to_be_visible()
