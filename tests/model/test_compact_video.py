import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.backbones.compact_video import CompactVideo, CompactVideoConfig
from model.backbones.protocol import VideoBackbone
from model.distillation.mobilenet import MobileNetTeacher, TeacherOutput
from model.distillation.video import (
    CALTECH,
    PHOTOGRAPH,
    THUMBNAIL,
    Pictures,
    Recipe,
    Targets,
    Trainer,
    colour_jitter,
    correct_teacher,
    distillation_loss,
    epochs,
    evaluate,
    evaluate_teacher,
    fit,
    label_loss,
    load_pictures,
    random_crop,
    summarise,
    teacher_targets,
)
from model.errors import CheckpointError, ConfigError, FeatureSetError

BUNDLED = Path(__file__).parents[2] / "model" / "bundled"
DATA = Path(__file__).parents[3] / "shared" / "data"
SMALL = CompactVideoConfig(frame_size=32, stem_width=4, widths=(4, 8), depths=(1, 1), dim=6)

needs_data = pytest.mark.skipif(
    not (DATA / "images").is_dir(), reason=f"the pictures {DATA / 'images'} are absent"
)


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
            ({"widths": 4}, "wrong type"),
            ({"depths": [1]}, "one entry a stage"),
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
        assert (backbone.dim, backbone.frame_size) == (512, 128)
        assert (BUNDLED / "video.safetensors").stat().st_size < 10_000_000
        assert all(weight.isfinite().all() for weight in backbone.network.state_dict().values())

    def test_shipped_features_tell_pictures_apart(self):
        backbone = CompactVideo.load(BUNDLED)
        dark, bright = np.full((128, 128, 3), 20, np.uint8), np.full((128, 200, 3), 230, np.uint8)
        noise = frame(300, 200)
        batch = torch.from_numpy(np.stack([backbone.prepare(f) for f in (dark, bright, noise)]))
        unit = torch.nn.functional.normalize(backbone.features(batch), dim=1)
        assert unit.isfinite().all()
        assert (unit @ unit.T)[~torch.eye(3, dtype=torch.bool)].max() < 0.98


