"""Pictures of a zero-shot report: the space, accuracy by class, beta, confusions. PNG files.

Seen classes are blue circles and unseen ones vermilion triangles throughout: two colours of the
palette by Okabe and Ito, which colour-blind readers tell apart, and never colour alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from model.embedded_samples import EmbeddedSamples, LabelEmbeddings
from model.evaluation import Report
from model.metrics import BetaCurve, Floats, Labels, Mask
from model.vectors import unit_rows

BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"
SEEN_COLOUR, UNSEEN_COLOUR = BLUE, VERMILION
SEEN_BAR: dict[str, Any] = {"facecolor": SEEN_COLOUR, "edgecolor": SEEN_COLOUR}
UNSEEN_BAR: dict[str, Any] = {"facecolor": "white", "edgecolor": UNSEEN_COLOUR, "hatch": "////"}
DPI = 150
STAR_POINTS = 13
BARS_PER_COLUMN = 45
MAP_CLASSES = 12
MAP_SAMPLES_PER_CLASS = 60


def save_plots(
    report: Report,
    samples: EmbeddedSamples,
    labels: LabelEmbeddings,
    curve: BetaCurve | None,
    folder: Path,
) -> tuple[Path, ...]:
    """Write the pictures that the report allows into a folder, which is made; returns their paths.

    Args:
        report: of these samples.
        samples, labels: what the report was made from.
        curve: S, U and HM of both modalities against beta; None where seen or unseen are absent.
        folder: receives space.png, class_accuracy.png, confusions.png and beta.png.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not samples.present("both").any():
        return ()
    figures = {
        "space": plot_space(samples, labels, report.class_names),
        "class_accuracy": plot_class_accuracy(report),
    }
    if report.confusions:
        figures["confusions"] = plot_confusions(report)
    if curve is not None:
        figures["beta"] = plot_beta(curve, report.betas["both"])
    paths = {name: folder / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        figure.savefig(paths[name], dpi=DPI)
    return tuple(paths.values())


# --- the space -----------------------------------------------------------------------------------


def plot_space(
    samples: EmbeddedSamples, labels: LabelEmbeddings, class_names: Sequence[str], seed: int = 0
) -> Figure:
    """Map samples and labels to the plane with t-SNE, class names at the samples' centres.

    Shows the seen and the unseen classes with the most samples, `MAP_CLASSES` of each, and at most
    `MAP_SAMPLES_PER_CLASS` random samples of each: more cannot be read, and t-SNE is slow.
    t-SNE is scikit-learn's, which sentence-transformers installs anyway; UMAP would bring a
    compiler (numba, llvmlite) along.
    """
    rng = np.random.default_rng(seed)
    vectors = joint_vectors(samples)
    present = samples.present("both")
    classes = [
        *_largest_classes(samples.labels[present], labels.seen),
        *_largest_classes(samples.labels[present], ~labels.seen),
    ]
    of_class = [np.flatnonzero(present & (samples.labels == c)) for c in classes]
    rows = [rng.permutation(r)[:MAP_SAMPLES_PER_CLASS] for r in of_class]
    points = np.concatenate([vectors[np.concatenate(rows)], unit_rows(labels.vectors[classes])])
    plane = TSNE(
        init="pca", metric="euclidean", perplexity=min(30, (len(points) - 1) / 3), random_state=seed
    ).fit_transform(points)
    groups = np.split(plane[: -len(classes)], np.cumsum([len(r) for r in rows])[:-1])
    return _draw_space(groups, plane[-len(classes) :], labels.seen[classes], classes, class_names)


def joint_vectors(samples: EmbeddedSamples) -> NDArray[np.float32]:
    """One unit vector a sample, (N, E): the joint one, else the mean of the modalities it has."""
    if samples.both is not None:
        return unit_rows(samples.both)
    total = np.zeros((len(samples.labels), 1), np.float32)
    if samples.audio is not None:
        total = total + unit_rows(samples.audio) * samples.has_audio[:, None]
    if samples.video is not None:
        total = total + unit_rows(samples.video) * samples.has_video[:, None]
    return unit_rows(total)


def _largest_classes(labels: Labels, mask: Mask) -> list[int]:
    counts = np.bincount(labels, minlength=len(mask)) * mask
    largest = np.argsort(-counts, kind="stable")[:MAP_CLASSES]
    return [int(c) for c in largest if counts[c]]


def _draw_space(
    groups: Sequence[Floats],
    label_points: Floats,
    seen: Mask,
    classes: Sequence[int],
    class_names: Sequence[str],
) -> Figure:
    figure, axes = _figure(12, 9.5)
    names = []
    for points, label_point, is_seen, c in zip(groups, label_points, seen, classes, strict=True):
        colour, marker = (SEEN_COLOUR, "o") if is_seen else (UNSEEN_COLOUR, "^")
        centre = np.median(points, axis=0)
        x, y = points.T
        axes.scatter(x, y, s=18, c=colour, marker=marker, alpha=0.35, linewidths=0)
        axes.plot(*np.stack([centre, label_point]).T, c=colour, lw=1, alpha=0.7, zorder=2)
        axes.plot(*label_point, "*", ms=STAR_POINTS, c=colour, mec="black", zorder=5)
        box = {"facecolor": "white", "edgecolor": colour, "alpha": 0.85, "pad": 1.5}
        names.append(
            axes.text(centre[0], centre[1], class_names[c], fontsize=11, bbox=box, zorder=4)
        )
    axes.set(xticks=[], yticks=[])
    axes.margins(0.06)
    axes.set_title(
        f"The shared space (t-SNE): {np.count_nonzero(seen)} seen and {np.count_nonzero(~seen)} "
        "unseen classes with the most samples",
        fontsize=15,
        loc="left",
    )
    handles = [
        Line2D([], [], ls="", marker="o", c=SEEN_COLOUR, label="sample of a seen class"),
        Line2D([], [], ls="", marker="^", c=UNSEEN_COLOUR, label="sample of an unseen class"),
        Line2D(
            [], [], c=GREY, marker="*", mfc="white", mec="black", ms=STAR_POINTS, markevery=[1],
            label="from a class's samples to its text",
        ),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=12)
    figure.draw_without_rendering()  # names are moved by the sizes that they are drawn in
    _move_apart(names, label_points, axes, figure.dpi)
    return figure


def _move_apart(names: list[Text], stars: Floats, axes: Axes, dpi: float) -> None:
    """Move the names off each other and off the stars, (C, 2) in data coordinates."""
    tip = STAR_POINTS / 72 * dpi / 2
    tips = tip * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    pixels = axes.transData.transform(stars)[:, None] + tips
    taken = axes.transData.inverted().transform(pixels.reshape(-1, 2))
    # A limit of steps, not of time: the same data give the same picture.
    adjust_text(names, *taken.T, ax=axes, expand=(1.1, 1.4), force_static=(0.3, 0.6), iter_lim=300)


# --- accuracy by class ---------------------------------------------------------------------------


def plot_class_accuracy(report: Report) -> Figure:
    """Draw bars of every tested class's accuracy from both modalities, sorted, in columns."""
    accuracy = report.accuracy_per_class["both"]
    tested = np.flatnonzero(~np.isnan(accuracy))
    ranked = tested[np.argsort(-accuracy[tested], kind="stable")]
    columns = -(-len(ranked) // BARS_PER_COLUMN)
    bars = -(-len(ranked) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 0.21 * bars + 1.6), layout="constrained")
    for axes, start in zip(
        np.atleast_1d(figure.subplots(1, columns)), range(0, len(ranked), bars), strict=True
    ):
        _draw_bars(axes, report, ranked[start : start + bars], bars)
    figure.suptitle("Accuracy by class, % (audio and video)", fontsize=15, x=0.01, ha="left")
    _bar_legend(figure, "seen in training", "unseen")
    return figure


def _draw_bars(axes: Axes, report: Report, classes: NDArray[np.intp], places: int) -> None:
    accuracy = 100 * report.accuracy_per_class["both"][classes]
    at = np.arange(len(classes))
    for mask, style in ((report.seen[classes], SEEN_BAR), (~report.seen[classes], UNSEEN_BAR)):
        axes.barh(at[mask], accuracy[mask], height=0.75, **style)
    for place, value in zip(at, accuracy, strict=True):
        axes.text(value, float(place), f" {value:.0f}", va="center", fontsize=9)
    axes.set_yticks(at, [report.class_names[c] for c in classes], fontsize=9)
    for name, c in zip(axes.get_yticklabels(), classes, strict=True):
        if not report.seen[c]:
            name.set(color=UNSEEN_COLOUR, style="italic")
    axes.set(xlim=(0, 112), xticks=[0, 50, 100], ylim=(places - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    _clean(axes)


# --- beta ----------------------------------------------------------------------------------------


def plot_beta(curve: BetaCurve, chosen: float) -> Figure:
    """Draw S, U and HM against beta, the chosen one marked."""
    figure, axes = _figure(8, 5)
    for values, colour, style, name in (
        (curve.seen, SEEN_COLOUR, "--", "S, seen"),
        (curve.unseen, UNSEEN_COLOUR, ":", "U, unseen"),
        (curve.harmonic_mean, GREEN, "-", "HM"),
    ):
        axes.plot(curve.betas, 100 * values, style, c=colour, lw=2.5, label=name)
    at_chosen = {
        name: 100 * float(np.interp(chosen, curve.betas, values))
        for name, values in (("S", curve.seen), ("U", curve.unseen), ("HM", curve.harmonic_mean))
    }
    top = 115 * max(curve.seen.max(), curve.unseen.max(), 0.01)
    axes.axvline(chosen, c=GREY, lw=1)
    axes.plot([chosen], [at_chosen["HM"]], "o", c=GREEN, ms=9, mec="black")
    axes.text(
        chosen,
        0.98 * top,
        f"  beta {chosen:.3f}: " + ", ".join(f"{n} {v:.1f}" for n, v in at_chosen.items()),
        va="top",
        ha="left" if chosen < curve.betas.mean() else "right",
        fontsize=12,
    )
    # A beta chosen on other samples may lie beyond the margins of these.
    axes.set_xlim(min(curve.betas[0], chosen), max(curve.betas[-1], chosen))
    axes.set_ylim(0, top)
    axes.set_xlabel("beta, added to the distances of seen classes", fontsize=12)
    axes.set_ylabel("mean class accuracy, %", fontsize=12)
    axes.set_title("Calibrated stacking: seen against unseen", fontsize=15, loc="left")
    axes.legend(frameon=False, fontsize=12)
    _clean(axes)
    return figure


# --- confusions ----------------------------------------------------------------------------------


def plot_confusions(report: Report) -> Figure:
    """Draw bars of the most frequent confusions, the count and the share of the class's samples."""
    confusions = report.confusions
    figure, axes = _figure(10, 0.32 * len(confusions) + 2)
    for at, c in enumerate(confusions):
        axes.barh(at, c.count, height=0.7, **(SEEN_BAR if report.seen[c.true] else UNSEEN_BAR))
        axes.text(c.count, at, f"  {c.count} ({100 * c.share:.0f} %)", va="center", fontsize=11)
    axes.set_yticks(
        range(len(confusions)),
        [
            f"{report.class_names[c.true]} \u2192 {report.class_names[c.predicted]}"
            for c in confusions
        ],
        fontsize=11,
    )
    axes.set(ylim=(len(confusions) - 0.5, -0.5), xlim=(0, 1.25 * confusions[0].count))
    axes.set_xlabel("samples (share of the true class's)", fontsize=12)
    figure.suptitle(
        "Most frequent confusions: true class \u2192 answer", fontsize=15, x=0.01, ha="left"
    )
    _bar_legend(figure, "true class seen in training", "true class unseen")
    _clean(axes)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    # A Figure of its own, not pyplot's: no global state, no window, Agg for PNG.
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _bar_legend(figure: Figure, seen: str, unseen: str) -> None:
    handles = [Patch(label=seen, **SEEN_BAR), Patch(label=unseen, **UNSEEN_BAR)]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, frameon=False, fontsize=12)


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
