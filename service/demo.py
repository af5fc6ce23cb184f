"""A tour of the HTTP API in a minute: `python -m service.demo [--url URL] [--samples DIR]`.

Calls every endpoint with the sample clips, says what came back, and stops with status 1 at the
first answer that is not the one expected. Without `--url` it starts a server of its own, with an
empty library in a temporary folder, and stops it afterwards. What it stores, it removes again.
"""

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.demo_server import DemoFailed, own_server
from service.samples import samples_dir

MEDIA_SUFFIXES = frozenset({".flac", ".m4a", ".mp3", ".mp4", ".ogg", ".opus", ".wav", ".webm"})
WITH_SOUND, SILENT, AUDIO, TWO_SCENES = (
    "clock.mp4",
    "balloon.mp4",
    "dog_bark.wav",
    "bell_then_rain.mp4",
)

TAG = "avgzsl-demo"
NEW_CLASS = "bell swinging in a church tower"
CALL_TIMEOUT_SECONDS = 60.0


@dataclass
class Caller:
    """Sends requests, prints a line for each, and insists on the expected status."""

    client: httpx.Client
    console: Console
    called: set[tuple[str, str]] = field(default_factory=set)

    def __call__(
        self, method: str, path: str, *, expects: int = 200, **options: Any
    ) -> httpx.Response:
        """Send one request.

        Raises:
            DemoFailed: the server cannot be reached, or answers with another status.
        """
        started = time.monotonic()
        try:
            reply = self.client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise DemoFailed(f"{method} {path} got no answer: {error}") from error
        took_seconds = time.monotonic() - started
        self.called.add((method, path))
        line = f"{method} {path} -> {reply.status_code} in {took_seconds:.2f} s"
        self.console.print(escape(line), style="dim")
        if reply.status_code != expects:
            raise DemoFailed(
                f"{method} {path} answered {reply.status_code} where the demo expects {expects}: "
                f"{reply.text[:500]}"
            )
        return reply


@dataclass
class Tour:
    """What the steps share: the caller, the clips, and what has been stored so far."""

    call: Caller
    console: Console
    samples: Path
    clip_ids: dict[str, str] = field(default_factory=dict)
    job_ids: list[str] = field(default_factory=list)
    class_id: str | None = None

    def upload(self, name: str) -> dict[str, Any]:
        """The `files` of a request that sends one sample clip."""
        return {"file": (name, (self.samples / name).read_bytes())}

    def heading(self, text: str) -> None:
        """Print what the next step does."""
        self.console.print()
        self.console.rule(f"[bold]{escape(text)}", align="left")


def run_tour(client: httpx.Client, samples: Path, console: Console) -> None:
    """Take every step, and remove what was stored, also when a step fails.

    Raises:
        DemoFailed: an answer was not the one expected, or a sample clip is missing.
    """
    for name in (WITH_SOUND, SILENT, AUDIO, TWO_SCENES):
        if not (samples / name).is_file():
            raise DemoFailed(f"{samples / name} is missing; --samples names the clips' folder")
    tour = Tour(Caller(client, console), console, samples)
    try:
        for step in STEPS:
            step(tour)
    except BaseException:
        _forget_quietly(tour, client)
        raise


# The steps, in order.


def show_model(tour: Tour) -> None:
    """Ask whether the service is ready, and which model answers."""
    tour.heading("Is it ready, and which model answers?")
    tour.call("GET", "/healthz")
    tour.call("GET", "/readyz")
    tour.call("GET", "/metrics")
    model = tour.call("GET", "/model").json()
    _insist(model, "model_id", "embedding_dim", "classes", "clips")
    table = Table("part", "value")
    for key, value in model.items():
        table.add_row(escape(key), escape(str(value)))
    tour.console.print(table)


