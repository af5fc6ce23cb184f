"""The sound teacher reproduces what is known of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.backbones.compact_audio import CompactAudioConfig, CompactAudioNetwork
from model.distillation.mn04 import load_teacher, read_class_names, rename_published
from model.distillation.sounds import AUDIOSET_NAMES, STREET_NAMES, decode_mono
from model.errors import CheckpointError

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
TEACHERS = DATA / "teachers"
needs_data = pytest.mark.skipif(
    not TEACHERS.is_dir(), reason="../shared/data is absent; the teacher's weights are there"
)
CLIPS_PER_CLASS = 2


def network() -> CompactAudioNetwork:
    return CompactAudioNetwork(CompactAudioConfig())


def test_the_teacher_has_the_published_number_of_parameters() -> None:
    count = sum(parameter.numel() for parameter in network().parameters())
    assert count == pytest.approx(0.98e6, rel=0.01)


def test_ten_seconds_make_a_thousand_frames() -> None:
    teacher = network().eval()
    with torch.inference_mode():
        mel = teacher.mel(torch.zeros(1, 320_000))
        embedding, logits = teacher(mel)
    assert mel.shape == (1, 1, 128, 1000)
    assert embedding.shape == (1, 384)
    assert logits.shape == (1, 527)


def test_silence_lies_at_the_floor_of_the_scaled_logarithm() -> None:
    mel = network().mel(torch.zeros(1, 32_000))
    torch.testing.assert_close(mel, torch.full_like(mel, (np.log(1e-5) + 4.5) / 5))


def test_a_missing_state_dict_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pt"):
        load_teacher(tmp_path / "absent.pt")


def test_another_networks_state_dict_is_a_checkpoint_error(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="mn04"):
        load_teacher(tmp_path / "other.pt")


def test_published_keys_are_renamed_part_by_part() -> None:
    published = {
        "features.0.1.weight": "stem.1.weight",
        "features.1.block.0.0.weight": "blocks.0.depthwise.0.weight",
        "features.1.block.1.1.bias": "blocks.0.narrow.1.bias",
        "features.4.block.1.0.weight": "blocks.3.depthwise.0.weight",
        "features.4.block.2.conc_se_layers.0.fc2.bias": "blocks.3.gate.expand.bias",
        "features.15.block.3.0.weight": "blocks.14.narrow.0.weight",
        "features.16.0.weight": "last.0.weight",
        "classifier.5.bias": "head.2.bias",
        "another.weight": "another.weight",
    }
    values = {key: torch.tensor(place) for place, key in enumerate(published)}
    renamed = rename_published(values, network())
    assert {key: renamed[name] for key, name in published.items()} == values


@needs_data
def test_every_mapped_name_is_an_audioset_class() -> None:
    names = set(read_class_names(TEACHERS / "mn04_class_labels.csv"))
    mapped = {name for group in AUDIOSET_NAMES.values() for row in group.values() for name in row}
    mapped |= {name for _, row in STREET_NAMES.values() for name in row}
    assert len(names) == 527
    assert mapped <= names


@needs_data
def test_the_teacher_names_most_clips_of_esc10() -> None:
    teacher = load_teacher(TEACHERS / "mn04_audioset.pt")
    names = read_class_names(TEACHERS / "mn04_class_labels.csv")
    classes = AUDIOSET_NAMES["esc10"]
    columns = [[names.index(name) for name in classes[label]] for label in classes]
    right = total = 0
    for index, label in enumerate(classes):
        for path in sorted((DATA / "esc10" / label).glob("*.ogg"))[:CLIPS_PER_CLASS]:
            waveform = torch.from_numpy(decode_mono(path).astype(np.float32) / 32768)
            with torch.inference_mode():
                logits = teacher(teacher.mel(waveform[None]))[1][0]
            scores = [float(logits[column].max()) for column in columns]
            right += int(np.argmax(scores)) == index
            total += 1
    # 191 of 200 are known for ten classes and whole clips; a broken front end gets about a tenth.
    assert right / total >= 0.9
