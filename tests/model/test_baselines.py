"""Ridge and ConSE by hand; that all baselines learn, and never from classes that are unseen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.baselines import (
    CONSE,
    RIDGE,
    ConseHead,
    ConseSetting,
    LinearMethod,
    Sample,
    fit_conse,
    fit_ridge,
)
from model.cjme import RECIPE as CJME_RECIPE
from model.cjme import CJMEMethod
from model.config import Calibration
from model.errors import FeatureSetError
from model.features import FeatureSet
from model.methods import AvgzslnetMethod, Method, Stage, evaluate_stage
from model.protocol import Validation
from model.recipes import Recipe
from model.stacking import choose_betas, label_distances
from tests.model.separable import SEEN, TESTED, VALIDATED, run_of, separable_features

SMALL_CJME = replace(
    CJME_RECIPE,
    hidden_dim=32,
    text_hidden_dim=16,
    embedding_dim=16,
    batch_size=64,
    balanced_batches=20,
    epochs=6,
    milestones=(),
)
SMALL_NETWORK = Recipe(
    hidden_dim=32,
    embedding_dim=8,
    dropout=0.1,
    optimiser="adam",
    learning_rate=0.01,
    batch_size=64,
    epochs=30,
    milestones=(),
    validate_every=10,
)
METHODS: dict[str, tuple[Method, Recipe]] = {
    "ridge": (RIDGE, Recipe()),
    "conse": (LinearMethod([ConseSetting(1.0, t) for t in (1, 3, 10)], fit_conse), Recipe()),
    "cjme": (CJMEMethod(), SMALL_CJME),
    "avgzslnet": (AvgzslnetMethod(), SMALL_NETWORK),
}


@pytest.fixture(scope="module")
def features() -> FeatureSet:
    return separable_features()


@pytest.fixture(scope="module")
def stages(
    features: FeatureSet, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Stage, Stage]]:
    """Both stages of every method."""
    results = {}
    for name, (method, recipe) in METHODS.items():
        run = run_of(features, tmp_path_factory.mktemp(name), recipe)
        choice = method.select(run)
        results[name] = (choice, method.retrain(run, choice))
    return results


# --- ridge by hand -------------------------------------------------------------------------------


def test_ridge_is_its_closed_form() -> None:
    rng = np.random.default_rng(0)
    x, text = rng.normal(size=(9, 3)), rng.normal(size=(2, 4))
    labels = np.array([0, 1, 0, 0, 1, 1, 0, 1, 0])
    sample = Sample(x.astype(np.float32), labels, text.astype(np.float32))

    (head,) = fit_ridge(sample, [2.5])

    # The intercept is free, so it is what centring takes away and adds again.
    y = text[labels]
    centred = x - x.mean(axis=0)
    weights = np.linalg.solve(centred.T @ centred + 2.5 * np.eye(3), centred.T @ (y - y.mean(0)))
    expected = centred @ weights + y.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(head.embed(sample.x), expected, atol=1e-5)


def test_ridge_of_two_points_on_a_line() -> None:
    """x = -1 and 1, targets 0 and 1 in one dimension beside a constant: slope 1 / (2 + penalty)."""
    sample = Sample(
        np.array([[-1.0], [1.0]], np.float32),
        np.array([0, 1]),
        np.array([[0.0, 1.0], [1.0, 1.0]], np.float32),
    )

    (head,) = fit_ridge(sample, [2.0])

    # At x = 1: (0.5 + 1/4, 1), at unit length (0.6, 0.8).
    np.testing.assert_allclose(head.embed(np.array([[1.0]], np.float32)), [[0.6, 0.8]], atol=1e-6)


# --- ConSE by hand -------------------------------------------------------------------------------


class FixedClassifier:
    """Features are the probabilities."""

    def predict_proba(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        return x.astype(np.float64)


TEXT = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (1, [0.0, 1.0]),
        (2, np.array([0.3, 0.6]) / np.hypot(0.3, 0.6)),
        (3, np.array([0.2, 0.6]) / np.hypot(0.2, 0.6)),
        (50, np.array([0.2, 0.6]) / np.hypot(0.2, 0.6)),
    ],
)
def test_conse_is_the_mean_of_the_likeliest_classes_by_probability(
    top: int, expected: NDArray[np.float64]
) -> None:
    head = ConseHead(FixedClassifier(), TEXT, top)

    np.testing.assert_allclose(
        head.embed(np.array([[0.3, 0.6, 0.1]], np.float32)), [expected], atol=1e-6
    )


def test_conse_of_a_certain_classifier_is_its_classes_vector() -> None:
    head = ConseHead(FixedClassifier(), TEXT, 3)

    np.testing.assert_allclose(head.embed(np.eye(3, dtype=np.float32)), TEXT, atol=1e-6)


def test_conse_combines_the_vectors_of_the_classes_that_its_classifier_knows() -> None:
    """Class 1 has no row, so the classifier's second class is class 2."""
    x = np.array([[-1.0], [-1.1], [1.0], [1.1]], np.float32)
    sample = Sample(x, np.array([0, 0, 2, 2]), TEXT)

    (head,) = fit_conse(sample, [ConseSetting(100.0, 1)])

    np.testing.assert_allclose(head.embed(x), TEXT[[0, 0, 2, 2]], atol=1e-6)


# --- both stages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_method_answers_unseen_classes_above_chance(
    name: str, stages: dict[str, tuple[Stage, Stage]], features: FeatureSet, tmp_path: Path
) -> None:
    choice, final = stages[name]
    run = run_of(features, tmp_path)

    for stage, phase, chance in ((choice, "validation", 1 / 10), (final, "test", 1 / 10)):
        report = evaluate_stage(stage, run, phase)
        for evidence in ("audio", "video", "both"):
            figures = report.figures[evidence]
            assert figures.zero_shot is not None
            assert figures.harmonic_mean is not None
            assert figures.zero_shot > 3 * chance, (phase, evidence, figures)
            assert figures.harmonic_mean > 5 * report.chance.harmonic_mean, (phase, evidence)


