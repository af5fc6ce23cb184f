"""Fit the constants of `model.scoring` on held-out samples with true labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.config import Calibration
from model.scoring import similarity_from_distance, standing_out

LIST_SIZES = (3, 10, 100)
"""Lengths of the random candidate lists on which probabilities are fitted, each counting alike."""
AUDIO_SHARES: tuple[float, ...] = tuple(np.linspace(0.05, 0.95, 19).round(2).tolist())
"""Audio's weights that are tried; the rest is the video's."""
GAIN_TOLERANCE = 0.005
"""Accuracy that may be given up for a weight nearer to a half; less is within a set's noise."""
PENALTY = 1e-6
"""Of squared slopes, for each sample: keeps them finite where known and unknown are far apart."""

Floats = NDArray[np.float64]


def fit_probabilities(
    calibration: Calibration, distances: Sequence[Floats], right: Sequence[NDArray[np.bool_]]
) -> Calibration:
    """Return the calibration with temperature and "none of these" fitted.

    Callers name a few candidates more often than none, so both are fitted on random lists of
    several lengths, with a right label and without. The wrong ones are labels of other samples:
    they are of a kind, as names that a person lists together are, and harder to tell apart than any
    two of a vocabulary.

    Args:
        calibration: what stays as it is.
        distances: for each modality, (N, C) of held-out samples to their candidates.
        right: for each modality, (N, C) which candidates are right; at least one a row.
    """
    known, unknown = draw_lists(distances, right)
    if not known:  # one label is right for every sample: nothing can be learnt of wrong ones
        return calibration
    temperature = fit_temperature(known, [np.arange(d.shape[1]) == 0 for d in known])
    offset, slope, contrast = fit_unknown(known, unknown)
    return replace(
        calibration,
        temperature=temperature,
        unknown_offset=offset,
        unknown_slope=slope,
        unknown_contrast=contrast,
    )


def draw_lists(
    distances: Sequence[Floats], right: Sequence[NDArray[np.bool_]]
) -> tuple[list[Floats], list[Floats]]:
    """Distances (N, K) to random lists of K candidates, for each modality and length of list.

    The first candidate of the first result's lists is right and the others are wrong; those of the
    second are all wrong. Lists are shorter where there are too few labels, and absent where no
    wrong one is left.
    """
    rng = np.random.default_rng(0)
    known, unknown = [], []
    for distance, is_right in zip(distances, right, strict=True):
        borne = is_right.any(axis=0)
        of_borne, right_borne = distance[:, borne], is_right[:, borne]
        most = int((~right_borne).sum(axis=1).min())
        for size in sorted({min(size, most) for size in LIST_SIZES} - {0}):
            wrong = [rng.permutation(np.flatnonzero(~r))[:size] for r in right_borne]
            first = [rng.choice(np.flatnonzero(r)) for r in right_borne]
            unknown.append(np.take_along_axis(of_borne, np.array(wrong), axis=1))
            with_right = np.column_stack([first, np.array(wrong)[:, 1:]])
            known.append(np.take_along_axis(of_borne, with_right, axis=1))
    return known, unknown


def fit_temperature(distances: Sequence[Floats], right: Sequence[NDArray[np.bool_]]) -> float:
    """Temperature with the least negative log-likelihood of any right label.

    Every set of distances counts alike, however many samples it has. `right` is (N, C), or (C,)
    where it is the same for all samples of a set.
    """
    grid = np.geomspace(0.005, 0.5, 60)
    return float(grid[np.argmin([_negative_log_likelihood(distances, right, t) for t in grid])])


def _negative_log_likelihood(
    distances: Sequence[Floats], right: Sequence[NDArray[np.bool_]], temperature: float
) -> float:
    means = []
    for distance, is_right in zip(distances, right, strict=True):
        logits = -distance / temperature
        log_all = np.logaddexp.reduce(logits, axis=1)
        log_right = np.logaddexp.reduce(np.where(is_right, logits, -np.inf), axis=1)
        means.append(np.mean(log_all - log_right))
    return float(np.mean(means))


def fit_unknown(known: Sequence[Floats], unknown: Sequence[Floats]) -> tuple[float, float, float]:
    """Offset, slope and contrast of P(unknown) = logistic(offset - slope * standing_out).

    Args:
        known, unknown: pairs of lists, (N, K) distances each, as `draw_lists` returns them.
    """
    evidence, is_unknown, weights = [], [], []
    for lists, answer in ((known, False), (unknown, True)):
        for distance in lists:
            evidence.append(_best_and_others(similarity_from_distance(distance)))
            is_unknown.append(np.full(len(distance), answer))
            weights.append(np.full(len(distance), 1 / len(distance)))
    offset, slope, others = fit_logistic(
        np.concatenate(evidence), np.concatenate(is_unknown), np.concatenate(weights)
    )
    return offset, slope, -others / slope


def _best_and_others(similarity: Floats) -> Floats:
    """Best similarity and the mean of the others, (N, 2)."""
    best = standing_out(similarity, 0.0)
    return np.stack([best, best - standing_out(similarity, 1.0)], axis=1)


def fit_logistic(
    evidence: Floats, unknown: NDArray[np.bool_], weights: Floats
) -> tuple[float, ...]:
    """Newton's method for P = logistic(offset - slopes @ evidence); returns offset and K slopes.

    Args:
        evidence: (N, K).
        unknown: (N,) the outcomes.
        weights: (N,) how much each sample counts.
    """
    design = np.column_stack([np.ones(len(evidence)), -evidence])
    share = weights / weights.mean()
    penalty = PENALTY * len(design) * np.eye(design.shape[1])
    fitted = np.zeros(design.shape[1])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-design @ fitted))
        gradient = design.T @ (share * (probability - unknown)) + penalty @ fitted
        curvature = (design * (share * probability * (1 - probability))[:, None]).T @ design
        fitted -= np.linalg.solve(curvature + penalty, gradient)
    return tuple(fitted.tolist())


@dataclass(frozen=True)
class Pairs:
    """Sounds and pictures of the same things: distances (N, C) by each modality, (N,) the right."""

    audio: Floats
    video: Floats
    true: NDArray[np.int64]

    def accuracy(self, audio_share: float) -> float:
        """Share of pairs named rightly where audio weighs this much of 1."""
        fused = audio_share * self.audio + (1 - audio_share) * self.video
        return float(np.mean(fused.argmin(axis=1) == self.true))


def fit_audio_weight(sets: Sequence[Pairs]) -> float:
    """Audio's share of the fused distance, such that both modalities are no worse than one.

    It is the share with the largest gain over the better modality alone, in the set of pairs where
    that gain is least; of those within `GAIN_TOLERANCE` of it, the nearest to a half, because some
    clips show better than they sound.
    """

    def least_gain(share: float) -> float:
        return min(p.accuracy(share) - max(p.accuracy(0.0), p.accuracy(1.0)) for p in sets)

    gains = {share: least_gain(share) for share in AUDIO_SHARES}
    good_enough = [s for s in AUDIO_SHARES if gains[s] >= max(gains.values()) - GAIN_TOLERANCE]
    return min(good_enough, key=lambda share: abs(share - 0.5))
