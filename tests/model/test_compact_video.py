import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from model.backbones.compact_video import (
    CompactVideo,
    CompactVideoConfig,
    CompactVideoNetwork,
    InvertedResidual,
    SameConv2d,
)
from model.backbones.protocol import VideoBackbone
from model.errors import CheckpointError, ConfigError

BUNDLED = Path(__file__).parents[2] / "model" / "bundled"
SMALL = CompactVideoConfig(frame_size=32, stem_width=4, stages=((1, 4, 1, 1), (2, 6, 2, 2)), dim=6)


def frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def small() -> CompactVideo:
    torch.manual_seed(0)
    return CompactVideo(SMALL)


class TestPrepare:
    def test_centre_square_is_cut_exactly_when_the_shorter_side_fits(self, small):
        wide, tall = frame(32, 57), frame(71, 32)
        assert (small.prepare(wide) == wide[:, 12:44].transpose(2, 0, 1)).all()
        assert (small.prepare(tall) == tall[19:51].transpose(2, 0, 1)).all()

    def test_result_is_contiguous_and_of_a_fixed_shape_for_awkward_sizes(self, small):
        for height, width in ((1, 1), (1, 500), (31, 33), (480, 640), (33, 32)):
            prepared = small.prepare(frame(height, width))
            assert prepared.shape == (3, 32, 32)
            assert prepared.dtype == np.uint8
            assert prepared.flags.c_contiguous

    @pytest.mark.parametrize("side", [7, 64, 95, 300])
    def test_other_sizes_are_resampled_as_pillow_does(self, small, side):
        picture = frame(side, side)
        expected = Image.fromarray(picture).resize((32, 32), Image.Resampling.BILINEAR)
        difference = small.prepare(picture).transpose(1, 2, 0).astype(int) - np.asarray(expected)
        assert np.abs(difference).max() <= 1

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((32, 32), np.uint8),
            np.zeros((32, 32, 4), np.uint8),
            np.zeros((0, 32, 3), np.uint8),
            np.zeros((32, 32, 3), np.float32),
        ],
    )
    def test_what_is_not_an_rgb_frame_is_refused(self, small, wrong):
        with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
            small.prepare(wrong)


class TestFeatures:
    def test_shapes_and_types_are_the_protocols(self, small):
        backbone: VideoBackbone = small
        batch = torch.from_numpy(np.stack([backbone.prepare(frame(32, 40, s)) for s in range(3)]))
        features = backbone.features(batch)
        assert features.shape == (3, 6)
        assert features.dtype == torch.float32
        assert not features.requires_grad
        assert small.scores(batch).shape == (3, 1097)

    def test_a_picture_does_not_depend_on_its_batch(self, small):
        batch = torch.from_numpy(np.stack([small.prepare(frame(32, 32, s)) for s in range(5)]))
        alone = torch.cat([small.features(batch[i : i + 1]) for i in range(5)])
        torch.testing.assert_close(small.features(batch), alone, atol=1e-5, rtol=1e-4)

    def test_an_empty_batch_gives_no_rows(self, small):
        assert small.features(torch.zeros(0, 3, 32, 32, dtype=torch.uint8)).shape == (0, 6)

    def test_another_shape_is_refused_with_both_shapes_named(self, small):
        with pytest.raises(ValueError, match=r"\(B, 3, 32, 32\), not \(2, 3, 16, 16\)"):
            small.features(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))

    def test_to_returns_the_backbone(self, small):
        assert small.to("cpu") is small


