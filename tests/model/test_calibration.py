"""Fitting recovers what the samples were drawn from."""

import numpy as np
import pytest

from model.calibration import fit_logistic, fit_temperature


def test_the_logistic_fit_recovers_its_parameters() -> None:
    rng = np.random.default_rng(0)
    similarity = rng.uniform(-0.2, 0.8, 40_000)
    unknown = rng.random(40_000) < 1 / (1 + np.exp(-(3.0 - 12.0 * similarity)))

    offset, slope = fit_logistic(similarity, unknown)

    assert offset == pytest.approx(3.0, rel=0.05)
    assert slope == pytest.approx(12.0, rel=0.05)


def test_the_temperature_fit_recovers_the_one_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    distances = rng.uniform(0.5, 1.5, (4_000, 8))
    logits = -distances / 0.1 + rng.gumbel(size=distances.shape)  # argmax samples the softmax
    right = logits.argmax(axis=1)[:, None] == np.arange(8)

    assert fit_temperature([distances], [right]) == pytest.approx(0.1, rel=0.1)


def test_modalities_count_alike_whatever_their_sizes() -> None:
    rng = np.random.default_rng(0)
    distances = rng.uniform(0.5, 1.5, (2_000, 8))
    sharp = distances.argmin(axis=1)[:, None] == np.arange(8)  # always the nearest: cold
    vague = rng.integers(8, size=2_000)[:, None] == np.arange(8)  # any: hot
    once = fit_temperature([distances, distances], [sharp, vague])
    doubled = fit_temperature(
        [np.tile(distances, (5, 1)), distances], [np.tile(sharp, (5, 1)), vague]
    )

    assert doubled == pytest.approx(once)
