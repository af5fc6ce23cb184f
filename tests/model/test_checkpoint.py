"""A checkpoint folder reads back as it was written, and says what is wrong when it is not whole."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import checkpoint_folder, load_checkpoint, save_checkpoint
from model.config import Calibration
from model.errors import CheckpointError
from model.files import write_tensors
from model.network import AVGZSLNet
from tests.model.conftest import CLASSES, CONFIG, LetterEncoder


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    network = AVGZSLNet(CONFIG.network)
    vectors = LetterEncoder().encode([c.name for c in CLASSES])
    save_checkpoint(tmp_path, CONFIG, network, CLASSES, vectors)

    loaded = load_checkpoint(tmp_path)

    assert loaded.config == CONFIG
    assert loaded.classes == CLASSES
    # Weights are stored as float16.
    np.testing.assert_allclose(loaded.text_vectors, vectors, atol=1e-3)
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(
            loaded.network.state_dict()[name], weight, atol=1e-3, rtol=1e-3, msg=name
        )
    assert not loaded.network.training


def test_the_model_id_follows_the_content_and_not_the_place(
    checkpoint_dir: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(checkpoint_dir, tmp_path / "copy")
    same = load_checkpoint(copy).model_id
    config = json.loads((copy / "checkpoint.json").read_text())
    config["calibration"]["temperature"] = 0.3
    (copy / "checkpoint.json").write_text(json.dumps(config))

    assert same == load_checkpoint(checkpoint_dir).model_id
    assert load_checkpoint(copy).model_id != same


def test_what_lies_beside_the_model_does_not_change_its_ids(
    checkpoint_dir: Path, tmp_path: Path
) -> None:
    before = load_checkpoint(checkpoint_dir)
    copy = shutil.copytree(checkpoint_dir, tmp_path / "copy")
    (copy / "results.json").write_text("{}")
    (copy / "other.safetensors").write_bytes(b"")

    after = load_checkpoint(copy)

    assert (after.model_id, after.space_id) == (before.model_id, before.space_id)


def test_a_calibration_fitted_since_changes_answers_but_not_the_space(
    checkpoint_dir: Path, tmp_path: Path
) -> None:
    before = load_checkpoint(checkpoint_dir)
    fitted = replace(before.config.calibration, temperature=0.3)
    copy = shutil.copytree(checkpoint_dir, tmp_path / "copy")
    (copy / "calibration.json").write_text(json.dumps(asdict(fitted)))

    after = load_checkpoint(copy)

    assert after.config == replace(before.config, calibration=fitted)
    assert after.space_id == before.space_id == before.model_id
    assert after.model_id != before.model_id


def test_a_calibration_fitted_since_is_of_what_the_service_compares(tmp_path: Path) -> None:
    network = replace(CONFIG.network, normalise=False)
    config = replace(CONFIG, network=network, unit_calibration=Calibration(temperature=0.7))
    vectors = LetterEncoder().encode([c.name for c in CLASSES])
    save_checkpoint(tmp_path, config, AVGZSLNet(network), CLASSES, vectors)
    assert load_checkpoint(tmp_path).config == config

    fitted = Calibration(temperature=0.3)
    (tmp_path / "calibration.json").write_text(json.dumps(asdict(fitted)))

    assert load_checkpoint(tmp_path).config == replace(config, unit_calibration=fitted)


def test_a_calibration_that_cannot_be_used_is_named(checkpoint_dir: Path) -> None:
    (checkpoint_dir / "calibration.json").write_text('{"warmth": 1}')

    with pytest.raises(CheckpointError, match=r"calibration\.json: .*warmth"):
        load_checkpoint(checkpoint_dir)


def test_libraries_of_the_bundled_model_still_fit_it() -> None:
    """Another id here means that every library of the bundled model must be re-indexed."""
    assert load_checkpoint(checkpoint_folder("bundled")).space_id == "7582a5884d03"


@pytest.mark.parametrize(
    "name",
    ["checkpoint.json", "avgzslnet.safetensors", "vocabulary.json", "vocabulary.safetensors"],
)
def test_a_missing_file_is_named(checkpoint_dir: Path, name: str) -> None:
    (checkpoint_dir / name).unlink()

    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_checkpoint(checkpoint_dir)


@pytest.mark.parametrize("network", [None, [], {"hidden_dim": 8.5}, {"decoder_dim": -1}])
def test_a_network_of_no_shape_is_named(checkpoint_dir: Path, network: object) -> None:
    path = checkpoint_dir / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "network": network}))

    with pytest.raises(CheckpointError, match=r"checkpoint\.json: .*(NetworkConfig|_dim)"):
        load_checkpoint(checkpoint_dir)


def test_a_vocabulary_without_text_vectors_is_named(checkpoint_dir: Path) -> None:
    write_tensors(checkpoint_dir / "vocabulary.safetensors", {"words": torch.zeros(2, 5)})

    with pytest.raises(CheckpointError, match=r"holds no tensor 'text', only .*words"):
        load_checkpoint(checkpoint_dir)


@pytest.mark.parametrize("keep", [0, 4, 100])
def test_a_truncated_weight_file_is_named(checkpoint_dir: Path, keep: int) -> None:
    path = checkpoint_dir / "avgzslnet.safetensors"
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(CheckpointError, match=r"avgzslnet.safetensors is not a readable"):
        load_checkpoint(checkpoint_dir)


def edit(folder: Path, name: str, **changes: object) -> None:
    values = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(values | changes))


def test_an_unknown_key_is_named(checkpoint_dir: Path) -> None:
    edit(checkpoint_dir, "checkpoint.json", beta=1)

    with pytest.raises(CheckpointError, match="unknown key 'beta'"):
        load_checkpoint(checkpoint_dir)


def test_a_missing_key_is_named(checkpoint_dir: Path) -> None:
    values = json.loads((checkpoint_dir / "checkpoint.json").read_text())
    del values["text_encoder"]
    (checkpoint_dir / "checkpoint.json").write_text(json.dumps(values))

    with pytest.raises(CheckpointError, match="text_encoder"):
        load_checkpoint(checkpoint_dir)


def test_another_format_version_is_refused(checkpoint_dir: Path) -> None:
    edit(checkpoint_dir, "checkpoint.json", format_version=2)

    with pytest.raises(CheckpointError, match="format version 2; this program reads 1"):
        load_checkpoint(checkpoint_dir)


def test_weights_of_another_shape_are_refused(checkpoint_dir: Path) -> None:
    values = json.loads((checkpoint_dir / "checkpoint.json").read_text())
    values["network"]["hidden_dim"] = 9
    (checkpoint_dir / "checkpoint.json").write_text(json.dumps(values))

    with pytest.raises(CheckpointError, match="does not fit the configuration"):
        load_checkpoint(checkpoint_dir)


def test_a_vocabulary_of_another_length_is_refused(checkpoint_dir: Path) -> None:
    path = checkpoint_dir / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:1]))

    with pytest.raises(CheckpointError, match="1 classes of 5 numbers were expected"):
        load_checkpoint(checkpoint_dir)
