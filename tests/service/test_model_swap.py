"""`POST /model`: another model takes over while the service answers."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from model.embedding import ClipEmbedder, ForwardedChunk, PreparedChunk
from model.errors import CheckpointError
from model.fake import FakeEmbedder
from service.app import create_app
from service.chosen_model import FILE
from service.cli import app as command_line
from service.resources import log_broken
from service.settings import Settings
from tests.service.conftest import HOSTS, assert_problem, file_part, store
from tests.service.media import mp4, wav
from tests.service.other_model import OTHER_DIM, OtherEmbedder
from tests.service.servers import serving

SECONDS = 60
DIMS = {"fake": 16, "other": OTHER_DIM}


class GatedEmbedder(OtherEmbedder):
    """Another model, which embeds a sound only while its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.broken = False

    def forward(self, prepared: Sequence[PreparedChunk]) -> list[ForwardedChunk]:
        if self.broken:
            raise RuntimeError("the device is lost")
        if any(p.audio is not None and p.audio.any() for p in prepared):
            self.begun.set()
            assert self.gate.wait(SECONDS)
        return super().forward(prepared)


class Models:
    """The models that there are, by the name that loads them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_name: dict[str, Callable[[], ClipEmbedder]] = {"bundled": FakeEmbedder}

    def add(self, name: str, make: Callable[[], ClipEmbedder]) -> str:
        folder = self.root / name
        folder.mkdir(parents=True)
        self.by_name[str(folder)] = make
        return str(folder)

    def load(self, settings: Settings) -> ClipEmbedder:
        return self.by_name[settings.model]()


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Models:
    models = Models(tmp_path / "models")
    monkeypatch.setattr("service.resources.load_embedder", models.load)
    return models


@pytest.fixture
def started(tmp_path: Path, models: Models) -> Iterator[Callable[..., TestClient]]:
    """Start the service on one data directory; again, after the former one is stopped."""
    running: list[TestClient] = []

    def start(on_broken: Callable[[str], None] = log_broken, **options: Any) -> TestClient:
        stop()
        options = {"decode_workers": 1, "job_retry_seconds": 0.01, **options}
        settings = Settings(
            data_dir=tmp_path / "data",
            allowed_hosts=HOSTS,
            model_roots=(models.root,),
            **options,
        )
        running.append(TestClient(create_app(settings, on_broken=on_broken)))
        return running[-1].__enter__()

    def stop() -> None:
        while running:
            running.pop().__exit__(None, None, None)

    yield start
    stop()


def swap(client: TestClient, model: str) -> dict[str, Any]:
    reply = client.post("/model", json={"model": model})
    assert reply.status_code == 202, reply.text
    return ended(client)


def ended(client: TestClient) -> dict[str, Any]:
    change: dict[str, Any] = {}
    deadline = time.monotonic() + SECONDS
    while change.get("finished_at") is None:
        assert time.monotonic() < deadline, change
        time.sleep(0.02)
        change = client.get("/model").json()["swap"]
    return change


def search(client: TestClient, words: str = "owl") -> dict[str, Any]:
    reply = client.post("/retrieve", json={"query": words, "top_k": 50})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def done(client: TestClient, location: str) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while True:
        job: dict[str, Any] = client.get(location).json()
        if job["finished_at"] is not None:
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.02)


@contextmanager
def under_load(*works: Callable[[], None]) -> Iterator[None]:
    """Do each work again and again meanwhile. Raises what one of them raises."""
    over = threading.Event()

    def again(work: Callable[[], None]) -> int:
        times = 0
        while not over.is_set():
            work()
            times += 1
        return times

    with ThreadPoolExecutor(len(works)) as pool:
        running = [pool.submit(again, work) for work in works]
        try:
            yield
        finally:
            over.set()
        assert all(work.result() > 1 for work in running)


def test_no_answer_fails_or_mixes_two_models_while_one_takes_over(
    models: Models, started: Callable[..., TestClient]
) -> None:
    client = started()
    for hertz in (300.0, 400.0, 500.0):
        store(client, wav(3.0, hertz=hertz))
    store(client, mp4(), name="film.mp4")
    known = search(client)
    folder = models.add("next", OtherEmbedder)
    added: list[str] = []
    scores: dict[str, list[tuple[str, float]]] = {"fake": [], "other": []}

    def classify() -> None:
        # So many that the words which are added meanwhile push none of the others out.
        options = {"windows": "true", "top_k": "1000"}
        reply = client.post("/classify", files=file_part(wav(2.0)), data=options)
        assert reply.status_code == 200, reply.text
        names = {label["name"] for label in reply.json()["labels"]}
        # Each model has a word that the other lacks.
        word = {"fake": "rain", "other": "kettle"}[reply.json()["model_id"]]
        assert names >= {"dog", word}
        assert not names & ({"rain", "kettle"} - {word})

    def retrieve() -> None:
        found = search(client)
        hits = [(hit["clip_id"], hit["score"]) for hit in found["results"]]
        scores[found["model_id"]] += hits

    def embed() -> None:
        reply = client.post("/embed", json={"texts": ["owl"]}).json()
        assert len(reply["vectors"][0]) == DIMS[reply["model_id"]]

    def add() -> None:
        number = len(added)
        reply = client.post("/clips", files=file_part(wav(1.0, hertz=600.0 + number)))
        assert reply.status_code == 201, reply.text
        added.append(reply.json()["clip_id"])
        reply = client.post("/classes", json={"name": f"word {number}"})
        assert reply.status_code == 201, reply.text

    with under_load(classify, retrieve, embed, add):
        change = swap(client, folder)
        time.sleep(0.2)

    assert (change["state"], change["model_id"], change["error"]) == ("done", "other", None)
    model = client.get("/model").json()
    assert (model["model_id"], model["reindex"]) == ("other", None)
    found = {hit["clip_id"]: hit["score"] for hit in search(client)["results"]}
    assert found.keys() == {hit["clip_id"] for hit in known["results"]} | set(added)
    assert all(found[clip_id] == pytest.approx(score) for clip_id, score in scores["other"])
    for hit in known["results"]:
        former = [score for clip_id, score in scores["fake"] if clip_id == hit["clip_id"]]
        assert former == pytest.approx([hit["score"]] * len(former))
    listed = {c["name"] for c in client.get("/classes", params={"limit": 1000}).json()["items"]}
    assert listed == {"dog", "kettle", *(f"word {number}" for number in range(len(added)))}


def test_both_models_are_shown_until_one_has_taken_over(
    models: Models, started: Callable[..., TestClient]
) -> None:
    client = started()
    store(client)
    other = GatedEmbedder()
    folder = models.add("next", lambda: other)

    assert client.post("/model", json={"model": folder}).headers["location"] == "/model"
    assert other.begun.wait(SECONDS)

    model = client.get("/model").json()
    assert model["model_id"] == "fake"
    assert (model["swap"]["state"], model["swap"]["model"]) == ("reindexing", folder)
    assert (model["swap"]["model_id"], model["swap"]["finished_at"]) == ("other", None)
    assert (model["reindex"]["model_id"], model["reindex"]["clips"]) == ("other", 1)
    assert search(client)["model_id"] == "fake"
    second = client.post("/model", json={"model": "bundled"})
    assert "DELETE /model/swap" in assert_problem(second, 409, "swap_under_way")["detail"]
    other.gate.set()
    assert ended(client)["state"] == "done"
    assert search(client)["model_id"] == "other"


def test_the_model_that_was_chosen_is_served_after_a_restart(
    models: Models, started: Callable[..., TestClient]
) -> None:
    client = started()
    clip = store(client)
    folder = models.add("next", OtherEmbedder)
    swap(client, folder)

    client = started()

    assert client.get("/model").json()["model_id"] == "other"
    assert [hit["clip_id"] for hit in search(client)["results"]] == [clip["clip_id"]]
    assert swap(client, "bundled")["state"] == "done"
    client = started()
    assert client.get("/model").json()["model_id"] == "fake"
    assert [hit["clip_id"] for hit in search(client)["results"]] == [clip["clip_id"]]


def test_a_setting_that_was_changed_counts_more_than_an_earlier_choice(
    models: Models, started: Callable[..., TestClient], tmp_path: Path
) -> None:
    third = OtherEmbedder()
    third.card = dataclasses.replace(third.card, model_id="third")
    folder = models.add("third", lambda: third)
    client = started()
    swap(client, models.add("next", OtherEmbedder))

    client = started(model=folder)

    # Of the same space, so the library may stay as it is.
    assert client.get("/model").json()["model_id"] == "third"
    (tmp_path / "data" / FILE).write_bytes(b"{")
    assert started(model=folder).get("/model").json()["model_id"] == "third"


def test_another_calibration_takes_over_without_any_embedding(
    models: Models, started: Callable[..., TestClient]
) -> None:
    calibrated = FakeEmbedder()
    calibrated.card = dataclasses.replace(calibrated.card, model_id="calibrated")
    calibrated.calibration = dataclasses.replace(
        calibrated.calibration, audio_weight=0.9, video_weight=0.1
    )
    client = started()
    clip = store(client, mp4(), name="film.mp4")
    before = search(client)["results"]
    folder = models.add("calibrated", lambda: calibrated)

    assert swap(client, folder)["state"] == "done"

    after = search(client)
    assert after["model_id"] == "calibrated"
    assert after["results"][0]["score"] != pytest.approx(before[0]["score"])
    assert client.get(f"/clips/{clip['clip_id']}").json()["model_id"] == "fake"
    later = client.post("/clips", files=file_part(), data={"mode": "async"})
    assert done(client, later.headers["location"])["state"] == "done"
    now = search(client)
    assert len(now["results"]) == 2
    client = started()
    assert search(client) == now
    assert now["model_id"] == "calibrated"


def test_a_model_that_cannot_be_loaded_changes_nothing(
    models: Models, started: Callable[..., TestClient]
) -> None:
    def missing() -> ClipEmbedder:
        raise CheckpointError("there is no checkpoint.json in this folder")

    client = started()
    clip = store(client)

    change = swap(client, models.add("bad", missing))

    assert change["state"] == "failed"
    assert change["error"] == {
        "code": "model_unusable",
        "detail": "there is no checkpoint.json in this folder",
    }
    found = search(client)
    assert (found["model_id"], found["results"][0]["clip_id"]) == ("fake", clip["clip_id"])
    assert swap(client, models.add("next", OtherEmbedder))["state"] == "done"


def test_a_model_that_breaks_before_it_answers_does_not_end_the_service(
    models: Models, started: Callable[..., TestClient]
) -> None:
    reasons: list[str] = []
    client = started(on_broken=reasons.append, max_model_failures=1)
    store(client)
    other = GatedEmbedder()
    other.broken = True
    folder = models.add("next", lambda: other)

    assert swap(client, folder)["state"] == "failed"

    assert client.get("/readyz").status_code == 200
    assert search(client)["model_id"] == "fake"
    assert reasons == []


def test_a_change_that_is_given_up_leaves_nothing_behind(
    models: Models, started: Callable[..., TestClient]
) -> None:
    client = started()
    store(client)
    assert_problem(client.delete("/model/swap"), 404, "no_swap")
    other = GatedEmbedder()
    client.post("/model", json={"model": models.add("next", lambda: other)})
    assert other.begun.wait(SECONDS)

    assert client.delete("/model/swap").status_code == 204
    other.gate.set()

    assert ended(client)["state"] == "cancelled"
    model = client.get("/model").json()
    assert (model["model_id"], model["reindex"]) == ("fake", None)
    assert search(client)["model_id"] == "fake"
    assert started().get("/model").json()["model_id"] == "fake"


def test_a_change_that_a_stop_interrupts_goes_on_when_it_is_asked_for_again(
    models: Models, started: Callable[..., TestClient]
) -> None:
    client = started()
    store(client)
    store(client, wav(hertz=700.0))
    other = GatedEmbedder()
    folder = models.add("next", lambda: other)
    client.post("/model", json={"model": folder})
    assert other.begun.wait(SECONDS)
    threading.Timer(0.2, other.gate.set).start()

    client = started()

    model = client.get("/model").json()
    assert (model["model_id"], model["swap"]) == ("fake", None)
    assert model["reindex"]["model_id"] == "other"
    assert model["reindex"]["done"] >= 1
    assert swap(client, folder)["state"] == "done"
    assert len(search(client)["results"]) == 2


def test_a_request_under_way_is_answered_by_the_model_that_took_over(
    models: Models, started: Callable[..., TestClient]
) -> None:
    first = GatedEmbedder()
    models.by_name["bundled"] = lambda: first
    client = started(decode_workers=2)
    folder = models.add("next", FakeEmbedder)

    with ThreadPoolExecutor(3) as pool:
        classified = pool.submit(client.post, "/classify", files=file_part())
        stored = pool.submit(client.post, "/clips", files=file_part(wav(hertz=700.0)))
        later = client.post("/clips", files=file_part(wav(hertz=800.0)), data={"mode": "async"})
        assert first.begun.wait(SECONDS)
        former = client.app.state.resources.serving.current  # type: ignore[attr-defined]
        assert swap(client, folder)["state"] == "done"
        assert not former.engine.chunks.closed
        first.gate.set()
        assert classified.result().json()["model_id"] == "fake"
        assert stored.result().json()["model_id"] == "fake"

    assert done(client, later.headers["location"])["state"] == "done"
    assert len(search(client)["results"]) == 2
    deadline = time.monotonic() + SECONDS
    while not former.engine.chunks.closed:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_only_folders_that_are_allowed_are_looked_at(
    models: Models, started: Callable[..., TestClient], tmp_path: Path
) -> None:
    client = started()
    outside = tmp_path / "outside"
    outside.mkdir()
    models.root.mkdir(exist_ok=True)
    (models.root / "link").symlink_to(outside)
    for refused in (outside, models.root / "link", models.root / ".." / "outside", "/etc"):
        reply = client.post("/model", json={"model": str(refused)})
        assert "AVGZSL_MODEL_ROOTS" in assert_problem(reply, 403, "model_refused")["detail"]
    for missing in (str(models.root / "none"), "next", "a\0b"):
        reply = client.post("/model", json={"model": missing})
        assert_problem(reply, 404, "model_folder_not_found")
    assert client.get("/model").json()["swap"] is None


def test_replicas_that_share_a_catalogue_are_not_left_behind(
    models: Models, started: Callable[..., TestClient], tmp_path: Path
) -> None:
    client = started(catalogue_url=f"sqlite:///{tmp_path / 'shared.sqlite'}")

    reply = client.post("/model", json={"model": "bundled"})

    assert "library reindex" in assert_problem(reply, 409, "swap_not_possible")["detail"]


def test_the_model_is_changed_from_the_command_line(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = models.add("next", OtherEmbedder)
    settings = Settings(data_dir=tmp_path / "data", decode_workers=1, model_roots=(models.root,))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(command_line, ["model", *arguments])

    with serving(create_app(settings)) as url:
        monkeypatch.setenv("AVGZSL_URL", url)
        result = run("swap", folder)
        assert (result.exit_code, result.stdout) == (0, f"{folder}: done\n"), result.stderr
        shown = run()
        assert "other" in shown.stdout
        assert "done" in shown.stdout
        assert run("swap", str(tmp_path)).exit_code == 1
        given_up = run("cancel")
        assert given_up.exit_code == 1
        assert "No change to another model is under way" in given_up.stderr