class TestNetwork:
    @pytest.mark.parametrize("size", [1, 7, 8, 33])
    @pytest.mark.parametrize("stride", [1, 2, 3])
    def test_padding_is_tensorflows(self, size, stride):
        """Output i reads inputs i * stride - before + 0, 1, 2, where `before` is floored half."""
        torch.manual_seed(0)
        convolution = SameConv2d(1, 1, 3, stride=stride)
        x = torch.randn(1, 1, size, size)
        outputs = -(-size // stride)
        total = max(0, (outputs - 1) * stride + 3 - size)
        padded = np.zeros((size + 6, size + 6), np.float32)
        before = total // 2
        padded[before : before + size, before : before + size] = x[0, 0]
        kernel = convolution.weight.detach().numpy()[0, 0]
        expected = [
            [
                (padded[i * stride : i * stride + 3, j * stride : j * stride + 3] * kernel).sum()
                for j in range(outputs)
            ]
            for i in range(outputs)
        ]
        result = convolution(x)[0, 0] - convolution.bias
        np.testing.assert_allclose(result.detach().numpy(), expected, atol=1e-5)

    def test_a_block_is_its_three_convolutions_and_keeps_a_shortcut_only_of_its_shape(self):
        torch.manual_seed(0)
        block = InvertedResidual(4, 4, expansion=3, stride=1)
        x = torch.randn(2, 4, 5, 5)
        hidden = F.conv2d(x, block.expand.weight, block.expand.bias).clamp(0, 6)
        hidden = F.conv2d(hidden, block.depthwise.weight, block.depthwise.bias, 1, 1, 1, 12)
        branch = F.conv2d(hidden.clamp(0, 6), block.project.weight, block.project.bias)
        torch.testing.assert_close(block(x), x + branch)
        assert not InvertedResidual(4, 5, expansion=3, stride=1).residual
        assert not InvertedResidual(4, 4, expansion=3, stride=2).residual

    def test_the_default_plan_is_mobilenet_v2(self):
        network = CompactVideoNetwork(CompactVideoConfig())
        convolutions = sum(
            w.numel() for name, w in network.named_parameters() if "head" not in name
        )
        # torchvision's 3,504,872 less its head (1,281,000) and, with every normalisation folded
        # into a bias, less one number a channel (17,056).
        assert convolutions == 3_504_872 - 1_281_000 - 17_056
        with torch.inference_mode():
            x = F.relu6(network.stem(torch.zeros(1, 3, 64, 64)))
            for block in network.blocks:
                x = block(x)
        assert x.shape == (1, 320, 2, 2)

    def test_features_lie_between_0_and_6(self, small):
        pictures = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
        features = small.features(pictures)
        assert features.min() >= 0
        assert features.max() <= 6


class TestFiles:
    def test_saved_backbone_loads_to_nearly_the_same_features(self, small, tmp_path):
        small.save(tmp_path)
        loaded = CompactVideo.load(tmp_path)
        batch = torch.from_numpy(small.prepare(frame(32, 32)))[None]
        assert loaded.config == SMALL
        torch.testing.assert_close(loaded.features(batch), small.features(batch), rtol=0, atol=1e-2)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "video.json",
            "video.safetensors",
        ]

    def test_saving_twice_writes_the_same_bytes(self, small, tmp_path):
        small.save(tmp_path / "a")
        CompactVideo.load(tmp_path / "a").save(tmp_path / "b")
        for name in ("video.json", "video.safetensors"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    @pytest.mark.parametrize("name", ["video.json", "video.safetensors"])
    def test_a_missing_file_is_named(self, small, tmp_path, name):
        small.save(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(CheckpointError, match=f"{name} (are|is) missing"):
            CompactVideo.load(tmp_path)

    @pytest.mark.parametrize("name", ["video.json", "video.safetensors"])
    def test_a_truncated_file_is_a_checkpoint_error(self, small, tmp_path, name):
        small.save(tmp_path)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(CheckpointError, match=name):
            CompactVideo.load(tmp_path)

    def test_weights_of_another_size_are_a_checkpoint_error(self, small, tmp_path):
        small.save(tmp_path)
        CompactVideo(replace(SMALL, dim=7)).save(tmp_path / "other")
        (tmp_path / "other" / "video.json").replace(tmp_path / "video.json")
        with pytest.raises(CheckpointError, match="does not fit"):
            CompactVideo.load(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"colour": 1}, "unknown key"),
            ({"dim": 0}, "positive"),
            ({"dim": "512"}, "positive"),
            ({"stages": 4}, "wrong type"),
            ({"stages": []}, "stage must be"),
            ({"stages": [[1, 4, 1]]}, "stage must be"),
            ({"stages": [[1, 4, 0, 1]]}, "positive"),
        ],
    )
    def test_a_wrong_configuration_is_named(self, small, tmp_path, change, message):
        small.save(tmp_path)
        path = tmp_path / "video.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(ConfigError, match=message):
            CompactVideo.load(tmp_path)

    def test_a_configuration_that_is_no_object_is_refused(self, small, tmp_path):
        small.save(tmp_path)
        (tmp_path / "video.json").write_text("[]")
        with pytest.raises(CheckpointError, match="JSON object"):
            CompactVideo.load(tmp_path)


class TestBundled:
    def test_shipped_weights_load_and_are_small(self):
        backbone = CompactVideo.load(BUNDLED)
        assert backbone.dim == 1280
        assert (BUNDLED / "video.safetensors").stat().st_size < 8_000_000
        assert all(weight.isfinite().all() for weight in backbone.network.state_dict().values())

    def test_shipped_features_tell_pictures_apart(self):
        backbone = CompactVideo.load(BUNDLED)
        dark, bright = np.full((128, 128, 3), 20, np.uint8), np.full((128, 200, 3), 230, np.uint8)
        noise = frame(300, 200)
        batch = torch.from_numpy(np.stack([backbone.prepare(f) for f in (dark, bright, noise)]))
        unit = torch.nn.functional.normalize(backbone.features(batch), dim=1)
        assert unit.isfinite().all()
        assert (unit @ unit.T)[~torch.eye(3, dtype=torch.bool)].max() < 0.98
