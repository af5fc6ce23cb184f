"""Which rows of a feature set are evaluated, and the classes that they are told apart from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model.config import NetworkConfig
from model.embedding import ClassText
from model.errors import FeatureSetError
from model.features import FeatureSet
from model.features.feature_set import class_key
from model.metrics import Labels, Mask

Phase = Literal["test", "validation"]
STAGES_OF: Mapping[Phase, tuple[str, str]] = {
    "test": ("stage_2_test_seen", "stage_2_test_unseen"),
    "validation": ("stage_1_val_seen", "stage_1_val_unseen"),
}


@dataclass(frozen=True)
class Candidates:
    """The classes that samples are told apart from, the trained ones first.

    Attributes:
        classes: C classes, names unique ignoring case.
        seen: (C,) bool, whether the checkpoint was trained on it.
        added: indices into the feature set's classes of those after the trained ones.
        of_features: (classes of the feature set,) int64 candidate of each; -1 where it is none.
    """

    classes: tuple[ClassText, ...]
    seen: Mask
    added: tuple[int, ...]
    of_features: Labels


def candidate_classes(trained: Sequence[ClassText], features: FeatureSet) -> Candidates:
    """Unite the trained classes with those of the feature set's rows; names match ignoring case."""
    index = {class_key(c.name): i for i, c in enumerate(trained)}
    of_features = np.full(len(features.classes), -1, np.int64)
    added: list[int] = []
    with_rows = set(features.labels.tolist())
    for i, c in enumerate(features.classes):
        key = class_key(c.name)
        if i in with_rows and key not in index:
            index[key] = len(index)
            added.append(i)
        of_features[i] = index.get(key, -1)
    classes = (*trained, *(features.classes[i] for i in added))
    return Candidates(classes, np.arange(len(classes)) < len(trained), tuple(added), of_features)


def evaluated_rows(features: FeatureSet, phase: Phase | None = None) -> FeatureSet:
    """Rows of the test stages where there are any, else of the validation stages.

    Args:
        features: with any stages.
        phase: `test` or `validation` to insist on one.

    Raises:
        FeatureSetError: there are no such rows.
    """
    phases: Sequence[Phase] = [phase] if phase else ["test", "validation"]
    for stages in (STAGES_OF[p] for p in phases):
        rows = features.rows(*stages)
        if rows.size:
            return features.take(rows)
    wanted = ", ".join(stage for p in phases for stage in STAGES_OF[p])
    found = ", ".join(sorted(set(features.stages.tolist()))) or "none"
    raise FeatureSetError(
        f"{features.name} has no rows to evaluate on: its stages are {found}; one of {wanted} is "
        "needed"
    )


def stage_notes(rows: FeatureSet, candidates: Candidates) -> tuple[str, ...]:
    """Sentences on rows whose stage and the checkpoint disagree about what was seen."""
    trained = candidates.seen[candidates.of_features[rows.labels]]
    notes = []
    for kind, unexpected, consequence in (
        ("seen", ~trained, "not trained on; they count as unseen."),
        ("unseen", trained, "trained on, perhaps on these very samples; they count as seen."),
    ):
        in_stage = np.char.endswith(rows.stages, f"_{kind}")
        count = np.count_nonzero(in_stage & unexpected)
        if count:
            notes.append(
                f"{count} of {np.count_nonzero(in_stage)} samples of a stage called {kind} are of "
                f"classes that the model was {consequence}"
            )
    return tuple(notes)


def require_fitting(
    features: FeatureSet, network: NetworkConfig, *, given_text: bool = False
) -> None:
    """Check that features are as wide as the network's inputs.

    Args:
        features: to be evaluated on.
        network: what they are given to.
        given_text: whether the set's own label vectors are given to it too.

    Raises:
        FeatureSetError: they are not.
    """
    widths = [
        ("audio features", features.audio.shape[1], network.audio_dim),
        ("video features", features.video.shape[1], network.video_dim),
    ]
    if given_text and features.text_vectors is not None:
        widths.append(("text vectors", features.text_vectors.shape[1], network.text_dim))
    for what, got, wanted in widths:
        if got != wanted:
            raise FeatureSetError(
                f"{features.name} has {what} of {got} numbers, the checkpoint takes {wanted}: it "
                "was trained on others; give the kind that it was trained on, or train anew"
            )
