"""What a feature set must have to be trained on, told before any training."""

from collections.abc import Sequence

from model.errors import FeatureSetError
from model.features.feature_set import TRAINING_STAGES, FeatureSet

_LEAST_CLASSES = 2  # a triplet loss needs another class


def check_trainable(features: FeatureSet, *, validated: bool = True) -> None:
    """Check that a feature set can be trained on by the protocol.

    Args:
        features: any feature set.
        validated: whether epoch and calibration are chosen on the validation stages, which must
            have rows then.

    Raises:
        FeatureSetError: a stage that is needed is empty, there is only one class to train on, or a
            class is unseen in a stage although it was trained on before, or seen although it was
            not.
    """
    needed = TRAINING_STAGES if validated else TRAINING_STAGES[:1]
    for stage in needed:
        if not features.rows(stage).size:
            found = ", ".join(sorted(set(features.stages.tolist()))) or "none"
            raise FeatureSetError(
                f"{features.name} has no rows of {stage}; its stages are {found}, training needs "
                f"{', '.join(needed)}"
            )
    trained = features.classes_of("stage_1_train")
    if len(trained) < _LEAST_CLASSES:
        raise FeatureSetError(
            f"{features.name} has only the class {features.classes[trained[0]].name!r} in "
            f"stage_1_train; {_LEAST_CLASSES} are needed, to tell them apart"
        )
    _require_seen(features, "stage_1_val_seen", ("stage_1_train",))
    _require_unseen(features, "stage_1_val_unseen", ("stage_1_train",))
    _require_seen(features, "stage_2_test_seen", TRAINING_STAGES)
    _require_unseen(features, "stage_2_test_unseen", TRAINING_STAGES)


def _require_seen(features: FeatureSet, stage: str, trained_in: Sequence[str]) -> None:
    new = sorted({*features.classes_of(stage)} - {*features.classes_of(*trained_in)})
    if new:
        raise FeatureSetError(
            f"{features.name}: the class {features.classes[new[0]].name!r} is in {stage}, but has "
            f"no sample in {' or '.join(trained_in)} to be seen before"
        )


def _require_unseen(features: FeatureSet, stage: str, trained_in: Sequence[str]) -> None:
    known = sorted({*features.classes_of(stage)} & {*features.classes_of(*trained_in)})
    if known:
        raise FeatureSetError(
            f"{features.name}: the class {features.classes[known[0]].name!r} is in {stage} and in "
            f"{' or '.join(trained_in)}: it would not be unseen"
        )
