"""The service over CLAP and CLIP without a trained head: tiny ones, from folders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.model.tiny_pretrained import save_clap, save_clip
from tests.service.conftest import HOSTS, assert_problem
from tests.service.test_cli import run

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("frozen")
    settings = Settings(
        data_dir=folder / "data",
        device="cpu",
        head="frozen",
        audio_backbone=f"clap:{save_clap(folder / 'clap')}",
        video_backbone=f"clip:{save_clip(folder / 'clip')}",
        allowed_hosts=HOSTS,
    )
    with TestClient(create_app(settings)) as client:
        yield client


def classify(client: TestClient, name: str, **fields: Any) -> Any:
    file = {"file": (name, (SAMPLES / name).read_bytes())}
    return client.post("/classify", files=file, data=fields)


def test_the_model_says_that_its_head_is_frozen(client: TestClient) -> None:
    body = client.get("/model").json()

    assert body["head"] == "frozen"
    assert body["model_id"].startswith("frozen-")
    assert body["audio_backbone"].startswith("clap:")
    assert body["video_backbone"].startswith("clip:")


def test_candidate_labels_are_ranked_by_sound_and_sight(client: TestClient) -> None:
    body = classify(client, "siren.mp4", candidate_labels=["siren", "candle"]).json()

    assert body["model_id"] == client.get("/model").json()["model_id"]
    assert {label["name"] for label in body["labels"]} == {"siren", "candle"}
    assert sum(label["probability"] for label in body["labels"]) == pytest.approx(1.0)
    assert all(0 <= label["by_modality"]["audio"] <= 1 for label in body["labels"])
    assert all(0 <= label["by_modality"]["video"] <= 1 for label in body["labels"])
    assert 0 < body["unknown_probability"] < 1


def test_there_are_no_classes_until_one_is_added_and_the_next_answer_knows_it(
    client: TestClient,
) -> None:
    assert_problem(classify(client, "dog_bark.wav"), 409, "no_classes")

    added = client.post("/classes", json={"name": "dog", "synonyms": ["hound"]})
    body = classify(client, "dog_bark.wav").json()

    assert added.status_code == 201
    assert [(label["name"], label["seen"]) for label in body["labels"]] == [("dog", False)]
    assert body["labels"][0]["by_modality"]["video"] is None


def test_a_stored_clip_is_found_by_words_and_by_itself(client: TestClient) -> None:
    file = {"file": ("clock.mp4", (SAMPLES / "clock.mp4").read_bytes())}
    clip_id = client.post("/clips", files=file).json()["clip_id"]

    by_words = client.post("/retrieve", json={"query": "a ticking clock"}).json()
    again = client.post("/retrieve/by-file", files=file).json()

    assert [hit["clip_id"] for hit in by_words["results"]] == [clip_id]
    assert again["results"][0]["score"] == pytest.approx(1.0, abs=0.3)
    assert by_words["model_id"].startswith("frozen-")


def test_backbones_that_the_head_cannot_use_are_told_by_the_command_line(tmp_path: Path) -> None:
    options = ("--head", "frozen", "--audio-backbone", "compact-audio", "--port", "0")

    result = run("-m", "service", "serve", *options, "--data-dir", str(tmp_path / "d"))

    assert result.returncode == 1
    assert "avgzsl: the frozen head" in result.stderr.splitlines()[-1]
    assert "'compact-audio' has no text tower" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
