"""The figures of (generalised) zero-shot learning, each a pure function of distances and labels.

Shapes: N samples, C classes, Q queries. `distances` are (N, C) or (Q, N), smaller is nearer;
`labels` are (N,) int64 in [0, C); `seen` is (C,) bool. Figures are fractions in [0, 1]; a figure
that no sample speaks of is None (NaN inside an array), never zero.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Distances = NDArray[np.floating]
Labels = NDArray[np.int64]
Mask = NDArray[np.bool_]

CALIBRATION_BINS = 15
BETA_STEPS = 200

# --- accuracy ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeenUnseen:
    """The four figures of the AVCA-GZSL protocol (Mercea et al., CVPR 2022, section 4.1).

    Attributes:
        seen, unseen: S and U, mean class accuracy of the samples of seen and of unseen classes,
            every class a candidate.
        harmonic_mean: HM of the two.
        zero_shot: ZSL, mean class accuracy of the unseen classes' samples among those alone.
    """

    seen: float | None
    unseen: float | None
    harmonic_mean: float | None
    zero_shot: float | None


def nearest_classes(distances: Distances, seen: Mask, beta: float = 0.0) -> Labels:
    """Nearest class of each sample, (N,), after calibrated stacking: beta is added to seen ones."""
    return np.asarray((distances + beta * seen).argmin(axis=1), dtype=np.int64)


def per_class_accuracy(predicted: Labels, labels: Labels, class_count: int) -> Floats:
    """Share of each class's samples that were given that class, (C,); NaN where it has none."""
    return _class_means(predicted == labels, labels, class_count)


def mean_class_accuracy(predicted: Labels, labels: Labels, classes: Mask) -> float | None:
    """Mean of the accuracies of the classes in the mask (C,) that have samples; None of none."""
    return _mean_or_none(per_class_accuracy(predicted, labels, len(classes))[classes])


def harmonic_mean(seen: float | None, unseen: float | None) -> float | None:
    """2 S U / (S + U); 0 where either is 0, None where either is absent."""
    if seen is None or unseen is None:
        return None
    return 2 * seen * unseen / (seen + unseen) if seen + unseen > 0 else 0.0


def seen_unseen_report(
    distances: Distances, labels: Labels, seen: Mask, beta: float = 0.0
) -> SeenUnseen:
    """S, U, HM and ZSL at one beta."""
    predicted = nearest_classes(distances, seen, beta)
    seen_accuracy = mean_class_accuracy(predicted, labels, seen)
    unseen_accuracy = mean_class_accuracy(predicted, labels, ~seen)
    return SeenUnseen(
        seen=seen_accuracy,
        unseen=unseen_accuracy,
        harmonic_mean=harmonic_mean(seen_accuracy, unseen_accuracy),
        zero_shot=zero_shot_accuracy(distances, labels, seen),
    )


def zero_shot_accuracy(distances: Distances, labels: Labels, seen: Mask) -> float | None:
    """ZSL: mean class accuracy of unseen classes' samples, with unseen candidates only."""
    rows = ~seen[labels]
    if not rows.any():
        return None
    among_unseen = distances[np.ix_(rows, ~seen)].argmin(axis=1)
    return mean_class_accuracy(np.flatnonzero(~seen)[among_unseen], labels[rows], ~seen)


def class_mean(values: NDArray[np.generic], labels: Labels) -> float | None:
    """Mean over classes of the mean of their samples' values (N,), so that all count alike."""
    return _mean_or_none(_class_means(values, labels, int(labels.max(initial=-1)) + 1))


def _class_means(values: NDArray[np.generic], labels: Labels, class_count: int) -> Floats:
    counts = np.bincount(labels, minlength=class_count)
    sums = np.bincount(labels, weights=values.astype(np.float64), minlength=class_count)
    means = np.full(class_count, np.nan)
    return np.asarray(np.divide(sums, counts, out=means, where=counts > 0))


def _mean_or_none(values: Floats) -> float | None:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else None


# --- calibrated stacking -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BetaCurve:
    """S, U and HM, each (B,) float64, at every one of B betas."""

    betas: Floats
    seen: Floats
    unseen: Floats
    harmonic_mean: Floats