def show_swap(tour: Tour) -> None:
    """See that a model is loaded from nowhere but where the service was told that one may be."""
    tour.heading("Another model, from a folder that nobody allowed")
    wanted = {"model": "/nowhere/in/particular"}
    refused = tour.call("POST", "/model", expects=403, json=wanted).json()
    tour.console.print(f"[yellow]{refused['code']}[/]: {escape(refused['detail'])}")
    tour.call("DELETE", "/model/swap", expects=404)


def fetch_sample(tour: Tour) -> None:
    """See which clips the service brings to be tried with, and fetch one."""
    tour.heading("Clips to try it with")
    items = tour.call("GET", "/samples").json()["items"]
    if not items:
        tour.console.print("This installation brings none.")
        return
    tour.call("GET", items[0]["url"])
    tour.console.print(escape(", ".join(item["name"] for item in items)))


def classify_clips(tour: Tour) -> None:
    """Classify a video with sound, a silent video and an audio file."""
    for name, what in (
        (WITH_SOUND, "a video with sound"),
        (SILENT, "a silent video"),
        (AUDIO, "an audio file"),
    ):
        tour.heading(f"What is {name}, {what}?")
        answer = tour.call("POST", "/classify", files=tour.upload(name)).json()
        _print_classification(tour.console, answer)
        for modality, expected in (("audio", name != SILENT), ("video", name != AUDIO)):
            if answer["modalities"][modality]["used"] is not expected:
                raise DemoFailed(f"{name}: {modality} used should be {expected}: {answer}")


def classify_with_options(tour: Tour) -> None:
    """Rank names that the request brings, use one modality, and ask for each window."""
    names = ["a dog barks", "a cat meows", "rain falls on a roof"]
    tour.heading(f"{AUDIO} again, among three names of our own")
    form = {"candidate_labels": names, "top_k": 3}
    answer = tour.call("POST", "/classify", files=tour.upload(AUDIO), data=form).json()
    if sorted(label["name"] for label in answer["labels"]) != sorted(names):
        raise DemoFailed(f"the answer should rank {names} and nothing else: {answer['labels']}")
    _print_classification(tour.console, answer)

    tour.heading(f"{WITH_SOUND} by its sound alone")
    form = {"modality": "audio"}
    answer = tour.call("POST", "/classify", files=tour.upload(WITH_SOUND), data=form).json()
    if answer["modalities"]["video"]["used"]:
        raise DemoFailed(f"modality=audio should leave the pictures out: {answer['modalities']}")
    _print_classification(tour.console, answer)

    tour.heading(f"{TWO_SCENES} window by window")
    form = {"windows": True, "top_k": 3}
    answer = tour.call("POST", "/classify", files=tour.upload(TWO_SCENES), data=form).json()
    if len(answer["windows"]) < 2:
        raise DemoFailed(f"eight seconds should have two windows or more: {answer['windows']}")
    _print_windows(tour.console, answer["windows"])


def add_class(tour: Tour) -> None:
    """Add a class; the very next answer ranks it."""
    tour.heading(f"A new class, {NEW_CLASS!r}, and the very next answer knows it")
    body = {"name": NEW_CLASS, "synonyms": ["church bell"], "description": "A bell is struck."}
    added = tour.call("POST", "/classes", expects=201, json=body).json()
    _insist(added, "class_id", "name", "seen")
    tour.class_id = added["class_id"]
    form = {"top_k": 1000}
    answer = tour.call("POST", "/classify", files=tour.upload(TWO_SCENES), data=form).json()
    names = [label["name"] for label in answer["labels"]]
    if NEW_CLASS not in names:
        raise DemoFailed(f"{NEW_CLASS!r} was added, but the next answer does not rank it")
    place = names.index(NEW_CLASS) + 1
    tour.console.print(f"It came in [bold]{place}[/] of {len(names)} for {TWO_SCENES}.")
    _print_labels(tour.console, answer["labels"][:5])


