"""The command: a checkpoint and a feature file in, the report as JSON, table and pictures out."""

import builtins
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model import evaluate
from model.candidates import candidate_classes
from model.checkpoint import Checkpoint
from model.embedded_samples import EmbeddedSamples, LabelEmbeddings
from model.embedding import ClassText
from model.errors import FeatureSetError
from model.features import FeatureSet, options, read_features, write_npz
from tests.model.conftest import LetterEncoder

VALIDATION = ("stage_1_val_seen", "stage_1_val_unseen")
TEST = ("stage_2_test_seen", "stage_2_test_unseen")


def embed_by_hand(
    checkpoint: Checkpoint, features: FeatureSet
) -> tuple[EmbeddedSamples, LabelEmbeddings]:
    """What `model.projection.embed_features` promises, without its scaling and text encoders."""
    candidates = candidate_classes(checkpoint.classes, features)
    text = LetterEncoder().encode([c.name for c in candidates.classes])
    network = checkpoint.network
    with torch.inference_mode():
        samples = EmbeddedSamples(
            network.embed_audio(torch.from_numpy(features.audio)).numpy(),
            network.embed_video(torch.from_numpy(features.video)).numpy(),
            None,
            features.has_audio,
            features.has_video,
            candidates.of_features[features.labels],
        )
        labels = network.embed_text(torch.from_numpy(text)).numpy()
    return samples, LabelEmbeddings(labels, candidates.seen)


@pytest.fixture(autouse=True)
def _embed_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "embed_features", embed_by_hand)


def write_features(path: Path, stages: tuple[str, ...], *, audio_dim: int = 2) -> Path:
    """Twelve samples a stage: of the trained classes in `seen` stages, of others elsewhere."""
    rng = np.random.default_rng(0)
    # The checkpoint was trained on "abba" and "dee".
    classes = ("DEE", "bed", "cab", "Abba")
    labels = np.concatenate(
        [np.resize((1, 2) if stage.endswith("_unseen") else (0, 3), 12) for stage in stages]
    )
    n = len(labels)
    write_npz(
        FeatureSet(
            name="toys",
            audio=rng.standard_normal((n, audio_dim)).astype(np.float32),
            video=rng.standard_normal((n, 6)).astype(np.float32),
            has_audio=np.ones(n, bool),
            has_video=np.ones(n, bool),
            labels=labels,
            stages=np.repeat(stages, 12),
            ids=tuple(map(str, range(n))),
            classes=tuple(map(ClassText, classes)),
            text_vectors=None,
            backbones=None,
        ),
        path,
    )
    return path


def run(checkpoint: Path, features: Path, out: Path, *options: str) -> dict[str, Any]:
    arguments = [str(checkpoint), "--features", str(features), "--json", str(out), *options]
    assert evaluate.main(arguments) == 0
    report: dict[str, Any] = json.loads(out.read_text())
    return report


