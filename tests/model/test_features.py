"""A feature set that exists can be trusted; what cannot be trained on is told before training."""

import numpy as np
import pytest

from model.embedding import ClassText
from model.errors import FeatureSetError
from model.features import STAGES, check_trainable
from tests.model.feature_sets import CLASSES, ROWS_OF_STAGE, make_features


def test_rows_and_classes_are_those_of_the_stages_asked_for() -> None:
    features = make_features()

    assert features.rows("stage_1_val_seen").tolist() == [5, 6]
    assert features.rows("stage_2_test_unseen", "stage_1_val_seen").tolist() == [5, 6, 12, 13]
    assert features.rows().tolist() == list(range(14))
    assert features.classes_of("stage_1_train").tolist() == [0, 1]
    assert features.classes_of("stage_1_val_unseen", "stage_1_train").tolist() == [0, 1, 2]
    assert features.classes_of().tolist() == [0, 1, 2, 3]


def test_taking_rows_keeps_every_array_in_step() -> None:
    features = make_features()

    taken = features.take(np.array([13, 1]))

    assert len(taken) == 2
    assert taken.ids == ("clip 13.mp4", "clip 1.mp4")
    assert taken.labels.tolist() == [3, 0]
    assert taken.stages.tolist() == ["stage_2_test_unseen", "stage_1_train"]
    assert taken.has_audio.tolist() == [True, False]
    np.testing.assert_array_equal(taken.video, features.video[[13, 1]])
    assert taken.classes == features.classes


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("modality", ["audio", "video"])
def test_a_value_that_is_not_finite_is_told_with_its_array_row_and_class(
    modality: str, value: float
) -> None:
    broken = getattr(make_features(), modality).copy()
    broken[7, 2] = broken[8, 0] = broken[8, 1] = value

    with pytest.raises(
        FeatureSetError,
        match=f"{modality} holds NaN or infinity in 2 of 14 rows, first in row 7 "
        r"\('clip 7.mp4', class 'A/B test'\)",
    ):
        make_features(**{modality: broken})


def test_a_text_vector_that_is_not_finite_is_told_with_its_class() -> None:
    vectors = np.ones((4, 5), np.float32)
    vectors[1, 0] = np.nan

    with pytest.raises(FeatureSetError, match="1 of 4 classes, first 'bird chirping, tweeting'"):
        make_features(text_vectors=vectors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video": np.ones((13, 3), np.float32)}, "video has 13 rows, labels 14"),
        ({"ids": ("a", "b")}, "ids has 2 rows, labels 14"),
        ({"has_audio": np.ones(15, np.bool_)}, "has_audio has 15 rows"),
        ({"audio": np.ones(14, np.float32)}, r"audio has shape \(14,\)"),
        ({"audio": np.ones((14, 0), np.float32)}, r"audio has shape \(14, 0\)"),
        ({"text_vectors": np.ones((3, 5), np.float32)}, r"\(3, 5\); one row for each of the 4"),
        ({"labels": np.full(14, 4)}, "row 0 has label 4; there are 4 classes"),
        ({"labels": np.full(14, -1)}, "row 0 has label -1"),
        ({"stages": np.array(["stage_3"] * 14)}, "unknown stage 'stage_3'; stages are stage_1_tra"),
        ({"classes": (*CLASSES[:3], ClassText(" a/b TEST"))}, "' a/b TEST' are one name twice"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(FeatureSetError, match=message):
        make_features(**changes)


def test_a_set_with_every_stage_can_be_trained_on() -> None:
    check_trainable(make_features())


@pytest.mark.parametrize("stage", STAGES[:3])
def test_an_empty_stage_that_training_needs_is_told(stage: str) -> None:
    features = make_features()
    left = np.flatnonzero(features.stages != stage)

    with pytest.raises(FeatureSetError, match=f"no rows of {stage}; its stages are stage_"):
        check_trainable(features.take(left))


def test_without_validation_the_training_stage_is_enough() -> None:
    features = make_features()

    check_trainable(features.take(features.rows("stage_1_train")), validated=False)


def test_test_stages_need_not_be_there_for_training() -> None:
    features = make_features()

    check_trainable(features.take(features.rows(*STAGES[:3])))


@pytest.mark.parametrize(
    ("stage", "label", "message"),
    [
        (
            "stage_1_val_seen",
            3,
            "'Ölkännchen' is in stage_1_val_seen, but has no sample in stage_1",
        ),
        ("stage_1_val_unseen", 1, "in stage_1_val_unseen and in stage_1_train: it would not be un"),
        ("stage_2_test_seen", 3, "'Ölkännchen' is in stage_2_test_seen, but has no sample"),
        ("stage_2_test_unseen", 2, "'A/B test' is in stage_2_test_unseen and in stage_1_train or"),
    ],
)
def test_a_class_on_the_wrong_side_of_seen_and_unseen_is_told(
    stage: str, label: int, message: str
) -> None:
    features = make_features()
    labels = features.labels.copy()
    labels[features.rows(stage)[0]] = label

    with pytest.raises(FeatureSetError, match=message):
        check_trainable(make_features(labels=labels))


def test_one_class_is_nothing_to_train_on() -> None:
    features = make_features()
    rows = [r for r in features.rows() if features.labels[r] != 1]

    with pytest.raises(FeatureSetError, match="only the class 'Apply Eye Makeup' in stage_1_train"):
        check_trainable(features.take(np.array(rows)))


def test_the_stages_of_the_example_are_all_stages() -> None:
    assert tuple(ROWS_OF_STAGE) == STAGES
