"""The two stages: what is chosen where, what is never looked at, and what a kill costs."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model import protocol
from model.checkpoint import load_checkpoint
from model.config import Calibration
from model.embedder import Embedder
from model.embedding import ClassText
from model.errors import BackboneError, ConfigError, FeatureSetError
from model.evaluate import evaluate_checkpoint
from model.features import FeatureSet
from model.projection import GIVEN_VECTORS
from model.recipes import RECIPES, Recipe
from model.scoring import rank_labels
from model.train import Text, changed, main, train

CLASS_COUNT, TEXT_DIM = 24, 8
ROWS_A_CLASS = 12
UNSEEN_IN_STAGE = {"stage_1_val_unseen": (16, 17, 18, 19), "stage_2_test_unseen": (20, 21, 22, 23)}
SMALL = replace(
    RECIPES["strong"],
    hidden_dim=32,
    decoder_dim=16,
    batch_size=32,
    epochs=6,
    validate_every=3,
    members=2,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Such small networks take several times as long where threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def separable(**changes: Any) -> FeatureSet:
    """Classes whose features are noisy linear images of their text vectors."""
    rng = np.random.default_rng(0)
    text = rng.normal(size=(CLASS_COUNT, TEXT_DIM)).astype(np.float32)
    labels = np.repeat(np.arange(CLASS_COUNT), ROWS_A_CLASS)
    stages = np.full(len(labels), "stage_1_train", dtype="U20")
    for stage, classes in UNSEEN_IN_STAGE.items():
        stages[np.isin(labels, classes)] = stage
    position = np.tile(np.arange(ROWS_A_CLASS), CLASS_COUNT)
    trained = stages == "stage_1_train"
    stages[trained & (position >= 8)] = "stage_1_val_seen"
    stages[trained & (position >= 10)] = "stage_2_test_seen"
    audio = text[labels] @ rng.normal(size=(TEXT_DIM, 10)) + rng.normal(size=(len(labels), 10)) / 2
    video = text[labels] @ rng.normal(size=(TEXT_DIM, 14)) + rng.normal(size=(len(labels), 14)) / 2
    everywhere = np.ones(len(labels), np.bool_)
    fields: dict[str, Any] = {
        "name": "separable",
        "audio": audio.astype(np.float32),
        "video": video.astype(np.float32),
        "has_audio": everywhere,
        "has_video": everywhere,
        "labels": labels,
        "stages": stages,
        "ids": tuple(map(str, range(len(labels)))),
        "classes": tuple(ClassText(f"class {i}") for i in range(CLASS_COUNT)),
        "text_vectors": text,
        "backbones": None,
    }
    return FeatureSet(**{**fields, **changes})


def run_of(
    features: FeatureSet,
    folder: Path,
    recipe: Recipe = SMALL,
    report: Callable[[protocol.Progress], None] = lambda progress: None,
) -> protocol.Run:
    assert features.text_vectors is not None
    return protocol.Run(
        features, features.text_vectors, GIVEN_VECTORS, recipe, 0, "cpu", folder, report
    )


def trained_into(folder: Path, features: FeatureSet, recipe: Recipe = SMALL) -> protocol.Choice:
    assert features.text_vectors is not None
    return train(
        features,
        recipe,
        seed=0,
        out=folder,
        text=Text(features.text_vectors, GIVEN_VECTORS),
        device="cpu",
        report=lambda progress: None,
    )


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_learns_classes_that_it_was_never_shown(name: str, tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "paper": {"learning_rate": 0.03, "batch_size": 64, "epochs": 40},
        "avca": {"batch_size": 64, "balanced_batches": 10, "epochs": 20},
        "strong": {"hidden_dim": 64, "batch_size": 32, "epochs": 20, "members": 2},
    }
    features = separable()

    trained_into(tmp_path, features, replace(RECIPES[name], **changes[name], validate_every=10))
    report = evaluate_checkpoint(load_checkpoint(tmp_path), features).report

    unseen = len(UNSEEN_IN_STAGE["stage_2_test_unseen"])
    for evidence in ("both", "audio", "video"):
        figures = report.figures[evidence]
        assert figures.zero_shot is not None
        assert figures.zero_shot > 2 / unseen
        assert figures.harmonic_mean is not None
        assert figures.harmonic_mean > 2 / CLASS_COUNT


def test_test_stages_are_never_looked_at(tmp_path: Path) -> None:
    features = separable()
    test = np.char.startswith(features.stages, "stage_2")
    spoiled = replace(
        features, audio=np.where(test[:, None], 1e6, features.audio).astype(np.float32)
    )

    choices = [trained_into(tmp_path / name, f) for name, f in (("a", features), ("b", spoiled))]

    assert choices[0].calibration == choices[1].calibration
    assert choices[0].history == choices[1].history


def test_stage_1_trains_on_its_own_classes_and_stage_2_on_those_of_validation_too(
    tmp_path: Path,
) -> None:
    trained_into(tmp_path, separable())

    first = [c.name for c in load_checkpoint(tmp_path / "stage-1").classes]
    second = [c.name for c in load_checkpoint(tmp_path).classes]
    assert first == [f"class {i}" for i in range(16)]
    assert second == [f"class {i}" for i in range(20)]


def test_the_epoch_with_the_best_validation_is_kept(tmp_path: Path) -> None:
    choice = protocol.select(run_of(separable(), tmp_path))

    assert set(choice.history) == {3, 6}
    assert choice.history[choice.epochs] == max(choice.history.values())


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    features = separable()
    unbroken = protocol.select(run_of(features, tmp_path / "unbroken"))

    class Killed(Exception):
        pass

    def kill(progress: protocol.Progress) -> None:
        if progress.member == 2 and progress.epoch == 4:
            raise Killed

    epochs: list[tuple[int, int]] = []
    broken = run_of(features, tmp_path / "broken", report=kill)
    with pytest.raises(Killed):
        protocol.select(broken)
    resumed = protocol.select(
        replace(broken, report=lambda progress: epochs.append((progress.member, progress.epoch)))
    )

    assert epochs[0] == (2, 4)  # member 1 is done, member 2 was saved after epoch 3
    for name, weight in unbroken.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], weight), name
    assert resumed.calibration == unbroken.calibration


def test_stage_2_goes_on_from_its_last_save_too(tmp_path: Path) -> None:
    features = separable()
    unbroken, _ = protocol.retrain(run_of(features, tmp_path / "unbroken"), 6)

    class Killed(Exception):
        pass

    def kill(progress: protocol.Progress) -> None:
        if progress.epoch == 4:
            raise Killed

    epochs: list[int] = []
    broken = run_of(features, tmp_path / "broken", report=kill)
    with pytest.raises(Killed):
        protocol.retrain(broken, 6)
    resumed, _ = protocol.retrain(
        replace(broken, report=lambda progress: epochs.append(progress.epoch)), 6
    )

    assert epochs[0] == 4
    for name, weight in unbroken.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name


def test_a_state_that_cannot_be_read_is_trained_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    features = separable()
    unbroken = protocol.select(run_of(features, tmp_path))
    path = tmp_path / "stage1-member0.pt"
    path.write_bytes(path.read_bytes()[:1000])
    told: list[tuple[int, int]] = []

    again = protocol.select(
        run_of(features, tmp_path, report=lambda p: told.append((p.member, p.epoch)))
    )

    assert told[0] == (1, 1)
    assert "stage1-member0.pt cannot be read" in caplog.text
    assert again.calibration == unbroken.calibration


def test_a_training_that_diverged_says_so(tmp_path: Path) -> None:
    with pytest.raises(FeatureSetError, match="diverged"):
        protocol.select(run_of(separable(), tmp_path, replace(SMALL, learning_rate=1e30)))


def test_label_vectors_of_another_alignment_are_refused(tmp_path: Path) -> None:
    features = separable()
    trained_into(tmp_path, features)
    assert features.text_vectors is not None
    shifted = replace(features, text_vectors=np.roll(features.text_vectors, 1, axis=0))

    with pytest.raises(FeatureSetError, match=r"20 of 20 classes differ.*--alignment"):
        evaluate_checkpoint(load_checkpoint(tmp_path), shifted)


def test_a_network_of_any_length_is_calibrated_for_directions_too(tmp_path: Path) -> None:
    """The service compares directions; betas of raw distances would be of another size."""
    recipe = replace(RECIPES["paper"], learning_rate=0.03, batch_size=64, epochs=40)
    choice = trained_into(tmp_path, separable(), recipe)
    config = load_checkpoint(tmp_path).config
    assert config.unit_calibration == choice.unit_calibration is not None

    run = run_of(separable(), tmp_path, recipe)
    samples, labels = protocol.Validation.of(run, choice.trained).embed(choice.network)
    samples, labels = samples.of_unit_length(), labels.of_unit_length()

    def harmonic_mean(calibration: Calibration) -> float:
        assert samples.audio is not None
        assert samples.video is not None
        similarity = {"audio": samples.audio, "video": samples.video}
        right = [
            np.argmax(
                rank_labels(
                    {m: labels.vectors @ rows[i] for m, rows in similarity.items()},
                    labels.seen,
                    calibration,
                ).score
            )
            == samples.labels[i]
            for i in range(len(samples.labels))
        ]
        seen = labels.seen[samples.labels]
        of_seen, of_unseen = np.mean(np.array(right)[seen]), np.mean(np.array(right)[~seen])
        return float(2 * of_seen * of_unseen / (of_seen + of_unseen + 1e-9))

    assert harmonic_mean(config.unit_calibration) > harmonic_mean(config.calibration)


def test_a_state_of_another_training_is_not_gone_on_from(tmp_path: Path) -> None:
    features = separable()
    protocol.select(run_of(features, tmp_path))
    told: list[int] = []
    other = replace(SMALL, learning_rate=2e-3)

    protocol.select(run_of(features, tmp_path, other, lambda progress: told.append(progress.epoch)))

    assert told[0] == 1


def test_a_state_is_of_the_words_not_of_the_last_digits_of_their_vectors(tmp_path: Path) -> None:
    given = run_of(separable(), tmp_path)
    encoded = replace(given, encoder="an encoder")
    elsewhere = replace(encoded, text=encoded.text + np.float32(1e-6))
    other_words = (ClassText("another"), *encoded.features.classes[1:])

    assert elsewhere.fingerprint() == encoded.fingerprint() != given.fingerprint()
    assert replace(given, text=elsewhere.text).fingerprint() != given.fingerprint()
    renamed = replace(encoded, features=replace(encoded.features, classes=other_words))
    assert renamed.fingerprint() != encoded.fingerprint()
    masked = replace(encoded.features, has_video=~encoded.features.has_video)
    assert replace(encoded, features=masked).fingerprint() != encoded.fingerprint()


def test_training_stops_when_validation_no_longer_improves(tmp_path: Path) -> None:
    recipe = replace(SMALL, members=1, learning_rate=0.0, epochs=30, validate_every=1, patience=2)
    told: list[int] = []

    protocol.select(
        run_of(separable(), tmp_path, recipe, lambda progress: told.append(progress.epoch))
    )

    assert told[-1] == 3  # the first validation is the best, two more do not beat it


def test_a_set_without_validation_rows_is_refused_before_training(tmp_path: Path) -> None:
    features = separable()
    kept = features.take(np.flatnonzero(features.stages != "stage_1_val_unseen"))

    with pytest.raises(FeatureSetError, match="stage_1_val_unseen"):
        trained_into(tmp_path, kept)
    assert not list(tmp_path.glob("*.pt"))


def test_samples_of_one_modality_are_trained_on(tmp_path: Path) -> None:
    features = separable()
    has_video = np.arange(len(features)) % 2 == 0
    mixed = replace(features, has_video=has_video, video=features.video * has_video[:, None])

    trained_into(tmp_path, mixed, replace(SMALL, hidden_dim=64, epochs=20))
    report = evaluate_checkpoint(load_checkpoint(tmp_path), mixed).report

    figures = report.figures["both"]
    assert figures.harmonic_mean is not None
    assert figures.harmonic_mean > 2 / CLASS_COUNT


@pytest.mark.parametrize("lacking", ["has_audio", "has_video"])
def test_the_epoch_is_chosen_where_no_sample_has_both_modalities(
    lacking: str, tmp_path: Path
) -> None:
    nowhere = np.zeros(len(separable()), np.bool_)

    choice = protocol.select(run_of(separable(**{lacking: nowhere}), tmp_path))

    assert 0 < choice.history[choice.epochs] == max(choice.history.values())
    assert choice.calibration.audio_weight == 0.5


def test_the_stages_of_clips_are_kept_with_both_checkpoints(tmp_path: Path) -> None:
    features = replace(separable(), backbones=("ears", "eyes"))

    trained_into(tmp_path, features)

    for folder in (tmp_path, tmp_path / "stage-1"):
        kept = json.loads((folder / "split.json").read_text())
        assert kept == dict(zip(features.ids, features.stages.tolist(), strict=True))


def test_a_modality_that_is_never_seen_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    features = separable()

    trained_into(tmp_path, replace(features, has_video=np.zeros(len(features), np.bool_)))

    assert "no sample has video" in caplog.text
    assert "no sample has audio" not in caplog.text


def test_the_command_reports_a_bad_file_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--features", str(tmp_path / "absent.npz"), "--out", str(tmp_path / "out")])

    assert code == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_recipe_is_changed_by_name() -> None:
    recipe = changed(RECIPES["paper"], ["epochs=3", "milestones=[2]", "optimiser=adam"])

    assert (recipe.epochs, recipe.milestones, recipe.optimiser) == (3, (2,), "adam")


def test_a_change_of_the_wrong_kind_names_the_value() -> None:
    with pytest.raises(ConfigError, match="'epochs=abc'"):
        changed(RECIPES["paper"], ["epochs=abc"])


def test_a_gpu_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    code = main(["--features", str(tmp_path), "--out", str(tmp_path / "out"), "--device", "cuda"])

    assert code == 1
    assert "no GPU" in capsys.readouterr().err


def test_a_checkpoint_of_feature_files_is_not_served(tmp_path: Path) -> None:
    trained_into(tmp_path, separable())

    with pytest.raises(BackboneError, match="feature files"):
        Embedder.load(str(tmp_path))