def test_a_file_with_test_stages_alone_gives_every_figure(
    checkpoint_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = write_features(tmp_path / "test.npz", TEST)

    report = run(checkpoint_dir, features, tmp_path / "new" / "out.json")

    for evidence in ("both", "audio", "video"):
        assert list(report[evidence]) == ["S", "U", "HM", "ZSL"]
        assert all(0 <= value <= 100 for value in report[evidence].values())
    assert all(0 < value <= 100 for value in report["mAP"].values())
    # Trained: abba, dee; from the file: bed, cab. "DEE" is "dee" and "Abba" is "abba".
    assert report["counts"]["seen_candidates"] == 2
    assert report["counts"]["unseen_candidates"] == 2
    assert [(c["name"], c["seen"], c["samples"]) for c in report["per_class"]] == [
        ("abba", True, 6), ("dee", True, 6), ("bed", False, 6), ("cab", False, 6)
    ]  # fmt: skip
    assert report["stages"] == list(TEST)
    assert report["feature_set"] == "toys"
    assert len(report["model_id"]) == 12
    assert report["notes"] == []
    assert "Zero-shot classification" in capsys.readouterr().out


def test_clips_are_split_as_the_training_did(
    checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path | None] = []

    def read(*_: object, former_split: Path | None, **__: object) -> None:
        given.append(former_split)
        raise FeatureSetError("no clips here")

    monkeypatch.setattr(evaluate, "read_chosen", read)
    arguments = [str(checkpoint_dir), "--features", str(tmp_path)]
    assert evaluate.main(arguments) == 1
    (checkpoint_dir / "split.json").write_text("{}")
    assert evaluate.main(arguments) == 1

    assert given == [None, checkpoint_dir / "split.json"]


def test_validation_rows_are_used_where_there_is_no_test_row_or_on_demand(
    checkpoint_dir: Path, tmp_path: Path
) -> None:
    validation = write_features(tmp_path / "validation.npz", ("stage_1_train", *VALIDATION))
    everything = write_features(tmp_path / "everything.npz", (*VALIDATION, *TEST))
    out = tmp_path / "out.json"

    assert run(checkpoint_dir, validation, out)["stages"] == list(VALIDATION)
    assert run(checkpoint_dir, everything, out)["stages"] == list(TEST)
    assert run(checkpoint_dir, everything, out, "--stage", "validation")["stages"] == list(
        VALIDATION
    )


@pytest.mark.parametrize(
    ("stage", "present", "absent"),
    [
        ("stage_2_test_seen", ["S"], ["U", "HM", "ZSL"]),
        ("stage_2_test_unseen", ["U", "ZSL"], ["S", "HM"]),
    ],
)
def test_figures_that_the_rows_cannot_give_are_null_with_a_reason(
    checkpoint_dir: Path, tmp_path: Path, stage: str, present: list[str], absent: list[str]
) -> None:
    report = run(
        checkpoint_dir, write_features(tmp_path / "f.npz", (stage,)), tmp_path / "out.json"
    )

    assert all(report["both"][name] is not None for name in present)
    assert all(report["both"][name] is None for name in absent)
    assert len(report["notes"]) == 1
    assert report["notes"][0].startswith(" and ".join([", ".join(absent[:-1]), absent[-1]]))


def test_features_of_another_width_are_an_error_in_words(
    checkpoint_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = write_features(tmp_path / "wide.npz", TEST, audio_dim=5)

    assert evaluate.main([str(checkpoint_dir), "--features", str(features)]) == 1

    error = capsys.readouterr().err
    assert "audio features of 5 numbers, the checkpoint takes 2" in error
    assert "Traceback" not in error


def test_a_folder_without_a_checkpoint_and_a_missing_file_are_errors_in_words(
    checkpoint_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = write_features(tmp_path / "f.npz", TEST)

    assert evaluate.main([str(tmp_path), "--features", str(features)]) == 1
    assert "checkpoint.json is missing" in capsys.readouterr().err
    assert evaluate.main([str(checkpoint_dir), "--features", str(tmp_path / "no.npz")]) == 1
    assert "no.npz is missing" in capsys.readouterr().err


def test_clips_go_through_the_backbones_that_the_checkpoint_was_trained_on(
    checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def read(path: Path, **options: Any) -> FeatureSet:
        asked.update(options)
        return read_features(path)

    monkeypatch.setattr(options, "read_features", read)
    features = write_features(tmp_path / "f.npz", TEST)

    run(checkpoint_dir, features, tmp_path / "out.json", "--seed", "7")

    assert (asked["audio_backbone"], asked["video_backbone"]) == ("loudness", "colour")
    assert asked["backbone_folder"] == checkpoint_dir  # whose weights may be another version's
    assert asked["seed"] == 7


def test_features_of_another_backbone_are_refused_however_wide_they_are(
    checkpoint_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = read_features(write_features(tmp_path / "f.npz", TEST))
    write_npz(replace(features, backbones=("loudness:another", "colour")), tmp_path / "same.npz")
    write_npz(replace(features, backbones=("loudness", "shape")), tmp_path / "other.npz")

    run(checkpoint_dir, tmp_path / "same.npz", tmp_path / "out.json")
    assert evaluate.main([str(checkpoint_dir), "--features", str(tmp_path / "other.npz")]) == 1

    assert "were made by 'shape', the checkpoint was trained on those of 'colour'" in " ".join(
        capsys.readouterr().err.split()
    )


def test_plots_are_written_where_asked_for(
    checkpoint_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = write_features(tmp_path / "f.npz", TEST)
    folder = tmp_path / "plots"

    assert (
        evaluate.main([str(checkpoint_dir), "--features", str(features), "--plots", str(folder)])
        == 0
    )

    assert {"space.png", "class_accuracy.png", "beta.png"} <= {p.name for p in folder.iterdir()}
    assert str(folder / "space.png") in capsys.readouterr().out


def test_plots_without_their_packages_are_refused_with_the_command_that_installs_them(
    checkpoint_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    features = write_features(tmp_path / "f.npz", TEST)
    real_import = builtins.__import__

    def without_plots(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "model.plots":
            raise ImportError("No module named 'matplotlib'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_plots)

    arguments = [str(checkpoint_dir), "--features", str(features), "--plots", str(tmp_path / "p")]
    assert evaluate.main(arguments) == 1
    assert "pip install 'avgzsl[train]'" in capsys.readouterr().err
