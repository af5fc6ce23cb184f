"""Small feature sets for tests: every stage, missing modalities, awkward names."""

from typing import Any

import numpy as np

from model.embedding import ClassText
from model.features import STAGES, FeatureSet

CLASSES = (
    ClassText("Apply Eye Makeup", ("make-up", "eye shadow"), "Someone paints, with care, an eye."),
    ClassText("bird chirping, tweeting"),
    ClassText("A/B test"),
    ClassText("Ölkännchen", (), 'It says "drip".\nTwice.'),
)
# Classes 0 and 1 are trained on from stage 1, 2 from stage 2, 3 never.
ROWS_OF_STAGE = {
    "stage_1_train": (0, 0, 0, 1, 1),
    "stage_1_val_seen": (0, 1),
    "stage_1_val_unseen": (2, 2),
    "stage_2_test_seen": (0, 1, 2),
    "stage_2_test_unseen": (3, 3),
}


def make_features(**changes: Any) -> FeatureSet:
    """A valid set of 14 rows, 4 and 3 numbers each; row 1 has no sound and row 9 no picture."""
    rng = np.random.default_rng(0)
    stages = [stage for stage in STAGES for _ in ROWS_OF_STAGE[stage]]
    n = len(stages)
    has_audio, has_video = np.ones(n, np.bool_), np.ones(n, np.bool_)
    has_audio[1] = has_video[9] = False
    audio = rng.normal(size=(n, 4)).astype(np.float32) * has_audio[:, None]
    video = rng.normal(size=(n, 3)).astype(np.float32) * has_video[:, None]
    fields: dict[str, Any] = {
        "name": "small",
        "audio": audio,
        "video": video,
        "has_audio": has_audio,
        "has_video": has_video,
        "labels": np.array([c for s in STAGES for c in ROWS_OF_STAGE[s]], np.int64),
        "stages": np.array(stages),
        "ids": tuple(f"clip {i}.mp4" for i in range(n)),
        "classes": CLASSES,
        "text_vectors": rng.normal(size=(len(CLASSES), 5)).astype(np.float32),
        "backbones": ("ears", "eyes"),
    }
    return FeatureSet(**{**fields, **changes})


def assert_same_rows(got: FeatureSet, expected: FeatureSet) -> None:
    """Compare two sets sample by sample, whatever the order of rows and classes."""
    assert sorted(got.ids) == sorted(expected.ids)
    position = {sample: i for i, sample in enumerate(got.ids)}
    rows = np.array([position[sample] for sample in expected.ids])
    for array in ("audio", "video", "has_audio", "has_video", "stages"):
        np.testing.assert_array_equal(getattr(got, array)[rows], getattr(expected, array), array)
    assert [got.classes[i] for i in got.labels[rows]] == [
        expected.classes[i] for i in expected.labels
    ]
    assert (got.text_vectors is None) == (expected.text_vectors is None)
    if got.text_vectors is not None and expected.text_vectors is not None:
        np.testing.assert_array_equal(
            got.text_vectors[got.labels[rows]], expected.text_vectors[expected.labels]
        )
