import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.backbones.compact_video import CompactVideo, CompactVideoConfig, CompactVideoNetwork
from model.distillation.mobilenet import MobileNetTeacher, TeacherOutput
from model.distillation.pictures import (
    CALTECH,
    PHOTOGRAPH,
    THUMBNAIL,
    Pictures,
    Targets,
    correct_teacher,
    load_pictures,
    teacher_targets,
)
from model.distillation.video import (
    Recipe,
    Trainer,
    distillation_loss,
    embedding_loss,
    epochs,
    fit,
    label_loss,
)
from model.distillation.video_report import evaluate, evaluate_teacher, summarise
from model.errors import FeatureSetError

DATA = Path(__file__).parents[3] / "shared" / "data"
SMALL = CompactVideoConfig(frame_size=32, stem_width=4, stages=((1, 4, 1, 1), (2, 6, 2, 2)), dim=12)
RECIPE = Recipe(batch_size=8, reference_size=32, stages=((0.0, 32, 32, 0),))

needs_data = pytest.mark.skipif(
    not (DATA / "images").is_dir(), reason=f"the pictures {DATA / 'images'} are absent"
)


def frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def start() -> CompactVideoNetwork:
    """Random weights that keep the signal's strength from layer to layer."""
    torch.manual_seed(0)
    network = CompactVideoNetwork(SMALL)
    for weight in network.parameters():
        if weight.dim() > 2:
            torch.nn.init.kaiming_normal_(weight)
    return network


