"""Scores and probabilities against hand-computed cases."""

import math

import numpy as np
import pytest

from model.config import Calibration
from model.scoring import (
    distance_from_similarity,
    fuse_distances,
    penalty_unit,
    rank_labels,
    seen_penalty,
    similarity_from_distance,
    standing_out,
)

NOTHING_SEEN = np.array([False, False])


def test_distance_is_that_of_unit_vectors() -> None:
    a, b = np.array([1.0, 0.0]), np.array([0.6, 0.8])

    assert distance_from_similarity(np.array([a @ b]))[0] == pytest.approx(math.dist(a, b))


def test_similarity_beyond_one_by_rounding_gives_distance_zero() -> None:
    assert distance_from_similarity(np.array([1.0 + 1e-7]))[0] == 0.0


def test_distance_and_similarity_are_inverse() -> None:
    similarity = np.linspace(-1, 1, 21)

    np.testing.assert_allclose(
        similarity_from_distance(distance_from_similarity(similarity)), similarity, atol=1e-12
    )


def test_equal_weights_rank_by_the_papers_sum_of_distances() -> None:
    audio, video = np.array([0.9, 0.2, 0.5]), np.array([0.1, 0.3, 0.4])

    fused = fuse_distances({"audio": audio, "video": video}, Calibration())

    np.testing.assert_allclose(fused, (audio + video) / 2)
    assert fused.argsort().tolist() == (audio + video).argsort().tolist()


def test_weights_do_not_count_where_a_modality_is_missing() -> None:
    calibration = Calibration(audio_weight=0.9, video_weight=0.1)
    distance = np.array([0.4, 0.8])

    np.testing.assert_allclose(fuse_distances({"video": distance}, calibration), distance)


def test_probability_is_the_softmax_of_negative_distance_over_temperature() -> None:
    ranking = rank_labels(
        {"audio": np.array([0.5, -0.5])}, NOTHING_SEEN, Calibration(temperature=0.5)
    )

    # distances 1 and sqrt(3)
    expected = 1 / (1 + math.exp(-(math.sqrt(3) - 1) / 0.5))
    assert ranking.probability.tolist() == pytest.approx([expected, 1 - expected])
    assert ranking.by_modality["audio"].tolist() == pytest.approx(ranking.probability.tolist())
    assert "video" not in ranking.by_modality


def test_calibrated_stacking_moves_seen_classes_back() -> None:
    similarity = {"audio": np.array([0.60, 0.55])}
    seen = np.array([True, False])

    plain = rank_labels(similarity, seen, Calibration())
    stacked = rank_labels(similarity, seen, Calibration(audio_seen_penalty=0.2))

    assert plain.score.argmax() == 0
    assert stacked.score.argmax() == 1
    assert stacked.score[1] == pytest.approx(plain.score[1])


def test_each_set_of_modalities_has_its_own_beta() -> None:
    calibration = Calibration(seen_penalty=0.3, audio_seen_penalty=0.1, video_seen_penalty=0.2)

    assert seen_penalty(["audio", "video"], calibration) == 0.3
    assert seen_penalty(["audio"], calibration) == 0.1
    assert seen_penalty(["video"], calibration) == 0.2


def test_unknown_grows_as_the_best_similarity_falls() -> None:
    calibration = Calibration(unknown_offset=4.0, unknown_slope=10.0)

    near = rank_labels({"audio": np.array([0.9, 0.1])}, NOTHING_SEEN, calibration)
    far = rank_labels({"audio": np.array([0.1, 0.0])}, NOTHING_SEEN, calibration)

    assert near.unknown_probability == pytest.approx(1 / (1 + math.exp(5.0)))
    assert far.unknown_probability == pytest.approx(1 / (1 + math.exp(-3.0)))


def test_the_best_stands_out_against_the_mean_of_all_others() -> None:
    similarity = np.array([0.1] * 5 + [0.9] + [0.3] * 4 + [-0.5] * 20)

    assert standing_out(similarity, 0.0) == pytest.approx(0.9)
    assert standing_out(similarity, 2.0) == pytest.approx(0.9 - 2 * (0.5 + 1.2 - 10.0) / 29)


def test_other_names_of_the_same_thing_hide_nothing_in_a_large_vocabulary() -> None:
    alone = np.array([0.4] + [0.0] * 1_500)
    among_synonyms = np.array([0.4] * 10 + [0.0] * 1_491)

    assert standing_out(among_synonyms, 1.0) == pytest.approx(standing_out(alone, 1.0), abs=0.01)


def test_candidates_that_are_missing_count_as_unrelated_ones() -> None:
    assert standing_out(np.array([0.6]), 1.5) == pytest.approx(0.6)
    assert standing_out(np.array([0.2, 0.6]), 1.5) == pytest.approx(0.6 - 1.5 * 0.2 / 9)


def test_a_sample_near_to_every_candidate_is_less_known_than_one_near_to_one() -> None:
    calibration = Calibration(unknown_contrast=1.0)

    near_one = rank_labels({"audio": np.array([0.5, 0.0, 0.0])}, np.zeros(3, bool), calibration)
    near_all = rank_labels({"audio": np.array([0.5, 0.5, 0.5])}, np.zeros(3, bool), calibration)

    assert near_all.unknown_probability > near_one.unknown_probability


def test_nothing_to_rank_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one modality"):
        rank_labels({}, NOTHING_SEEN, Calibration())
    with pytest.raises(ValueError, match="one candidate"):
        rank_labels({"audio": np.array([])}, np.array([], dtype=bool), Calibration())


def test_a_relative_penalty_is_in_units_of_how_near_the_nearest_label_is() -> None:
    relative = Calibration(relative_penalty=True)
    distances = np.array([[1.0, 1.2], [1.4, 1.3]])

    np.testing.assert_allclose(
        penalty_unit(distances, relative), [[math.sqrt(2) - 1.0], [math.sqrt(2) - 1.3]]
    )
    np.testing.assert_array_equal(penalty_unit(distances, Calibration()), [[1.0], [1.0]])


def test_a_sample_far_from_every_label_still_has_a_penalty_of_the_right_sign() -> None:
    (unit,) = penalty_unit(np.array([1.9, 1.8]), Calibration(relative_penalty=True))

    assert 0 < unit < 0.01


def test_a_relative_penalty_moves_a_doubtful_sample_less_than_a_sure_one() -> None:
    calibration = Calibration(audio_seen_penalty=0.5, relative_penalty=True)
    seen = np.array([True, False])

    # The same lead in distance, 0.1, once near to the labels and once far from them.
    sure = similarity_from_distance(np.array([0.8, 0.9]))
    doubtful = similarity_from_distance(np.array([1.3, 1.4]))

    assert rank_labels({"audio": sure}, seen, calibration).score.argmax() == 1
    assert rank_labels({"audio": doubtful}, seen, calibration).score.argmax() == 0