@pytest.mark.parametrize("name", METHODS)
def test_candidates_are_the_trained_classes_and_those_of_the_rows(
    name: str, stages: dict[str, tuple[Stage, Stage]], features: FeatureSet, tmp_path: Path
) -> None:
    choice, final = stages[name]
    run = run_of(features, tmp_path)
    validation = evaluate_stage(choice, run, "validation")
    test = evaluate_stage(final, run, "test")

    assert choice.trained.tolist() == list(SEEN)
    assert validation.class_names == tuple(f"class {i}" for i in [*SEEN, *VALIDATED])
    assert validation.seen.tolist() == [True] * len(SEEN) + [False] * len(VALIDATED)
    assert final.trained.tolist() == [*SEEN, *VALIDATED]
    assert test.seen.tolist() == [True] * len(final.trained) + [False] * len(TESTED)
    assert test.betas == validation.betas


@pytest.mark.parametrize("name", METHODS)
def test_stage_1_is_trained_on_its_training_rows_and_no_stage_sees_the_test(
    name: str, features: FeatureSet, tmp_path: Path
) -> None:
    """Rows that must not be trained on are made absurd: the trained model stays the same."""
    method, recipe = METHODS[name]
    recipe = replace(recipe, epochs=2, balanced_batches=recipe.balanced_batches and 3)
    run = run_of(features, tmp_path / "a", recipe)

    def spoilt(*clean: str) -> FeatureSet:
        rows = ~np.isin(features.stages, clean)
        audio, video = features.audio.copy(), features.video.copy()
        audio[rows], video[rows] = 100.0, -100.0
        return replace(features, audio=audio, video=video)

    def embeddings(stage: Stage) -> list[Any]:
        samples = stage.model.embed_samples(features, features.labels)
        return [samples.audio, samples.video]

    train = ("stage_1_train",)
    validation = ("stage_1_val_seen", "stage_1_val_unseen")
    choice = method.select(run)
    if isinstance(method, LinearMethod):  # with one setting, as validation has its say in which
        method = replace(method, settings=[choice.chosen["audio"]])
        choice = method.select(run)
    else:  # with one epoch to choose from
        run = replace(run, recipe=replace(recipe, validate_every=2), folder=tmp_path / "b")
        choice = method.select(run)
    final = method.retrain(run, choice)

    only_train = replace(run, features=spoilt(*train), folder=tmp_path / "c")
    no_test = replace(run, features=spoilt(*train, *validation), folder=tmp_path / "d")
    for got, expected in zip(
        embeddings(method.select(only_train)), embeddings(choice), strict=True
    ):
        np.testing.assert_array_equal(got, expected)
    for got, expected in zip(
        embeddings(method.retrain(no_test, choice)), embeddings(final), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", METHODS)
def test_a_sample_without_sound_is_answered_by_its_pictures(
    name: str, stages: dict[str, tuple[Stage, Stage]], features: FeatureSet
) -> None:
    model = stages[name][1].model
    silent = features.take(np.flatnonzero(~features.has_audio))
    garbage = replace(silent, audio=np.full_like(silent.audio, 7.0))
    text = features.text_vectors
    assert text is not None
    labels = model.embed_labels(text, np.ones(len(text), np.bool_))

    for rows in (silent, garbage):
        samples = model.embed_samples(rows, rows.labels)
        distances = label_distances(samples, labels, Calibration())
        np.testing.assert_array_equal(distances["both"], distances["video"])


def test_settings_are_those_of_the_best_harmonic_mean_of_each_evidence(
    stages: dict[str, tuple[Stage, Stage]], features: FeatureSet, tmp_path: Path
) -> None:
    """Each evidence alone and one penalty at a time, by the public parts."""
    choice = stages["ridge"][0]
    run = run_of(features, tmp_path)
    validation = Validation.of(run, choice.trained)
    for evidence in ("audio", "video", "both"):
        scores = {}
        for penalty in RIDGE.settings:
            model = LinearMethod([penalty], fit_ridge).select(run).model
            samples = model.embed_samples(validation.features, validation.labels)
            labels = model.embed_labels(validation.text, validation.seen)
            curve = choose_betas(samples, labels, Calibration()).curves[evidence]
            scores[penalty] = curve.harmonic_mean.max()
        assert choice.chosen[evidence] == max(scores, key=lambda p: scores[p])


def test_a_modality_that_no_sample_has_is_left_out(features: FeatureSet, tmp_path: Path) -> None:
    deaf = replace(
        features,
        audio=np.zeros_like(features.audio),
        has_audio=np.zeros_like(features.has_audio),
    )
    deaf = deaf.take(np.flatnonzero(deaf.has_video))
    stage = RIDGE.select(run_of(deaf, tmp_path))

    report = evaluate_stage(stage, run_of(deaf, tmp_path), "validation")

    assert list(stage.chosen) == ["video"]
    assert report.figures["audio"].zero_shot is None
    assert report.figures["both"] == report.figures["video"]


def test_cjme_says_that_it_needs_samples_with_both(features: FeatureSet, tmp_path: Path) -> None:
    one_each = replace(features, has_audio=~features.has_video)

    with pytest.raises(FeatureSetError, match="no sample with both audio and video"):
        CJMEMethod().select(run_of(one_each, tmp_path, SMALL_CJME))


def test_the_default_grid_of_conse_has_every_pair() -> None:
    pairs = {(s.strength, s.top) for s in CONSE.settings}

    assert len(pairs) == len(CONSE.settings) == 24
