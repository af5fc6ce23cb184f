"""The service's model changed: `avgzsl library reindex`, and what `GET /model` tells meanwhile."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from index.library import Library
from model.checkpoint import checkpoint_folder
from model.embedding import PreparedChunk
from model.errors import CheckpointError
from model.fake import FakeEmbedder
from model.media.types import ClipChunk
from service.app import create_app
from service.cli import app
from service.reindexing import EmbedderAsNewModel
from service.resources import open_pipeline
from service.settings import Settings
from tests.service.conftest import HOSTS, file_part, make_app, store
from tests.service.media import mp4, wav
from tests.service.other_model import OTHER_DIM, OtherEmbedder
from tests.service.test_jobs import wait_for

Run = Callable[..., Any]


@pytest.fixture
def stored(tmp_path: Path) -> list[dict[str, Any]]:
    """Two clips in a library of the fake model, which is closed again, and a class."""
    with TestClient(make_app(tmp_path)) as client:
        clips = [
            store(client, wav(5.0), name="tone.wav", tags=["kept"]),
            store(client, mp4(), name="film.mp4"),
        ]
        assert client.post("/classes", json={"name": "owl"}).status_code == 201
    return clips


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> OtherEmbedder:
    """The model that the settings name, as far as the command line sees."""
    embedder = OtherEmbedder()
    monkeypatch.setattr("service.resources.load_embedder", lambda settings: embedder)
    return embedder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("AVGZSL_DATA_DIR", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(app, ["library", "reindex", *arguments])


@pytest.fixture
def other_client(tmp_path: Path) -> Iterator[Callable[[], TestClient]]:
    clients: list[TestClient] = []

    def opened() -> TestClient:
        clients.append(TestClient(make_app(tmp_path, embedder=OtherEmbedder())))
        return clients[-1].__enter__()

    yield opened
    for client in clients:
        client.__exit__(None, None, None)


def vectors_of(data_dir: Path, clip_id: str) -> list[Any]:
    with Library.open(data_dir / "library", model_id="other", dim=OTHER_DIM) as library:
        return [library.clip_vector(clip_id, modality) for modality in ("audio", "video")]


def test_a_re_indexed_clip_equals_a_fresh_upload_of_its_file(
    stored: list[dict[str, Any]], run: Run, other: OtherEmbedder, tmp_path: Path
) -> None:
    result = run()

    assert result.exit_code == 0, result.stderr
    assert "embedded 2 clips and 1 own classes by the model other" in result.stdout
    with TestClient(make_app(tmp_path, embedder=OtherEmbedder())) as client:
        for content, clip in zip((wav(5.0), mp4()), stored, strict=True):
            after = client.get(f"/clips/{clip['clip_id']}").json()
            fresh = store(client, content, name=clip["filename"], tags=clip["tags"])
            assert without_identity(after) == without_identity(fresh)
            assert after["created_at"] == clip["created_at"]
            clip["fresh_id"] = fresh["clip_id"]
        hits = client.post("/retrieve", json={"query": "owl"}).json()["results"]
        found = {hit["clip_id"]: (hit["score"], hit["start_seconds"]) for hit in hits}
        assert len(found) == 4
        assert all(found[clip["clip_id"]] == found[clip["fresh_id"]] for clip in stored)
        names = {c["name"] for c in client.get("/classes").json()["items"]}
        assert names == {"dog", "kettle", "owl"}
    for clip in stored:
        for old, new in zip(
            vectors_of(tmp_path, clip["clip_id"]),
            vectors_of(tmp_path, clip["fresh_id"]),
            strict=True,
        ):
            np.testing.assert_array_equal(old, new)


def test_a_clip_that_only_a_job_may_store_is_embedded_anew_too(
    run: Run, other: OtherEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"max_duration_seconds": 1.0, "max_job_duration_seconds": 10.0}
    with TestClient(make_app(tmp_path, **limits)) as client:
        job = client.post("/clips", params={"mode": "async"}, files=file_part(wav(3.0))).json()
        wait_for(client, job["job_id"])
        (clip,) = client.get("/clips").json()["items"]
        assert client.get(f"/clips/{clip['clip_id']}/waveform").status_code == 200
    # Lower than what is there by now, too.
    monkeypatch.setenv("AVGZSL_MAX_DURATION_SECONDS", "1")
    monkeypatch.setenv("AVGZSL_MAX_JOB_DURATION_SECONDS", "2")
    monkeypatch.setenv("AVGZSL_MAX_UPLOAD_BYTES", "2000")

    result = run()

    assert result.exit_code == 0, result.stderr
    assert "embedded 1 clips" in result.stdout


def without_identity(clip: dict[str, Any]) -> dict[str, Any]:
    own = {"clip_id", "created_at", "media_url", "thumbnail_url"}
    return {key: value for key, value in clip.items() if key not in own}


def test_the_answer_of_the_command_is_json_where_asked_for(
    stored: list[dict[str, Any]], run: Run, other: OtherEmbedder
) -> None:
    result = run("--json")

    assert json.loads(result.stdout) == {
        "former_model_id": "fake",
        "model_id": "other",
        "finished": True,
        "clips": 2,
        "classes": 1,
        "failures": [],
    }
    again = run()
    assert again.exit_code == 0
    assert "is of the model other already" in again.stdout


def test_clips_that_are_left_out_are_listed_with_the_decoders_reason(
    stored: list[dict[str, Any]],
    run: Run,
    other: OtherEmbedder,
    other_client: Callable[[], TestClient],
) -> None:
    other.failing = True
    refused = run()
    assert refused.exit_code == 1
    assert "accept the failures" in refused.stderr

    result = run("--accept-failures")

    assert result.exit_code == 0
    assert "left out: clip" in result.stdout
    assert "film.mp4: the file is encrypted" in result.stdout
    clips = other_client().get("/clips").json()
    assert clips["total"] == 2
    assert clips["items"][0]["warnings"] == ["It is left out of searches: the file is encrypted"]


def interrupt_at_the_second_clip(other: OtherEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = other.prepare

    def interrupted(chunk: ClipChunk) -> PreparedChunk:
        # The film: the tone has no pictures, and those of the engine's own check are black. Which
        # of the two comes first is up to the threads, which clip is stored first is not.
        if chunk.frames is not None and chunk.frames.any():
            raise KeyboardInterrupt
        return prepare(chunk)

    monkeypatch.setattr(other, "prepare", interrupted)


def test_an_interrupted_command_leaves_the_former_model_and_goes_on(
    stored: list[dict[str, Any]],
    run: Run,
    other: OtherEmbedder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AVGZSL_DECODE_WORKERS", "1")
    with monkeypatch.context() as patch:
        interrupt_at_the_second_clip(other, patch)
        result = run()
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr
    with TestClient(make_app(tmp_path)) as client:
        model = client.get("/model").json()
        assert model["model_id"] == "fake"
        assert model["reindex"] == {
            "model_id": "other",
            "clips": 2,
            "done": 1,
            "failed": 0,
            "failures": [],
        }
        assert client.post("/retrieve", json={"query": "dog"}).json()["model_id"] == "fake"

    assert json.loads(run("--json").stdout)["clips"] == 2


def test_an_interrupted_change_can_be_given_up(
    stored: list[dict[str, Any]],
    run: Run,
    other: OtherEmbedder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    interrupt_at_the_second_clip(other, monkeypatch)
    run()

    assert "gave the change of model up" in run("--cancel").stdout
    assert json.loads(run("--cancel", "--json").stdout) == {"cancelled": False}
    with TestClient(make_app(tmp_path)) as client:
        assert client.get("/model").json()["reindex"] is None


def test_what_stands_in_the_way_is_one_line(
    run: Run, other: OtherEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run().stderr.startswith("avgzsl: There is no library in ")
    with TestClient(make_app(tmp_path)):
        assert "another process" in run().stderr or "pid" in run().stderr

    def missing(settings: Settings) -> None:
        raise CheckpointError("there is no checkpoint")

    monkeypatch.setattr("service.resources.load_embedder", missing)
    result = run()
    assert (result.exit_code, result.stderr) == (1, "avgzsl: there is no checkpoint\n")


def test_the_model_can_be_changed_while_the_library_serves(
    stored: list[dict[str, Any]], tmp_path: Path
) -> None:
    """What a later `POST /model` builds on."""
    other = OtherEmbedder()
    with TestClient(make_app(tmp_path)) as client:
        library: Library = client.app.state.resources.library  # type: ignore[attr-defined]
        seen: list[Any] = []
        settings = Settings(data_dir=tmp_path, decode_workers=1)
        with open_pipeline(settings, other) as pipeline:
            summary = library.reindexing(EmbedderAsNewModel(pipeline)).run(
                lambda _: seen.append(client.get("/model").json()["reindex"]["model_id"])
            )
        assert summary.finished
        assert set(seen) == {"other"}
        assert client.get("/model").json()["reindex"] is None
        assert library.status().model_id == "other"


def test_another_calibration_alone_leaves_the_library_as_it_is(
    stored: list[dict[str, Any]], tmp_path: Path
) -> None:
    calibrated = FakeEmbedder()
    calibrated.card = dataclasses.replace(calibrated.card, model_id="fake-calibrated")
    calibrated.calibration = dataclasses.replace(
        calibrated.calibration, audio_weight=0.7, video_weight=0.3
    )

    with TestClient(make_app(tmp_path, embedder=calibrated)) as client:
        model = client.get("/model").json()
        assert (model["model_id"], model["space_id"]) == ("fake-calibrated", "fake")
        found = client.post("/retrieve", json={"query": "rain", "top_k": 10}).json()
        assert found["model_id"] == "fake-calibrated"
        assert {hit["clip_id"] for hit in found["results"]} == {c["clip_id"] for c in stored}
        assert client.get(f"/clips/{stored[0]['clip_id']}").json()["model_id"] == "fake"


@pytest.mark.slow
def test_the_bundled_models_library_is_re_indexed_by_a_variant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Path(__file__).parents[2] / "samples" / "dog_bark.wav"
    variant = tmp_path / "variant"
    shutil.copytree(checkpoint_folder("bundled"), variant)
    config = json.loads((variant / "checkpoint.json").read_text())
    config["hop_seconds"] = 1.0
    (variant / "checkpoint.json").write_text(json.dumps(config))
    data = tmp_path / "data"
    monkeypatch.setenv("AVGZSL_DATA_DIR", str(data))
    with TestClient(create_app(Settings(data_dir=data, allowed_hosts=HOSTS))) as client:
        clip = store(client, sample.read_bytes(), name=sample.name)
        client.post("/classes", json={"name": "kettle whistling"})

    result = CliRunner().invoke(app, ["library", "reindex", "--model", str(variant), "--json"])

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["clips"] == 1
    with TestClient(
        create_app(Settings(data_dir=data, model=str(variant), allowed_hosts=HOSTS))
    ) as client:
        fresh = store(client, sample.read_bytes(), name=sample.name)
        after = client.get(f"/clips/{clip['clip_id']}").json()
        assert without_identity(after) == without_identity(fresh)
        hits = client.post("/retrieve", json={"query": "a dog barking", "top_k": 2}).json()
        assert {hit["clip_id"] for hit in hits["results"]} == {clip["clip_id"], fresh["clip_id"]}
        assert len({hit["score"] for hit in hits["results"]}) == 1
