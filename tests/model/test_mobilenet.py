import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.backbones.compact_video import CompactVideoConfig, CompactVideoNetwork
from model.distillation.mobilenet import MobileNetTeacher, stretch
from model.errors import CheckpointError

DATA = Path(__file__).parents[3] / "shared" / "data"
TEACHERS = DATA / "teachers"


@pytest.fixture(scope="module")
def teacher() -> MobileNetTeacher:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    if not TEACHERS.is_dir():
        pytest.skip(f"the teachers in {TEACHERS} are absent")
    return MobileNetTeacher(TEACHERS)


def photograph(member: str) -> np.ndarray:
    with zipfile.ZipFile(DATA / "images" / "imagenet_samples.zip") as archive:
        return np.asarray(Image.open(io.BytesIO(archive.read(member))).convert("RGB"))


class TestTeacher:
    def test_labels_are_imagenets_thousand_without_background(self, teacher):
        assert len(teacher.labels) == 1000
        assert teacher.labels[0].startswith("tench")
        assert teacher.labels[-1].startswith("toilet tissue")

    def test_photographs_are_named(self, teacher):
        for member, name in (
            ("n01440764/tench.webp", "tench"),
            ("n01531178/goldfinch.webp", "goldfinch"),
            ("n01484850/great_white_shark.webp", "great white shark"),
        ):
            output = teacher.observe(photograph(member))
            assert teacher.labels[output.logits.argmax()].startswith(name)

    def test_shapes_and_ranges(self, teacher):
        output = teacher.observe(np.full((50, 90, 3), 128, np.uint8))
        assert output.logits.shape == (1000,)
        assert output.embedding.shape == (1280,)
        assert output.logits.dtype == output.embedding.dtype == np.float32
        assert output.embedding.min() >= 0  # an average after ReLU6
        assert output.embedding.max() <= 6

    def test_softmax_of_the_logits_is_the_networks_own_output(self, teacher):
        output = teacher.observe(photograph("n01440764/tench.webp"))
        interpreter = teacher._interpreter
        own = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, 1:] / 256
        softmax = np.exp(output.logits - output.logits.max())
        softmax /= softmax.sum()  # over 1000, without the background's share
        assert np.abs(softmax - own).max() < 0.01

    def test_answers_do_not_depend_on_what_was_asked_before(self, teacher):
        picture = photograph("n01440764/tench.webp")
        first = teacher.observe(picture)
        teacher.observe(np.zeros((8, 8, 3), np.uint8))
        again = teacher.observe(picture)
        assert (first.logits == again.logits).all()
        assert (first.embedding == again.embedding).all()


class TestWeights:
    def test_the_torch_network_agrees_with_the_teacher(self, teacher):
        """As closely as rounding every activation to 8 bits allows."""
        network = CompactVideoNetwork(CompactVideoConfig())
        teacher.copy_weights(network)
        with zipfile.ZipFile(DATA / "images" / "imagenet_samples.zip") as archive:
            members = sorted(name for name in archive.namelist() if name.endswith(".webp"))[::50]
        same = []
        for member in members:
            picture = stretch(photograph(member), 224)
            with torch.inference_mode():
                pixels = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None]
                embedding, logits = (output[0].numpy() for output in network(pixels))
            taught = teacher.observe(picture)
            assert np.corrcoef(logits[:1000], taught.logits)[0, 1] > 0.97
            assert np.corrcoef(embedding, taught.embedding)[0, 1] > 0.97
            assert (logits[1000:] == 0).all()  # Caltech's names, of which it knows nothing
            same.append(logits[:1000].argmax() == taught.logits.argmax())
        assert len(same) == 16
        assert sum(same) >= 15

    def test_a_network_of_another_plan_is_refused(self, teacher):
        config = CompactVideoConfig(stages=((1, 16, 1, 1), (6, 32, 1, 2)))
        with pytest.raises(CheckpointError, match=r"expanded_conv_1/project.*plan"):
            teacher.copy_weights(CompactVideoNetwork(config))


class TestFiles:
    def test_a_missing_network_is_named(self, tmp_path):
        pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
        with pytest.raises(CheckpointError, match=r"mobilenet_v2.tflite is missing"):
            MobileNetTeacher(tmp_path)

    def test_a_file_of_another_kind_is_refused(self, tmp_path):
        pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
        (tmp_path / "mobilenet_v2.tflite").write_bytes(b"not a network")
        (tmp_path / "imagenet_labels.txt").write_text("background\ntench\n")
        with pytest.raises(CheckpointError, match="not a TensorFlow Lite network"):
            MobileNetTeacher(tmp_path)


def test_stretch_ignores_the_aspect_and_leaves_the_right_size_alone():
    picture = np.zeros((10, 30, 3), np.uint8)
    assert stretch(picture, 20).shape == (20, 20, 3)
    exact = np.zeros((20, 20, 3), np.uint8)
    assert stretch(exact, 20) is exact
