"""Fit the constants of `model.scoring` on held-out samples with true labels."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.config import Calibration
from model.distillation.tables import Table
from model.scoring import distance_from_similarity, similarity_from_distance

CANDIDATES = 10
"""Size of the random candidate lists on which "none of these" is fitted."""

Floats = NDArray[np.float64]


def fit_calibration(
    embeddings: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.float32],
    tables: Mapping[str, Table],
) -> Calibration:
    """Fit temperature and "none of these" on the held-out, truly labelled rows of both modalities.

    Args:
        embeddings: modality -> (N, E), unit length.
        labels: (C, E), unit length.
        tables: modality -> targets of the same N rows.
    """
    distances, right = [], []
    for name, table in tables.items():
        rows = table.held_out & table.labelled
        similarity = embeddings[name][rows] @ labels[table.columns].T
        distances.append(distance_from_similarity(similarity))
        right.append(table.targets[rows] > 0)
    temperature = fit_temperature(distances, right)
    offset, slope = fit_unknown(distances, right)
    return replace(
        Calibration(), temperature=temperature, unknown_offset=offset, unknown_slope=slope
    )


def fit_temperature(distances: list[Floats], right: list[NDArray[np.bool_]]) -> float:
    """Temperature with the least negative log-likelihood of any right label.

    Every modality counts alike, however many samples it has.
    """
    grid = np.geomspace(0.005, 0.5, 60)
    return float(grid[np.argmin([_negative_log_likelihood(distances, right, t) for t in grid])])


def _negative_log_likelihood(
    distances: list[Floats], right: list[NDArray[np.bool_]], temperature: float
) -> float:
    means = []
    for distance, is_right in zip(distances, right, strict=True):
        logits = -distance / temperature
        log_all = np.logaddexp.reduce(logits, axis=1)
        log_right = np.logaddexp.reduce(np.where(is_right, logits, -np.inf), axis=1)
        means.append(np.mean(log_all - log_right))
    return float(np.mean(means))


def fit_unknown(distances: list[Floats], right: list[NDArray[np.bool_]]) -> tuple[float, float]:
    """Offset and slope of P(unknown) = logistic(offset - slope * best similarity).

    Each sample is shown two random candidate lists, one with a right label and one without.
    """
    rng = np.random.default_rng(0)
    best, unknown = [], []
    for distance, is_right in zip(distances, right, strict=True):
        for row_distance, row_right in zip(distance, is_right, strict=True):
            wrong = rng.choice(np.flatnonzero(~row_right), CANDIDATES, replace=False)
            nearest_right = row_distance[row_right].min()
            nearest_wrong = row_distance[wrong]
            best += [min(nearest_right, nearest_wrong[1:].min()), nearest_wrong.min()]
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
