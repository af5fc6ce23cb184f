"""The pictures: what is drawn, and that files come out; how they look was judged by eye."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from model.config import Calibration
from model.embedded_samples import EmbeddedSamples, LabelEmbeddings
from model.evaluation import Report, evaluate
from model.metrics import BetaCurve
from model.plots import (
    BARS_PER_COLUMN,
    MAP_CLASSES,
    joint_vectors,
    plot_beta,
    plot_class_accuracy,
    plot_confusions,
    plot_space,
    save_plots,
)
from model.stacking import betas_of, choose_betas


def toys(
    classes: int = 6, per_class: int = 8, seen: int = 3
) -> tuple[EmbeddedSamples, LabelEmbeddings, Report]:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((classes, 5)).astype(np.float32)
    labels = np.repeat(np.arange(classes), per_class)
    audio, video = (
        (vectors[labels] + rng.standard_normal((len(labels), 5))).astype(np.float32)
        for _ in range(2)
    )
    every = np.ones(len(labels), bool)
    samples = EmbeddedSamples(audio, video, None, every, every, labels)
    label_embeddings = LabelEmbeddings(vectors, np.arange(classes) < seen)
    report = evaluate(
        samples,
        label_embeddings,
        class_names=[f"class {c}" for c in range(classes)],
        betas=betas_of(Calibration()),
        calibration=Calibration(),
    )
    return samples, label_embeddings, report


def texts(figure: Figure) -> list[str]:
    """Every text in a figure's axes, its own titles and the names of ticks included."""
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        found += [t.get_text() for t in (*axes.texts, *axes.get_yticklabels())]
        found += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
    return [*found, figure.get_suptitle()]


def test_every_picture_is_written_as_a_png_large_enough_to_read(tmp_path: Path) -> None:
    samples, labels, report = toys()
    curve = choose_betas(samples, labels, Calibration()).curves["both"]

    paths = save_plots(report, samples, labels, curve, tmp_path / "made" / "here")

    assert {p.name for p in paths} == {
        "space.png", "class_accuracy.png", "confusions.png", "beta.png"
    }  # fmt: skip
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert picture.width >= 600
            assert picture.convert("L").getextrema()[0] < 50  # something is drawn in it


def test_no_curve_and_no_confusion_mean_no_such_picture(tmp_path: Path) -> None:
    samples, labels, report = toys(per_class=2)

    paths = save_plots(replace(report, confusions=()), samples, labels, None, tmp_path)

    assert {p.name for p in paths} == {"space.png", "class_accuracy.png"}


def test_without_a_sample_that_can_be_placed_nothing_is_drawn(tmp_path: Path) -> None:
    samples, labels, report = toys()
    silent = replace(samples, has_audio=~samples.has_audio, has_video=~samples.has_video)

    assert save_plots(report, silent, labels, None, tmp_path) == ()


def test_the_map_names_the_largest_seen_and_unseen_classes() -> None:
    classes = 3 * MAP_CLASSES
    samples, labels, report = toys(classes=classes, per_class=2, seen=MAP_CLASSES)
    # The last MAP_CLASSES classes have one sample more than the other unseen ones.
    more = np.flatnonzero(samples.labels >= 2 * MAP_CLASSES)[::2]
    rows = np.concatenate([np.arange(len(samples.labels)), more])
    assert samples.audio is not None
    assert samples.video is not None
    grown = EmbeddedSamples(
        samples.audio[rows], samples.video[rows], None,
        samples.has_audio[rows], samples.has_video[rows], samples.labels[rows],
    )  # fmt: skip

    figure = plot_space(grown, labels, report.class_names)

    named = {t for t in texts(figure) if t.startswith("class ")}
    largest = [*range(MAP_CLASSES), *range(2 * MAP_CLASSES, classes)]
    assert named == {f"class {c}" for c in largest}
    assert f"{MAP_CLASSES} seen and {MAP_CLASSES} unseen" in figure.axes[0].get_title(loc="left")


