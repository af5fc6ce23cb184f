"""Fitting recovers what the samples were drawn from."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from model.calibration import (
    LIST_SIZES,
    Pairs,
    draw_lists,
    fit_audio_weight,
    fit_logistic,
    fit_probabilities,
    fit_temperature,
)
from model.config import Calibration
from model.scoring import distance_from_similarity


def test_the_logistic_fit_recovers_its_parameters() -> None:
    rng = np.random.default_rng(0)
    evidence = rng.uniform(-0.2, 0.8, (40_000, 2))
    logit = 3.0 - 12.0 * evidence[:, 0] + 5.0 * evidence[:, 1]
    unknown = rng.random(40_000) < 1 / (1 + np.exp(-logit))

    fitted = fit_logistic(evidence, unknown, np.ones(40_000))

    assert fitted == pytest.approx((3.0, 12.0, -5.0), rel=0.06)


def test_the_logistic_fit_is_that_of_scikit_learn_with_sample_weights() -> None:
    rng = np.random.default_rng(1)
    evidence, weights = rng.normal(size=(500, 2)), rng.uniform(0.1, 3.0, 500)
    unknown = evidence[:, 0] + rng.normal(size=500) < 0.2
    twin = LogisticRegression(C=1e6, tol=1e-8).fit(evidence, unknown, weights)

    offset, *slopes = fit_logistic(evidence, unknown, weights)

    assert offset == pytest.approx(twin.intercept_[0], abs=1e-3)
    assert slopes == pytest.approx((-twin.coef_[0]).tolist(), abs=1e-3)


def test_slopes_stay_finite_where_known_and_unknown_are_far_apart() -> None:
    evidence = np.array([[0.9], [0.8], [0.1], [0.0]])

    fitted = fit_logistic(evidence, np.array([False, False, True, True]), np.ones(4))

    assert np.isfinite(fitted).all()
    assert fitted[1] > 0


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


def labelled_samples(n: int, classes: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n, classes) of noisy samples to orthogonal labels, and which label is right."""
    rng = np.random.default_rng(2)
    true = rng.integers(classes, size=n)
    samples = np.eye(classes)[true] + noise * rng.standard_normal((n, classes))
    samples /= np.linalg.norm(samples, axis=1, keepdims=True)
    return distance_from_similarity(samples), true[:, None] == np.arange(classes)


def test_lists_hold_a_right_label_first_or_none_at_all() -> None:
    distance, right = labelled_samples(200, 30, 0.1)
    marked = distance + 10.0 * right  # only a right label is far

    known, unknown = draw_lists([marked], [right])

    assert [d.shape[1] for d in known] == [d.shape[1] for d in unknown] == [3, 10, 29]
    for with_right, without in zip(known, unknown, strict=True):
        assert (with_right[:, 0] > 9).all()
        assert (with_right[:, 1:] < 9).all()
        assert (without < 9).all()


def test_wrong_candidates_are_labels_that_other_samples_bear() -> None:
    distance, right = labelled_samples(50, 4, 0.1)
    nobodys = np.full((50, 200), -1.0)

    known, unknown = draw_lists(
        [np.hstack([distance, nobodys])], [np.hstack([right, nobodys.astype(bool) & False])]
    )

    assert max(LIST_SIZES) > 3
    assert all((d >= 0).all() for d in [*known, *unknown])


def test_fitted_probabilities_tell_lists_with_a_right_label_from_those_without() -> None:
    distance, right = labelled_samples(400, 40, 0.15)

    fitted = fit_probabilities(Calibration(audio_weight=0.7, video_weight=0.3), [distance], [right])

    assert fitted.unknown_slope > 0
    assert fitted.temperature != Calibration().temperature
    assert (fitted.audio_weight, fitted.video_weight) == (0.7, 0.3)


def test_one_label_for_all_samples_leaves_the_calibration_as_it_was() -> None:
    right = np.tile([True, False], (5, 1))

    assert fit_probabilities(Calibration(), [np.ones((5, 2))], [right]) == Calibration()


def test_the_audio_weight_loses_nothing_against_the_better_modality_in_any_set() -> None:
    true = np.array([0, 0, 1, 1])
    right, wrong, unsure = [0.0, 1.0], [1.0, 0.0], [0.45, 0.55]
    clear = np.array([right, right, right[::-1], right[::-1]])
    # Pictures that are wrong of half and sure of it: sound must outweigh them.
    misleading = np.array([right, wrong, right[::-1], wrong[::-1]])
    # Sounds that say little, with pictures that are right.
    faint = np.array([unsure, unsure[::-1], unsure[::-1], unsure])
    sets = [Pairs(clear, misleading, true), Pairs(faint, clear, true)]

    assert fit_audio_weight(sets[:1]) == 0.55
    assert fit_audio_weight(sets[1:]) == 0.5
    assert fit_audio_weight(sets) == 0.55
    assert sets[1].accuracy(0.55) == 1.0