def made_up_pictures() -> tuple[Pictures, Targets]:
    """Two classes of each source, told apart by colour; every fourth picture is held out."""
    rng = np.random.default_rng(0)
    labels = np.repeat([3, 500, 40, 41, 1000, 1001], 8)
    source = np.repeat([THUMBNAIL, PHOTOGRAPH, CALTECH], 16)
    colours = 40 + 160 * np.array([[c >> 2, c >> 1 & 1, c & 1] for c in range(1, 7)])
    pixels = [
        np.clip(rng.normal(colours[row // 8], 8, (32, 32 + 4 * kind, 3)), 0, 255).astype(np.uint8)
        for row, kind in enumerate(source)
    ]
    held_out = (np.arange(48) % 4 == 3) & (source != PHOTOGRAPH)
    names = tuple(f"class {index}" for index in range(1097))
    logits = rng.normal(size=(48, 1000)).astype(np.float16)
    logits[np.arange(48), labels % 1000] += 8
    targets = Targets(logits, rng.normal(size=(48, SMALL.dim)).astype(np.float16))
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

    def test_label_loss_is_among_the_names_of_the_pictures_own_source(self):
        scores = torch.randn(4, 1097, generator=torch.Generator().manual_seed(0))
        labels, source = torch.tensor([40, 7, 1050, 3]), torch.tensor([0, 1, 2, 0])
        tiny, caltech = torch.tensor([3, 40, 900]), torch.arange(1000, 1097)
        loss = label_loss(scores, labels, source, {0: tiny, 2: caltech}, smoothing=0.1)
        expected = 0.0
        for row, classes in ((0, tiny), (2, caltech), (3, tiny)):  # a photograph adds nothing
            logs = scores[row, classes].log_softmax(0)
            expected -= 0.9 * logs[classes == labels[row]].item() + 0.1 * logs.mean().item()
        assert loss.item() == pytest.approx(expected / 4, rel=1e-5)

    def test_label_loss_of_a_batch_without_labelled_sources_is_zero(self):
        loss = label_loss(torch.randn(1, 1097), torch.tensor([7]), torch.tensor([1]), {}, 0.1)
        assert loss == 0

    def test_distillation_loss_vanishes_on_the_teachers_logits_up_to_a_constant(self):
        teacher = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
        loss = distillation_loss(teacher + 5, teacher, torch.ones(3), temperature=2.0)
        assert loss.abs() < 1e-5

    def test_embedding_loss_is_one_less_the_mean_cosine(self):
        features, teacher = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0]] * 2)
        assert embedding_loss(features, teacher).item() == pytest.approx(1 - (0.0 + 0.8) / 2)

    def test_corrected_teacher_puts_the_true_class_first_and_keeps_the_values(self):
        logits = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float16)
        labels = np.array([7, 1020, int(logits[2].argmax())])
        corrected = correct_teacher(logits, labels)
        assert corrected[0].argmax() == 7
        assert (np.sort(corrected, axis=1) == np.sort(logits, axis=1)).all()
        assert (corrected[1:] == logits[1:]).all()

    def test_a_run_learns_what_is_easy(self):
        pictures, targets = made_up_pictures()
        recipe = replace(RECIPE, batch_size=24, learning_rate=0.1)
        trainer = Trainer(pictures, targets, recipe, SMALL, start())
        trainer.elapsed_seconds = 1000.0  # past the warm-up
        losses = [losses["label"] for _, losses in zip(range(20), trainer.run(1e5), strict=False)]
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])

    def test_a_run_leaves_a_loadable_backbone_and_its_report(self, tmp_path):
        pictures, targets = made_up_pictures()
        trainer = Trainer(pictures, targets, RECIPE, SMALL, start())
        report = fit(trainer, pictures, targets, budget_seconds=0.2, out=tmp_path)
        assert trainer.steps > 0
        loaded = CompactVideo.load(tmp_path)
        assert loaded.config == SMALL
        assert report == evaluate(loaded, pictures, targets)

    def test_a_resumed_run_goes_on_from_the_saved_state(self, tmp_path):
        pictures, targets = made_up_pictures()
        trainer = Trainer(pictures, targets, RECIPE, SMALL, start())
        for _ in zip(range(3), trainer.run(60.0), strict=False):
            pass
        trainer.save(tmp_path / "state.pt")
        resumed = Trainer(pictures, targets, RECIPE, SMALL, start())
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

    def test_schedule_warms_up_and_ends_at_zero(self):
        recipe = Recipe()
        rates = [recipe.rate(progress) for progress in np.linspace(0, 1, 101)]
        assert rates[0] == 0
        assert max(rates) == pytest.approx(recipe.learning_rate)
        assert rates[-1] == pytest.approx(0, abs=1e-9)

    def test_stages_follow_the_progress(self):
        recipe = Recipe(stages=((0.0, 8, 16, 0), (0.5, 24, 32, 2)))
        assert recipe.stage(0.0) == recipe.stage(0.49) == (8, 16, 0)
        assert recipe.stage(0.5) == recipe.stage(1.0) == (24, 32, 2)

    @pytest.mark.parametrize("frozen", [0, 2])
    def test_resting_layers_do_not_move_and_all_others_do(self, frozen):
        pictures, targets = made_up_pictures()
        recipe = replace(RECIPE, batch_size=24, stages=((0.0, 32, 32, frozen),))
        trainer = Trainer(pictures, targets, recipe, SMALL, start())
        trainer.elapsed_seconds = 10.0  # the first step of the warm-up has a rate of zero
        next(trainer.run(60.0))
        before, after = start().state_dict(), trainer.student.state_dict()
        resting = ("stem.", "blocks.0.", "blocks.1.") if frozen else ("none",)
        for name, weight in after.items():
            assert torch.equal(weight, before[name]) == name.startswith(resting), name

    def test_a_step_is_relative_to_the_scale_of_its_tensor(self):
        pictures, targets = made_up_pictures()
        trainer = Trainer(pictures, targets, RECIPE, SMALL, start())
        trainer.elapsed_seconds = 10.0
        next(trainer.run(60.0))
        rate = RECIPE.rate(10.0 / 60.0)
        before = start().last.weight
        moved = (trainer.student.last.weight - before).detach().abs().max()
        # Adam's first step is its rate, whatever the gradient.
        expected = rate * before.detach().square().mean().sqrt()
        assert moved.item() == pytest.approx(expected.item(), rel=1e-2)

    def test_the_export_lies_on_the_line_from_the_start_to_the_average(self):
        pictures, targets = made_up_pictures()
        trainer = Trainer(pictures, targets, replace(RECIPE, start_share=0.25), SMALL, start())
        for _ in zip(range(3), trainer.run(60.0), strict=False):
            pass
        average = trainer.average.module.last.weight
        exported = trainer.backbone().network.last.weight
        assert not torch.equal(average, start().last.weight)
        torch.testing.assert_close(exported, 0.25 * start().last.weight + 0.75 * average)

    def test_sharp_pictures_are_held_to_the_network_of_the_start(self):
        pictures, targets = made_up_pictures()
        photographs_alone = replace(RECIPE, copies=(0, 1, 0))
        trainer = Trainer(pictures, targets, photographs_alone, SMALL, start())
        losses = next(trainer.run(60.0))
        assert losses["label"] == 0
        assert 0 < losses["distillation"] < 1e-2  # the same network on nearly the same picture
        assert trainer.reference.training is False
        assert all(
            torch.equal(a, b)
            for a, b in zip(
                trainer.reference.state_dict().values(), start().state_dict().values(), strict=True
            )
        )

    def test_the_report_counts_only_what_each_figure_is_about(self):
        pictures, targets = made_up_pictures()
        report = evaluate_teacher(pictures, targets)
        assert report.thumbnails_top1 == 1.0
        assert report.photographs_agreement == report.caltech_agreement == 1.0
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
        # Its scores of ImageNet's names are all equal, so the first is best: the teacher's, too,
        # of one of the two classes.
        assert only_caltech.caltech_agreement == 0.5
        trained = evaluate(CompactVideo(SMALL), pictures, targets)
        assert trained.thumbnails_top5 == 1.0  # there are only two names
        assert trained.caltech_top1 is not None


@pytest.mark.slow  # decodes 44,872 pictures
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
