"""Every figure against a slow, obvious twin, and against cases worked out by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from model import metrics
from model.metrics import Floats, Labels, Mask

# --- twins: loops as the definitions read --------------------------------------------------------


def slow_mean_class_accuracy(predicted: Labels, labels: Labels, classes: list[int]) -> float | None:
    accuracies = []
    for c in classes:
        right = [p == c for p, true in zip(predicted, labels, strict=True) if true == c]
        if right:
            accuracies.append(sum(right) / len(right))
    return sum(accuracies) / len(accuracies) if accuracies else None


def slow_report(
    distances: Floats, labels: Labels, seen: Mask, beta: float
) -> tuple[float | None, float | None, float | None, float | None]:
    seen_classes = [c for c in range(len(seen)) if seen[c]]
    unseen_classes = [c for c in range(len(seen)) if not seen[c]]
    predicted, among_unseen = [], []
    for row in distances:
        stacked = [d + beta if seen[c] else d for c, d in enumerate(row)]
        predicted.append(min(range(len(row)), key=lambda c: stacked[c]))
        among_unseen.append(min(unseen_classes, key=lambda c: row[c], default=-1))
    s = slow_mean_class_accuracy(np.array(predicted), labels, seen_classes)
    u = slow_mean_class_accuracy(np.array(predicted), labels, unseen_classes)
    zsl = slow_mean_class_accuracy(np.array(among_unseen), labels, unseen_classes)
    if s is None or u is None:
        return s, u, None, zsl
    return s, u, 2 * s * u / (s + u) if s + u else 0.0, zsl


def slow_average_precision(distances: Floats, relevant: Mask) -> float | None:
    precisions = []
    for i in range(len(distances)):
        if relevant[i]:
            within = [j for j in range(len(distances)) if distances[j] <= distances[i]]
            precisions.append(sum(relevant[j] for j in within) / len(within))
    return sum(precisions) / len(precisions) if precisions else None


def slow_calibration_error(confidence: Floats, right: Mask, bins: int) -> float:
    error = 0.0
    for b in range(bins):
        inside = [
            i
            for i, c in enumerate(confidence)
            if b / bins <= c < (b + 1) / bins or (c == 1.0 and b == bins - 1)
        ]
        if inside:
            gap = abs(float(np.mean(confidence[inside])) - float(np.mean(right[inside])))
            error += len(inside) / len(confidence) * gap
    return error


def slow_roc_auc(scores: Floats, positive: Mask) -> float:
    pairs = itertools.product(scores[positive], scores[~positive])
    return float(np.mean([1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs]))


def slow_false_positive_rate(scores: Floats, positive: Mask, least: float) -> float:
    reached = [t for t in scores if (scores[positive] >= t).mean() >= least]
    return float((scores[~positive] >= max(reached)).mean())


# --- random cases; distances are eighths, so that ties happen and sums are exact -----------------

Case = tuple[Floats, Labels, Mask]


@st.composite
def cases(draw: st.DrawFn, *, both_kinds: bool = False) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    samples, classes = draw(st.integers(2, 30)), draw(st.integers(2, 7))
    distances = rng.integers(0, draw(st.sampled_from([4, 16, 64])), (samples, classes)) / 8
    labels = rng.integers(0, classes, samples)
    seen = rng.random(classes) < draw(st.sampled_from([0.3, 0.7]))
    if both_kinds:
        seen[0], seen[1] = True, False
        labels[:2] = [0, 1]
    return distances, labels, seen


BETAS = np.array([-2.0, -0.5, -0.125, 0.0, 0.25, 1.0, 4.0])


def rankings(seed: int, items: int, levels: int) -> tuple[Floats, Mask]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, levels, items) / 8, rng.random(items) < 0.4


# --- accuracy ------------------------------------------------------------------------------------


def test_small_classes_count_as_much_as_large_ones() -> None:
    labels = np.array([0, 0, 0, 1])
    predicted = np.array([0, 0, 1, 0])

    accuracy = metrics.mean_class_accuracy(predicted, labels, np.array([True, True]))

    assert accuracy == pytest.approx((2 / 3 + 0) / 2)


def test_a_class_without_samples_is_left_out_and_not_counted_as_wrong() -> None:
    labels, predicted = np.array([0, 0]), np.array([0, 2])

    assert metrics.mean_class_accuracy(predicted, labels, np.array([True, True, False])) == 0.5
    assert metrics.mean_class_accuracy(predicted, labels, np.array([False, True, True])) is None
    np.testing.assert_array_equal(
        metrics.per_class_accuracy(predicted, labels, 3), [0.5, np.nan, np.nan]
    )


def test_harmonic_mean_punishes_imbalance_and_knows_what_is_absent() -> None:
    assert metrics.harmonic_mean(0.2, 0.6) == pytest.approx(0.3)
    assert metrics.harmonic_mean(0.0, 0.0) == 0.0
    assert metrics.harmonic_mean(0.9, 0.0) == 0.0
    assert metrics.harmonic_mean(None, 0.5) is None
    assert metrics.harmonic_mean(0.5, None) is None


@given(cases(), st.sampled_from(BETAS.tolist()))
@settings(max_examples=150, deadline=None)
def test_the_report_is_that_of_the_slow_twin(case: Case, beta: float) -> None:
    distances, labels, seen = case

    report = metrics.seen_unseen_report(distances, labels, seen, beta)

    expected = slow_report(distances, labels, seen, beta)
    assert (report.seen, report.unseen, report.harmonic_mean, report.zero_shot) == tuple(
        None if e is None else pytest.approx(e) for e in expected
    )


def test_zero_shot_accuracy_knows_no_seen_candidate_and_no_beta() -> None:
    # The seen class 0 is nearest to all; among the unseen the first sample is right.
    distances = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    labels, seen = np.array([1, 2]), np.array([True, False, False])

    reports = [metrics.seen_unseen_report(distances, labels, seen, beta) for beta in (0.0, 1.0)]

    assert [r.unseen for r in reports] == [0.0, 0.5]
    assert [r.zero_shot for r in reports] == [0.5, 0.5]
    assert [r.seen for r in reports] == [None, None]


# --- calibrated stacking -------------------------------------------------------------------------


@given(cases(both_kinds=True))
@settings(max_examples=150, deadline=None)
def test_the_sweep_is_the_report_at_every_beta(case: Case) -> None:
    distances, labels, seen = case

    curve = metrics.sweep_beta(distances, labels, seen, BETAS)

    for i, beta in enumerate(BETAS):
        s, u, hm, _ = slow_report(distances, labels, seen, float(beta))
        assert curve.seen[i] == pytest.approx(s)
        assert curve.unseen[i] == pytest.approx(u)
        assert curve.harmonic_mean[i] == pytest.approx(hm)


@given(cases(both_kinds=True))
@settings(max_examples=60, deadline=None)
def test_the_grid_spans_the_margins_but_for_the_outermost_half_percents(case: Case) -> None:
    distances, _, seen = case

    betas = metrics.beta_grid(distances, seen)

    assert 0.0 in betas
    assert (np.diff(betas) > 0).all()
    margins = distances[:, ~seen].min(axis=1) - distances[:, seen].min(axis=1)
    assert betas.min() == pytest.approx(min(0.0, np.quantile(margins, 0.005)))
    assert betas.max() == pytest.approx(max(0.0, np.quantile(margins, 0.995)))


def test_the_grid_follows_the_scale_of_the_distances() -> None:
    rng = np.random.default_rng(0)
    distances, seen = rng.random((50, 4)), np.array([True, True, False, False])

    np.testing.assert_allclose(
        metrics.beta_grid(1000 * distances, seen), 1000 * metrics.beta_grid(distances, seen)
    )


def test_the_chosen_beta_has_the_largest_harmonic_mean() -> None:
    # Seen sample: right while beta < 0.4. Unseen sample: right once beta > 0.1.
    distances = np.array([[0.2, 0.6], [0.3, 0.4]])
    labels, seen = np.array([0, 1]), np.array([True, False])
    betas = np.array([-1.0, 0.0, 0.2, 0.3, 0.9])

    curve = metrics.sweep_beta(distances, labels, seen, betas)

    np.testing.assert_array_equal(curve.harmonic_mean, [0, 0, 1, 1, 0])
    assert metrics.choose_beta(curve) == 0.2


def test_among_equal_betas_the_one_nearest_to_zero_is_chosen() -> None:
    betas = np.array([-0.3, -0.1, 0.2, 0.5])
    flat = np.full(4, 0.5)
    rounding = flat + np.array([0.0, 0.0, 1e-16, 1e-15])

    assert metrics.choose_beta(metrics.BetaCurve(betas, flat, flat, flat)) == -0.1
    assert metrics.choose_beta(metrics.BetaCurve(betas, flat, flat, rounding)) == -0.1


def test_a_beta_cannot_be_chosen_on_seen_or_unseen_samples_alone() -> None:
    distances, seen = np.ones((2, 2)), np.array([True, False])

    for labels in (np.array([0, 0]), np.array([1, 1])):
        with pytest.raises(ValueError, match="samples of seen and of unseen classes"):
            metrics.sweep_beta(distances, labels, seen, BETAS)
    with pytest.raises(ValueError, match="one is absent"):
        metrics.beta_grid(distances, np.array([True, True]))


# --- retrieval -----------------------------------------------------------------------------------


def test_average_precision_of_a_ranking_worked_out_by_hand() -> None:
    # Relevant at ranks 1, 3 and 4 of 5.
    distances = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    relevant = np.array([True, False, True, True, False])

    assert metrics.average_precision(distances, relevant) == pytest.approx(
        (1 / 1 + 2 / 3 + 3 / 4) / 3
    )
    assert metrics.average_precision(distances, np.zeros(5, bool)) is None


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([2, 8, 1000]))
@settings(max_examples=150, deadline=None)
def test_average_precision_is_that_of_the_slow_twin_and_of_scikit_learn(
    seed: int, items: int, levels: int
) -> None:
    distances, relevant = rankings(seed, items, levels)

    precision = metrics.average_precision(distances, relevant)

    expected = slow_average_precision(distances, relevant)
    assert precision == (None if expected is None else pytest.approx(expected))
    if expected is not None:
        assert precision == pytest.approx(average_precision_score(relevant, -distances))


def test_the_order_of_equally_distant_items_does_not_matter() -> None:
    distances = np.array([0.5, 0.5, 0.5, 0.1])

    orders = [
        metrics.average_precision(distances, np.array(relevant))
        for relevant in itertools.permutations([True, False, False])
        for relevant in [[*relevant, True]]
    ]

    assert orders == [pytest.approx((1 + 2 / 4) / 2)] * len(orders)


def test_mean_average_precision_averages_the_queries_of_a_class_first() -> None:
    precisions = np.array([1.0, 0.5, 0.3, np.nan])
    query_labels = np.array([4, 4, 0, 1])

    assert metrics.mean_average_precision(precisions, query_labels) == pytest.approx(
        (0.75 + 0.3) / 2
    )
    assert metrics.mean_average_precision(np.array([np.nan]), np.array([2])) is None
    assert metrics.mean_average_precision(np.zeros(0), np.zeros(0, np.int64)) is None


def test_average_precisions_take_the_query_s_class_as_relevant() -> None:
    distances = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])

    precisions = metrics.average_precisions(distances, np.array([0, 1, 2]), np.array([1, 0, 0]))

    np.testing.assert_allclose(precisions, [(1 / 2 + 2 / 3) / 2, 1.0, np.nan])


@pytest.mark.parametrize(("relevant", "items"), [(1, 1), (1, 4), (2, 5), (3, 6), (5, 5)])
def test_chance_precision_is_the_mean_over_all_orders(relevant: int, items: int) -> None:
    of_orders = [
        slow_average_precision(np.arange(items) / 1.0, np.isin(np.arange(items), places))
        for places in itertools.combinations(range(items), relevant)
    ]

    assert metrics.chance_average_precision(relevant, items) == pytest.approx(
        np.mean([p for p in of_orders if p is not None])
    )


# --- trust ---------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 64), st.booleans()), min_size=1, max_size=60),
    st.sampled_from([1, 2, 8, 16]),
)
def test_calibration_error_is_that_of_the_slow_twin(
    answers: list[tuple[int, bool]], bins: int
) -> None:
    confidence = np.array([c / 64 for c, _ in answers])
    right = np.array([r for _, r in answers])

    assert metrics.expected_calibration_error(confidence, right, bins) == pytest.approx(
        slow_calibration_error(confidence, right, bins)
    )


def test_honest_confidence_has_no_error_and_boasting_has_its_excess() -> None:
    right = np.array([True, False, True, False])

    assert metrics.expected_calibration_error(np.full(4, 0.5), right) == pytest.approx(0.0)
    assert metrics.expected_calibration_error(np.ones(4), right) == pytest.approx(0.5)
    assert metrics.expected_calibration_error(np.zeros(0), np.zeros(0, bool)) is None


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.sampled_from([2, 8, 1000]))
@settings(max_examples=100, deadline=None)
def test_roc_auc_is_that_of_the_slow_twin_and_of_scikit_learn(
    seed: int, items: int, levels: int
) -> None:
    scores, positive = rankings(seed, items, levels)
    positive[:2] = [True, False]

    area = metrics.roc_auc(scores, positive)

    assert area == pytest.approx(slow_roc_auc(scores, positive))
    assert area == pytest.approx(roc_auc_score(positive, scores))


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.sampled_from([2, 8, 1000]))
@settings(max_examples=100, deadline=None)
def test_false_positive_rate_is_that_of_the_slow_twin(seed: int, items: int, levels: int) -> None:
    scores, positive = rankings(seed, items, levels)
    positive[:2] = [True, False]

    for least in (0.5, 0.95, 1.0):
        rate = metrics.false_positive_rate(scores, positive, true_positive_rate=least)
        assert rate == pytest.approx(slow_false_positive_rate(scores, positive, least))


def test_false_positive_rate_needs_both_kinds() -> None:
    assert metrics.false_positive_rate(np.array([1.0, 2.0]), np.array([True, True])) is None
    assert metrics.false_positive_rate(np.array([1.0, 2.0]), np.array([False, False])) is None


def test_roc_auc_needs_both_kinds() -> None:
    assert metrics.roc_auc(np.array([1.0, 2.0]), np.array([True, True])) is None
    assert metrics.roc_auc(np.array([1.0, 2.0]), np.array([False, False])) is None


# --- confusions ----------------------------------------------------------------------------------


def test_the_worst_confusions_come_first_with_their_counts_and_shares() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    predicted = np.array([0, 1, 1, 2, 1, 2, 0, 0])

    found = metrics.worst_confusions(predicted, labels)

    assert [(c.true, c.predicted, c.count) for c in found] == [
        (2, 0, 2),  # both samples of class 2: a larger share than two of four
        (0, 1, 2),
        (1, 2, 1),
        (0, 2, 1),
    ]
    assert [c.share for c in found] == [1.0, 0.5, 0.5, 0.25]
    assert metrics.worst_confusions(predicted, labels, top=1) == found[:1]


def test_without_a_mistake_there_is_no_confusion() -> None:
    labels: NDArray[np.int64] = np.array([0, 1, 1])

    assert metrics.worst_confusions(labels, labels) == ()