def test_the_same_data_give_the_same_map() -> None:
    samples, labels, report = toys()

    def positions() -> NDArray[np.float64]:
        axes = plot_space(samples, labels, report.class_names).axes[0]
        return np.array([t.get_position() for t in axes.texts])

    np.testing.assert_array_equal(positions(), positions())


@pytest.mark.parametrize("seen", [0, 1])
def test_a_map_of_one_class_with_one_sample_can_be_drawn(seen: int) -> None:
    samples, labels, report = toys(classes=1, per_class=1, seen=seen)

    assert "class 0" in texts(plot_space(samples, labels, report.class_names))


def test_a_sample_lies_at_the_mean_of_the_modalities_that_it_has() -> None:
    audio = np.array([[2.0, 0.0], [3.0, 0.0], [1.0, 0.0]], np.float32)
    video = np.array([[0.0, 5.0], [0.0, 1.0], [0.0, 1.0]], np.float32)
    samples = EmbeddedSamples(
        audio, video, None,
        np.array([True, True, False]), np.array([True, False, True]), np.zeros(3, np.int64),
    )  # fmt: skip

    half = np.sqrt(0.5)
    np.testing.assert_allclose(joint_vectors(samples), [[half, half], [1, 0], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(
        joint_vectors(replace(samples, both=video)), [[0, 1], [0, 1], [0, 1]]
    )


def test_bars_are_sorted_over_columns_and_every_tested_class_has_one() -> None:
    _, _, report = toys(classes=BARS_PER_COLUMN + 10, per_class=2)

    figure = plot_class_accuracy(report)

    widths = [p.get_width() for axes in figure.axes for p in _by_place(axes.patches)]
    expected = 100 * report.accuracy_per_class["both"]
    np.testing.assert_allclose(widths, np.sort(expected)[::-1])
    assert len(figure.axes) == 2
    assert {t for t in texts(figure) if t.startswith("class ")} == set(report.class_names)


def _by_place(bars: list) -> list:  # type: ignore[type-arg]
    return sorted(bars, key=lambda bar: bar.get_y())


def test_a_class_without_samples_has_no_bar() -> None:
    samples, labels, _ = toys()
    rows = samples.labels != 2
    assert samples.audio is not None
    fewer = EmbeddedSamples(
        samples.audio[rows], None, None,
        samples.has_audio[rows], samples.has_video[rows], samples.labels[rows],
    )  # fmt: skip
    report = evaluate(
        fewer,
        labels,
        class_names=[f"class {c}" for c in range(6)],
        betas=betas_of(Calibration()),
        calibration=Calibration(),
    )

    assert "class 2" not in texts(plot_class_accuracy(report))


def test_the_chosen_beta_is_marked_with_its_figures() -> None:
    betas = np.array([0.0, 0.5, 1.0])
    curve = BetaCurve(
        betas, np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.3, 0.4]), np.array([0.0, 0.4, 0.0])
    )

    figure = plot_beta(curve, 0.5)

    assert [t.strip() for t in texts(figure) if "HM" in t] == [
        "beta 0.500: S 60.0, U 30.0, HM 40.0"
    ]
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == ["S, seen", "U, unseen", "HM"]


def test_a_chosen_beta_beyond_the_curve_is_still_in_the_picture() -> None:
    nothing = np.zeros(2)

    axes = plot_beta(BetaCurve(np.array([0.0, 1.0]), nothing, nothing, nothing), 3.0).axes[0]

    assert axes.get_xlim() == (0.0, 3.0)
    assert axes.get_ylim()[1] > 0


def test_confusions_are_named_with_counts_and_shares_worst_first() -> None:
    _, _, report = toys()

    figure = plot_confusions(report)

    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert names[0] == (
        f"class {report.confusions[0].true} \u2192 class {report.confusions[0].predicted}"
    )
    assert len(names) == len(report.confusions)
    worst = report.confusions[0]
    assert f"  {worst.count} ({100 * worst.share:.0f} %)" in texts(figure)