def store_clips(tour: Tour) -> None:
    """Store every sample clip, with tags."""
    tour.heading("Store the sample clips")
    table = Table("file", "seconds", "modalities", "windows", "tags")
    for path in sorted(p for p in tour.samples.iterdir() if p.suffix in MEDIA_SUFFIXES):
        form = {"tags": [TAG, path.suffix[1:]]}
        reply = tour.call("POST", "/clips", expects=201, files=tour.upload(path.name), data=form)
        clip = reply.json()
        _insist(clip, "clip_id", "filename", "tags", "duration_seconds", "modalities")
        tour.clip_ids[path.name] = clip["clip_id"]
        used = [m for m, use in clip["modalities"].items() if use["used"]]
        table.add_row(
            escape(clip["filename"]),
            f"{clip['duration_seconds']:.1f}",
            " + ".join(used),
            str(clip["segment_count"]),
            escape(", ".join(clip["tags"])),
        )
    tour.console.print(table)
    skipping = {"if_duplicate": "skip"}
    again = tour.call("POST", "/clips", files=tour.upload(AUDIO), data=skipping).json()
    same = tour.call("GET", "/clips", params={"sha256": again["sha256"], "tags": [TAG]}).json()
    if tour.clip_ids[AUDIO] not in [clip["clip_id"] for clip in same["items"]]:
        raise DemoFailed(f"{AUDIO} is stored, but its sha256 does not find it: {same}")
    tour.console.print(f"{AUDIO} again: it is there already, so nothing was stored.")


def work_later(tour: Tour) -> None:
    """Have a file classified as a job, follow it to its end, and have a broken one fail."""
    tour.heading(f"Classify {TWO_SCENES} later, and follow the job")
    later = {"mode": "async"}
    reply = tour.call("POST", "/classify", expects=202, files=tour.upload(TWO_SCENES), data=later)
    tour.job_ids.append(reply.json()["job_id"])
    url = f"/jobs/{tour.job_ids[-1]}"
    tour.call("GET", f"{url}/events")
    job = tour.call("GET", url).json()
    if job["state"] != "done":
        raise DemoFailed(f"the job's events ended, but it is not done: {job}")
    _print_classification(tour.console, job["result"])

    tour.heading("A file that is no media fails, says why, and can be tried again")
    broken = {"file": ("broken.wav", b"no media")}
    reply = tour.call("POST", "/clips", expects=202, files=broken, data=later)
    tour.job_ids.append(reply.json()["job_id"])
    url = f"/jobs/{tour.job_ids[-1]}"
    tour.call("GET", f"{url}/events")
    (item,) = tour.call("GET", f"{url}/items", params={"state": "failed"}).json()["items"]
    tour.console.print(f"[yellow]{item['error']['code']}[/]: {escape(item['error']['detail'])}")
    tour.call("POST", f"{url}/retry", expects=202)
    tour.call("GET", f"{url}/events")
    jobs = tour.call("GET", "/jobs").json()
    tour.console.print(f"{jobs['total']} jobs")
    while tour.job_ids:
        tour.call("DELETE", f"/jobs/{tour.job_ids.pop()}", expects=204)


def find_clips(tour: Tour) -> None:
    """Find clips by words, by sound or sight alone, without something, among a tag, by a clip."""
    ours: dict[str, Any] = {"filter": {"tags": [TAG]}}
    similar_to = tour.clip_ids[TWO_SCENES]
    questions: tuple[tuple[str, dict[str, Any]], ...] = (
        ("Words: 'a dog barks'", {"query": "a dog barks", **ours}),
        ("Words, by sound alone: 'bell'", {"query": "bell", "modality": "audio", **ours}),
        (
            "Words, by sight alone: 'a lighthouse'",
            {"query": "a lighthouse", "modality": "video", **ours},
        ),
        (
            "Words and not others: 'an alarm' minus 'music'",
            {"query": "an alarm", "minus": ["music"], **ours},
        ),
        ("Only what is tagged mp4: 'rain'", {"query": "rain", "filter": {"tags": [TAG, "mp4"]}}),
        (f"What is like {TWO_SCENES}?", {"clip_id": similar_to, **ours}),
    )
    for title, body in questions:
        tour.heading(title)
        answer = tour.call("POST", "/retrieve", json={"top_k": 3, **body}).json()
        _check_hits(answer, body["filter"]["tags"])
        if body.get("clip_id") in [hit["clip_id"] for hit in answer["results"]]:
            raise DemoFailed("a clip should not be a result of the search for what is like it")
        _print_hits(tour.console, answer["results"])