def beta_grid(distances: Distances, seen: Mask, steps: int = BETA_STEPS) -> Floats:
    """Betas worth trying, ascending: evenly over the margins between unseen and seen, and zero.

    A sample changes from a seen to an unseen class where beta passes its margin, the distance to
    the nearest unseen class less that to the nearest seen one. The grid therefore fits distances of
    any scale; the outermost 0.5 % of margins would stretch it for nothing.

    Raises:
        ValueError: there is no seen or no unseen candidate to weigh.
    """
    seen_distance, unseen_distance = _best_of_both(distances, seen)[:2]
    low, high = np.quantile(unseen_distance - seen_distance, [0.005, 0.995])
    return np.union1d(np.linspace(low, high, steps), [0.0])


def sweep_beta(distances: Distances, labels: Labels, seen: Mask, betas: Floats) -> BetaCurve:
    """S, U and HM at every beta, exactly, from each sample's nearest seen and unseen class alone.

    Beta moves all seen classes together, so it never changes which of them is nearest.

    Raises:
        ValueError: samples or candidates are all seen or all unseen: all betas are alike.
    """
    of_seen = seen[labels]
    if of_seen.all() or not of_seen.any():
        raise ValueError("a beta is chosen on samples of seen and of unseen classes; one is absent")
    seen_distance, unseen_distance, nearest_seen, nearest_unseen = _best_of_both(distances, seen)
    stacked = seen_distance[:, None] + betas  # (N, B)
    # Equal distances go to the first class, as argmin has it.
    seen_wins = (stacked < unseen_distance[:, None]) | (
        (stacked == unseen_distance[:, None]) & (nearest_seen < nearest_unseen)[:, None]
    )
    seen_right = _class_weights(labels, of_seen & (nearest_seen == labels), of_seen)
    unseen_right = _class_weights(labels, ~of_seen & (nearest_unseen == labels), ~of_seen)
    seen_accuracy, unseen_accuracy = seen_right @ seen_wins, unseen_right @ ~seen_wins
    total = seen_accuracy + unseen_accuracy
    product = 2 * seen_accuracy * unseen_accuracy
    means = np.divide(product, total, out=np.zeros_like(total), where=total > 0)
    return BetaCurve(betas, seen_accuracy, unseen_accuracy, means)


def choose_beta(curve: BetaCurve) -> float:
    """Beta of the largest HM; of equals, the one nearest to zero."""
    # Accuracies are sums of shares: what differs by rounding alone is equal.
    best = np.flatnonzero(
        np.isclose(curve.harmonic_mean, curve.harmonic_mean.max(), rtol=0, atol=1e-12)
    )
    return float(curve.betas[best[np.abs(curve.betas[best]).argmin()]])


def _best_of_both(distances: Distances, seen: Mask) -> tuple[Floats, Floats, Labels, Labels]:
    """Distances to, and indices of, the nearest seen and the nearest unseen class: 4 x (N,)."""
    if seen.all() or not seen.any():
        raise ValueError("calibrated stacking weighs seen against unseen classes; one is absent")
    seen_classes, unseen_classes = np.flatnonzero(seen), np.flatnonzero(~seen)
    of_seen, of_unseen = distances[:, seen], distances[:, ~seen]
    return (
        of_seen.min(axis=1).astype(np.float64),
        of_unseen.min(axis=1).astype(np.float64),
        seen_classes[of_seen.argmin(axis=1)],
        unseen_classes[of_unseen.argmin(axis=1)],
    )


def _class_weights(labels: Labels, right: Mask, rows: Mask) -> Floats:
    """What each right sample adds to the mean class accuracy over `rows`, (N,); 0 elsewhere."""
    counts = np.bincount(labels[rows], minlength=int(labels.max()) + 1)
    return np.where(right, 1 / (np.maximum(counts, 1)[labels] * np.count_nonzero(counts)), 0.0)


# --- retrieval -----------------------------------------------------------------------------------