def made_up_pictures() -> tuple[Pictures, Targets]:
    """Two classes of each source, told apart by colour; every fourth picture is held out."""
    rng = np.random.default_rng(0)
    labels = np.repeat([3, 500, 40, 41, 1000, 1001], 8)
    source = np.repeat([THUMBNAIL, PHOTOGRAPH, CALTECH], 16)
    pixels = [
        np.clip(rng.normal(40 + 30 * (row // 8), 8, (32, 32 + 4 * kind, 3)), 0, 255).astype(
            np.uint8
        )
        for row, kind in enumerate(source)
    ]
    held_out = (np.arange(48) % 4 == 3) & (source != PHOTOGRAPH)
    names = tuple(f"class {index}" for index in range(1097))
    logits = rng.normal(size=(48, 1000)).astype(np.float16)
    logits[np.arange(48), labels % 1000] += 8
    targets = Targets(logits, rng.normal(size=(48, 1280)).astype(np.float16))
    return Pictures(names, pixels, labels, source, held_out), targets


class FakeTeacher(MobileNetTeacher):
    """Answers with a view's brightness and counts the questions."""

    def __init__(self) -> None:
        self.asked = 0

    def observe(self, picture: np.ndarray) -> TeacherOutput:
        self.asked += 1
        brightness = np.float32(picture.mean())
        return TeacherOutput(np.full(1000, brightness), np.full(1280, brightness))


class TestTraining:
    def test_held_out_pictures_are_never_drawn_and_copies_are_kept(self):
        pictures, _ = made_up_pictures()
        drawn = epochs(pictures, Recipe(copies=(1, 3, 2)), np.random.default_rng(0))
        length = 12 * 1 + 16 * 3 + 12 * 2
        counts = np.bincount([next(drawn) for _ in range(2 * length)], minlength=48)
        assert (counts[pictures.held_out] == 0).all()
        expected = 2 * np.array([1, 3, 2])[pictures.source]
        assert (counts == np.where(pictures.held_out, 0, expected)).all()

    def test_crops_have_the_asked_size_for_awkward_pictures(self):
        rng = np.random.default_rng(0)
        for shape in ((64, 64), (1, 1), (160, 400), (400, 40)):
            for degrade in (True, False):
                assert random_crop(frame(*shape), 48, degrade=degrade, rng=rng).shape == (48, 48, 3)

    def test_jitter_stays_in_range_and_changes_pictures_differently(self):
        batch = torch.full((2, 3, 4, 4), 200.0)
        jittered = colour_jitter(batch, torch.Generator().manual_seed(0))
        assert jittered.min() >= 0
        assert jittered.max() <= 255
        assert not torch.equal(jittered[0], jittered[1])

    def test_label_loss_ignores_the_other_label_set(self):
        scores = torch.zeros(2, 1097)
        scores[0, 5], scores[0, 1050] = 50.0, 99.0  # an ImageNet picture; 1050 is Caltech's
        scores[1, 1050], scores[1, 5] = 50.0, 99.0
        assert label_loss(scores, torch.tensor([5, 1050]), smoothing=0.0) < 1e-6

    def test_distillation_loss_vanishes_on_the_teachers_logits_up_to_a_constant(self):
        teacher = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
        loss = distillation_loss(teacher + 5, teacher, torch.ones(3), temperature=2.0)
        assert loss.abs() < 1e-5

    def test_corrected_teacher_puts_the_true_class_first_and_keeps_the_values(self):
        logits = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float16)
        labels = np.array([7, 1020, int(logits[2].argmax())])
        corrected = correct_teacher(logits, labels)
        assert corrected[0].argmax() == 7
        assert (np.sort(corrected, axis=1) == np.sort(logits, axis=1)).all()
        assert (corrected[1:] == logits[1:]).all()

    def test_a_short_run_learns_what_is_easy_and_leaves_a_loadable_backbone(self, tmp_path):
        pictures, targets = made_up_pictures()
        recipe = Recipe(batch_size=16, ema_decay=0.8, sizes=((0.0, 32),))
        trainer = Trainer(pictures, targets, recipe, SMALL)
        first = next(iter(trainer.run(4.0)))
        fit(trainer, pictures, targets, budget_seconds=4.0, out=tmp_path)
        last = next(iter(trainer.run(5.0)))
        assert sum(last.values()) < sum(first.values())
        assert CompactVideo.load(tmp_path).config == SMALL

    def test_a_resumed_run_goes_on_from_the_saved_state(self, tmp_path):
        pictures, targets = made_up_pictures()
        trainer = Trainer(pictures, targets, Recipe(batch_size=8, sizes=((0.0, 32),)), SMALL)
        for _ in zip(range(3), trainer.run(60.0), strict=False):
            pass
        trainer.save(tmp_path / "state.pt")
        resumed = Trainer(pictures, targets, trainer.recipe, SMALL)
        resumed.resume(tmp_path / "state.pt")
        assert (resumed.steps, resumed.elapsed_seconds) == (trainer.steps, trainer.elapsed_seconds)
        batch = torch.from_numpy(resumed.backbone().prepare(frame(32, 32)))[None]
        torch.testing.assert_close(
            resumed.backbone().scores(batch), trainer.backbone().scores(batch)
        )

    def test_cached_teacher_answers_to_other_pictures_are_refused(self, tmp_path):
        pictures, targets = made_up_pictures()
        cache = tmp_path / "teacher_targets.npz"
        np.savez(cache, logits=targets.logits[:5], embedding=targets.embedding[:5])
        with pytest.raises(FeatureSetError, match="5 pictures, but there are 48"):
            teacher_targets(pictures, FakeTeacher(), cache)

    def test_teacher_is_asked_once_about_every_picture(self, tmp_path):
        pictures, _ = made_up_pictures()
        teacher, cache = FakeTeacher(), tmp_path / "teacher_targets.npz"
        first = teacher_targets(pictures, teacher, cache)
        asked = teacher.asked
        again = teacher_targets(pictures, teacher, cache)
        assert asked == 16 + 2 * 32  # one view of a square picture, two of others
        assert teacher.asked == asked
        assert (first.logits == again.logits).all()
        brightness = [pixels.mean() for pixels in pictures.pixels]
        assert np.allclose(again.embedding[:, 0], brightness, atol=2)

    def test_schedule_warms_up_and_ends_at_zero_with_the_deployed_size(self):
        recipe = Recipe()
        rates = [recipe.rate(progress) for progress in np.linspace(0, 1, 101)]
        assert rates[0] == 0
        assert max(rates) == pytest.approx(recipe.learning_rate)
        assert rates[-1] == pytest.approx(0, abs=1e-9)
        assert recipe.size(1.0) == CompactVideoConfig().frame_size

    def test_the_report_counts_only_what_each_figure_is_about(self):
        pictures, targets = made_up_pictures()
        report = evaluate_teacher(pictures, targets)
        assert report.thumbnails_top1 == 1.0
        assert report.photographs_agreement == 1.0
        assert report.caltech_top1 is None
        assert "no head" in str(report)
        rows = np.flatnonzero(pictures.held_out | (pictures.source == PHOTOGRAPH))
        scores = np.zeros((len(rows), 1097), np.float32)
        caltech = pictures.source[rows] == CALTECH
        scores[caltech, pictures.labels[rows][caltech]] = 1  # only Caltech is told rightly
        scores[~caltech, 700] = 1
        only_caltech = summarise(scores, pictures, targets, rows)
        assert only_caltech.caltech_top1 == 1.0
        assert only_caltech.photographs_agreement == 0.0
        trained = evaluate(CompactVideo(SMALL), pictures, targets)
        assert trained.thumbnails_top5 == 1.0  # there are only two names
        assert trained.caltech_top1 is not None


@needs_data
class TestData:
    def test_archives_give_a_joint_label_space_and_disjoint_validation(self):
        labels = (DATA / "teachers" / "imagenet_labels.txt").read_text().splitlines()[1:]
        pictures = load_pictures(DATA / "images", tuple(labels))
        assert len(pictures.pixels) == 44_872
        assert len(pictures.names) == 1097
        counts = [
            int(pictures.held_out[pictures.source == kind].sum())
            for kind in (THUMBNAIL, PHOTOGRAPH, CALTECH)
        ]
        assert counts[:2] == [4000, 0]
        assert counts[2] > 700
        tiny = json.loads((DATA / "images" / "tiny_imagenet_classes.json").read_text())
        of_thumbnails = np.unique(pictures.labels[pictures.source == THUMBNAIL])
        by_name = {pictures.names[label] for label in of_thumbnails}
        for entry in tiny.values():
            assert any(entry["name"] in name for name in by_name)