def find_by_file(tour: Tour) -> None:
    """Find clips by a file that is not stored."""
    tour.heading(f"What is like the file {AUDIO}, sent along?")
    form = {"top_k": 3, "filter": f'{{"tags": ["{TAG}"]}}'}
    reply = tour.call("POST", "/retrieve/by-file", files=tour.upload(AUDIO), data=form)
    _check_hits(reply.json(), [TAG])
    _print_hits(tour.console, reply.json()["results"])


def embed(tour: Tour) -> None:
    """Get the vectors of texts and of a file."""
    tour.heading("Vectors, for a store of one's own")
    texts = ["a dog barks", "rain"]
    answer = tour.call("POST", "/embed", json={"texts": texts}).json()
    sizes = [len(vector) for vector in answer["vectors"]]
    if len(sizes) != len(texts) or len(set(sizes)) != 1:
        raise DemoFailed(f"two texts should give two vectors of one size, not {sizes}")
    vectors = tour.call("POST", "/embed", files=tour.upload(AUDIO)).json()
    _insist(vectors, "audio", "video", "windows")
    tour.console.print(
        f"{len(sizes)} texts: {len(sizes)} vectors of {sizes[0]} numbers. {AUDIO}: "
        f"{len(vectors['audio'])} numbers for its sound, "
        f"{'none' if vectors['video'] is None else len(vectors['video'])} for pictures, "
        f"windows: {len(vectors['windows'])}."
    )


def list_everything(tour: Tour) -> None:
    """List classes and clips; show one of each."""
    tour.heading("What is there")
    classes = tour.call("GET", "/classes", params={"limit": 5}).json()
    clips = tour.call("GET", "/clips", params={"tags": [TAG], "limit": 5}).json()
    for listing in (classes, clips):
        _insist(listing, "items", "total")
    if clips["total"] < len(tour.clip_ids):
        raise DemoFailed(f"{len(tour.clip_ids)} clips were stored, {clips['total']} are listed")
    tour.call("GET", f"/classes/{tour.class_id}")
    tour.call("GET", f"/clips/{tour.clip_ids[AUDIO]}")
    names = ", ".join(c["name"] for c in classes["items"])
    tour.console.print(f"{classes['total']} classes, such as {escape(names)}")
    tour.console.print(f"{clips['total']} clips with the tag {TAG}")


def fetch_media(tour: Tour) -> None:
    """Fetch a part of a clip's file, its thumbnail and pictures of its sound."""
    tour.heading("A stored clip's file, in part, its thumbnail and what its sound looks like")
    url = f"/clips/{tour.clip_ids[WITH_SOUND]}"
    part = tour.call("GET", f"{url}/media", expects=206, headers={"Range": "bytes=0-99"})
    original = (tour.samples / WITH_SOUND).read_bytes()
    if part.content != original[:100]:
        raise DemoFailed("the first hundred bytes are not those of the file that was stored")
    thumbnail = tour.call("GET", f"{url}/thumbnail")
    if not thumbnail.headers["content-type"].startswith("image/"):
        raise DemoFailed(f"a thumbnail should be an image: {thumbnail.headers['content-type']}")
    tour.console.print(
        f"{part.headers['content-range']}; a thumbnail of {len(thumbnail.content)} bytes, "
        f"{thumbnail.headers['content-type']}"
    )
    waveform = tour.call("GET", f"{url}/waveform", params={"buckets": 8}).json()
    if len(waveform["highest"]) != 8:
        raise DemoFailed(f"8 parts were asked for, {len(waveform['highest'])} came")
    picture = tour.call("GET", f"{url}/spectrogram", params={"width": 400})
    tour.console.print(
        f"the loudest sample is {max(waveform['highest']):.2f}; a spectrogram of "
        f"{len(picture.content)} bytes, {picture.headers['content-type']}"
    )