def average_precision(distances: Distances, relevant: Mask) -> float | None:
    """Mean precision at the rank of every relevant one of N items; None where none is relevant.

    Items at equal distances share the last rank of their group, so that the figure does not depend
    on the order of the items.
    """
    if not relevant.any():
        return None
    relevant_distances = np.sort(distances[relevant])
    within_all = np.searchsorted(np.sort(distances), relevant_distances, side="right")
    within_relevant = np.searchsorted(relevant_distances, relevant_distances, side="right")
    return float(np.mean(within_relevant / within_all))


def average_precisions(distances: Distances, query_labels: Labels, item_labels: Labels) -> Floats:
    """Average precision of each query, (Q,); NaN where no item has the query's class.

    Args:
        distances: (Q, N) from queries to items. For many queries call this block by block.
        query_labels: (Q,); an item is relevant where its class is the query's.
        item_labels: (N,).
    """
    precisions = (
        average_precision(row, item_labels == label)
        for row, label in zip(distances, query_labels, strict=True)
    )
    return np.array([np.nan if p is None else p for p in precisions], dtype=np.float64)


def mean_average_precision(precisions: Floats, query_labels: Labels) -> float | None:
    """Mean over classes of their queries' average precisions (Q,); queries with NaN do not count.

    Averaged by class like every accuracy here, or the largest classes alone would decide.
    """
    answered = ~np.isnan(precisions)
    return class_mean(precisions[answered], query_labels[answered])


def chance_average_precision(relevant: int, items: int) -> float:
    """Expected average precision of a random order, for 1 <= relevant <= items.

    Rank k holds a relevant item with chance R / N, and then on average (k - 1) (R - 1) / (N - 1)
    of those before it are relevant too; the mean of the precisions over all k is this.
    """
    harmonic = float(np.sum(1 / np.arange(1, items + 1)))
    rest = (relevant - 1) / max(items - 1, 1)
    return (harmonic + rest * (items - harmonic)) / items


# --- trust ---------------------------------------------------------------------------------------


def expected_calibration_error(
    confidence: NDArray[np.floating], right: Mask, bins: int = CALIBRATION_BINS
) -> float | None:
    """Mean gap between confidence and accuracy over equal-width bins (Guo et al., ICML 2017).

    Args:
        confidence: (N,) probability in [0, 1] of each answer.
        right: (N,) whether the answer was right.
        bins: how many; each counts by its samples.
    """
    if not confidence.size:
        return None
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(which, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / confidence.size)


def roc_auc(scores: NDArray[np.floating], positive: Mask) -> float | None:
    """Chance that a random positive scores above a random negative; equal scores count half.

    None where either kind is absent.
    """
    positives, negatives = scores[positive], np.sort(scores[~positive])
    if not positives.size or not negatives.size:
        return None
    below = np.searchsorted(negatives, positives, side="left")
    not_above = np.searchsorted(negatives, positives, side="right")
    return float((below + not_above).mean() / (2 * negatives.size))


def false_positive_rate(
    scores: NDArray[np.floating], positive: Mask, *, true_positive_rate: float = 0.95
) -> float | None:
    """Share of negatives that score as high as the stated share of positives does at least.

    The threshold is the highest that as many positives reach ("FPR at 95 % TPR", Liang et al.,
    ODIN, ICLR 2018). None where either kind is absent.
    """
    positives, negatives = np.sort(scores[positive])[::-1], scores[~positive]
    if not positives.size or not negatives.size:
        return None
    threshold = positives[math.ceil(true_positive_rate * positives.size) - 1]
    return float((negatives >= threshold).mean())


# --- confusions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many samples of class `true` were taken for `predicted`, and their share of `true`."""

    true: int
    predicted: int
    count: int
    share: float


def worst_confusions(predicted: Labels, labels: Labels, top: int = 20) -> tuple[Confusion, ...]:
    """Pairs of a class and a wrong answer with the most samples first; of equals, larger shares."""
    wrong = predicted != labels
    pairs, counts = np.unique(
        np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True
    )
    shares = counts / np.bincount(labels)[pairs[:, 0]] if pairs.size else counts
    order = np.lexsort((-shares, -counts))[:top]
    return tuple(
        Confusion(int(pairs[i, 0]), int(pairs[i, 1]), int(counts[i]), float(shares[i]))
        for i in order
    )
