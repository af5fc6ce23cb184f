"""Fit the constants of `model.scoring` on held-out samples with true labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.config import Calibration
from model.scoring import similarity_from_distance

CANDIDATES = 10
"""Size of the random candidate lists on which "none of these" is fitted."""

Floats = NDArray[np.float64]


def fit_probabilities(
    calibration: Calibration, distances: Sequence[Floats], right: Sequence[NDArray[np.bool_]]
) -> Calibration:
    """Return the calibration with temperature and "none of these" fitted.

    Args:
        calibration: what stays as it is.
        distances: for each modality, (N, C) of held-out samples to their candidates.
        right: for each modality, (N, C) which candidates are right; at least one a row.
    """
    temperature = fit_temperature(distances, right)
    offset, slope = fit_unknown(distances, right)
    return replace(calibration, temperature=temperature, unknown_offset=offset, unknown_slope=slope)


def fit_temperature(distances: Sequence[Floats], right: Sequence[NDArray[np.bool_]]) -> float:
    """Temperature with the least negative log-likelihood of any right label.

    Every modality counts alike, however many samples it has.
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


def fit_unknown(
    distances: Sequence[Floats], right: Sequence[NDArray[np.bool_]]
) -> tuple[float, float]:
    """Offset and slope of P(unknown) = logistic(offset - slope * best similarity).

    Each sample is shown two random candidate lists, one with a right label and one without.
    """
    rng = np.random.default_rng(0)
    best, unknown = [], []
    for distance, is_right in zip(distances, right, strict=True):
        for row_distance, row_right in zip(distance, is_right, strict=True):
            wrong_ones = np.flatnonzero(~row_right)
            wrong = rng.choice(wrong_ones, min(CANDIDATES, len(wrong_ones)), replace=False)
            nearest_right = row_distance[row_right].min()
            nearest_wrong = row_distance[wrong]
            if not len(wrong):
                continue
            best += [min(nearest_right, *nearest_wrong[1:]), nearest_wrong.min()]
            unknown += [False, True]
    return fit_logistic(similarity_from_distance(np.array(best)), np.array(unknown))


def fit_logistic(similarity: Floats, unknown: NDArray[np.bool_]) -> tuple[float, float]:
    """Newton's method for P = logistic(offset - slope * similarity): (N,), (N,) bool."""
    design = np.stack([np.ones_like(similarity), -similarity], axis=1)
    weights = np.zeros(2)
    for _ in range(50):
        probability = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (probability - unknown)
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design
        weights -= np.linalg.solve(curvature + 1e-6 * np.eye(2), gradient)
    return float(weights[0]), float(weights[1])