def show_errors(tour: Tour) -> None:
    """Send what cannot be answered, and read the sentence that comes back."""
    tour.heading("Errors say what is wrong and what to do")
    empty = {"file": ("empty.wav", b"")}
    for path, expects, code, options in (
        ("/classify", 422, "empty_file", {"files": empty}),
        ("/classes", 409, "class_exists", {"json": {"name": NEW_CLASS}}),
        ("/jobs/import", 403, "import_refused", {"json": {"path": "/"}}),
    ):
        reply = tour.call("POST", path, expects=expects, **options)
        problem = reply.json()
        if reply.headers["content-type"] != "application/problem+json" or problem["code"] != code:
            raise DemoFailed(f"this should be a problem with code {code}: {problem}")
        tour.console.print(f"[yellow]{code}[/]: {escape(problem['detail'])}")


def change_and_remove(tour: Tour) -> None:
    """Change a clip and the class, then remove all that the demo stored."""
    tour.heading("Change, then remove what was stored")
    clip_url, class_url = f"/clips/{tour.clip_ids[AUDIO]}", f"/classes/{tour.class_id}"
    clip = tour.call("PATCH", clip_url, json={"tags": [TAG, "dog"]}).json()
    if sorted(clip["tags"]) != sorted([TAG, "dog"]):
        raise DemoFailed(f"the tags were replaced, but are {clip['tags']}")
    changed = tour.call("PATCH", class_url, json={"synonyms": ["campanology"]}).json()
    if changed["synonyms"] != ["campanology"]:
        raise DemoFailed(f"the synonyms were replaced, but are {changed['synonyms']}")
    for name in list(tour.clip_ids):
        tour.call("DELETE", f"/clips/{tour.clip_ids.pop(name)}", expects=204)
    tour.call("DELETE", class_url, expects=204)
    tour.class_id = None
    tour.call("GET", clip_url, expects=404)


def show_session(tour: Tour) -> None:
    """Ask whether keys are needed, as a page does, and offer one that is none."""
    tour.heading("Does it need API keys?")
    session = tour.call("GET", "/session").json()
    _insist(session, "api_keys_required", "scope")
    tour.console.print("yes" if session["api_keys_required"] else "no")
    made_up = {"api_key": "avgzsl_00000000_made-up"}
    refused = tour.call("POST", "/session", expects=401, json=made_up).json()
    tour.console.print(f"[yellow]{refused['code']}[/]: {escape(refused['detail'])}")
    tour.call("DELETE", "/session", expects=204)


def show_untried(tour: Tour) -> None:
    """Compare what was called with what the service documents."""
    tour.heading("Endpoints that this demo did not call")
    paths = tour.call("GET", "/openapi.json").json()["paths"]
    untried = [
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method in methods
        if not _was_called(tour.call.called, method.upper(), path)
    ]
    tour.console.print(escape(", ".join(untried)) or "none")


STEPS = (
    show_model,
    fetch_sample,
    classify_clips,
    classify_with_options,
    add_class,
    store_clips,
    work_later,
    find_clips,
    find_by_file,
    embed,
    list_everything,
    fetch_media,
    show_errors,
    change_and_remove,
    show_session,
    show_swap,
    show_untried,
)


def _forget_quietly(tour: Tour, client: httpx.Client) -> None:
    """Remove what is still stored; the failure that is on its way matters more than another."""
    urls = [f"/clips/{clip_id}" for clip_id in tour.clip_ids.values()]
    # Cancelled by the first, removed by the second.
    urls += [f"/jobs/{job_id}" for job_id in tour.job_ids for _ in range(2)]
    if tour.class_id is not None:
        urls.append(f"/classes/{tour.class_id}")
    for url in urls:
        try:
            client.delete(url)
        except httpx.HTTPError:
            return


def _was_called(called: set[tuple[str, str]], method: str, template: str) -> bool:
    pattern = re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(template))
    return any(m == method and re.fullmatch(pattern, path) for m, path in called)


# Looking at answers.


def _insist(answer: Mapping[str, Any], *keys: str) -> None:
    missing = [key for key in keys if key not in answer]
    if missing:
        raise DemoFailed(f"the answer lacks {', '.join(missing)}: {answer}")


def _check_hits(answer: Mapping[str, Any], tags: Sequence[str]) -> None:
    _insist(answer, "results", "model_id")
    hits = answer["results"]
    if not hits:
        raise DemoFailed("the search found nothing, though clips are stored")
    scores = [hit["score"] for hit in hits]
    if scores != sorted(scores, reverse=True):
        raise DemoFailed(f"results should come best first, but score {scores}")
    for hit in hits:
        if not set(tags) <= set(hit["tags"]):
            raise DemoFailed(f"{hit['filename']} lacks a tag of the filter {tags}")


def _print_classification(console: Console, answer: Mapping[str, Any]) -> None:
    _insist(answer, "labels", "unknown_probability", "modalities", "duration_seconds")
    _print_labels(console, answer["labels"])
    for modality, use in answer["modalities"].items():
        state = "[green]used[/]" if use["used"] else "[yellow]not used[/]"
        reason = f": {escape(use['reason'])}" if use["reason"] else ""
        console.print(f"{modality} {state}{reason}")
    console.print(f"none of these: {answer['unknown_probability']:.0%}")
    for warning in answer["warnings"]:
        console.print(f"[yellow]warning[/]: {escape(warning)}")


def _print_labels(console: Console, labels: Sequence[Mapping[str, Any]]) -> None:
    table = Table("label", "probability", "by sound", "by sight", "seen or new")
    for label in labels:
        table.add_row(
            escape(label["name"]),
            f"[bold]{label['probability']:.1%}",
            _percent(label["by_modality"]["audio"]),
            _percent(label["by_modality"]["video"]),
            "[blue]seen[/]" if label["seen"] else "[magenta]new[/]",
        )
    console.print(table)


def _print_windows(console: Console, windows: Sequence[Mapping[str, Any]]) -> None:
    table = Table("from", "to", "labels")
    for window in windows:
        names = [
            f"{escape(label['name'])} {label['probability']:.0%}" for label in window["labels"]
        ]
        table.add_row(
            f"{window['start_seconds']:.1f} s", f"{window['end_seconds']:.1f} s", ", ".join(names)
        )
    console.print(table)


def _print_hits(console: Console, hits: Sequence[Mapping[str, Any]]) -> None:
    table = Table("file", "score", "best window", "tags")
    for hit in hits:
        table.add_row(
            escape(hit["filename"]),
            f"{hit['score']:.3f}",
            f"{hit['start_seconds']:.1f} to {hit['end_seconds']:.1f} s",
            escape(", ".join(hit["tags"])),
        )
    console.print(table)


def _percent(probability: float | None) -> str:
    return "-" if probability is None else f"{probability:.1%}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m service.demo", description="Try the HTTP API.")
    parser.add_argument("--url", help="a running server; by default the demo starts its own")
    parser.add_argument(
        "--samples", type=Path, default=samples_dir(), help="the sample clips' folder"
    )
    options = parser.parse_args(arguments)
    console = Console()
    try:
        if options.url is None:
            with own_server(console) as url:
                _tour_at(url, options.samples, console)
        else:
            _tour_at(options.url, options.samples, console)
    except DemoFailed as failure:
        console.print(f"[bold red]Not as expected:[/] {escape(str(failure))}", soft_wrap=True)
        return 1
    console.print("\n[bold green]Every answer was as expected.[/]")
    return 0


def _tour_at(url: str, samples: Path, console: Console) -> None:
    with httpx.Client(base_url=url, timeout=CALL_TIMEOUT_SECONDS) as client:
        run_tour(client, samples, console)


if __name__ == "__main__":
    sys.exit(main())
