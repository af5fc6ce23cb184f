"""A feature set that zero-shot methods can learn: both modalities are linear in a label's text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from model.embedding import ClassText
from model.features import FeatureSet
from model.projection import GIVEN_VECTORS
from model.protocol import Run
from model.recipes import Recipe

TEXT_DIM, AUDIO_DIM, VIDEO_DIM = 6, 10, 14
SEEN, VALIDATED, TESTED = range(30), range(30, 40), range(40, 50)
ROWS_OF_STAGE = {
    "stage_1_train": (SEEN, 8),
    "stage_1_val_seen": (SEEN, 2),
    "stage_1_val_unseen": (VALIDATED, 4),
    "stage_2_test_seen": (SEEN, 2),
    "stage_2_test_unseen": (TESTED, 4),
}


def separable_features(stages: Sequence[str] = tuple(ROWS_OF_STAGE)) -> FeatureSet:
    """Rows of these stages of 50 classes; every tenth has no sound, every tenth no picture."""
    rng = np.random.default_rng(0)
    text = rng.normal(size=(len(SEEN) + len(VALIDATED) + len(TESTED), TEXT_DIM))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    to_audio = rng.normal(size=(TEXT_DIM, AUDIO_DIM))
    to_video = rng.normal(size=(TEXT_DIM, VIDEO_DIM))
    rows = [(c, s) for s in stages for c in ROWS_OF_STAGE[s][0] for _ in range(ROWS_OF_STAGE[s][1])]
    labels = np.array([c for c, _ in rows], np.int64)
    n = len(labels)
    has_audio, has_video = np.arange(n) % 10 != 3, np.arange(n) % 10 != 8
    audio = text[labels] @ to_audio + 0.2 * rng.normal(size=(n, AUDIO_DIM))
    video = text[labels] @ to_video + 0.2 * rng.normal(size=(n, VIDEO_DIM))
    return FeatureSet(
        name="separable",
        audio=(audio * has_audio[:, None]).astype(np.float32),
        video=(video * has_video[:, None]).astype(np.float32),
        has_audio=has_audio,
        has_video=has_video,
        labels=labels,
        stages=np.array([s for _, s in rows]),
        ids=tuple(str(i) for i in range(n)),
        classes=tuple(ClassText(f"class {i}") for i in range(len(text))),
        text_vectors=text.astype(np.float32),
        backbones=None,
    )


def run_of(features: FeatureSet, folder: Path, recipe: Recipe | None = None, **changes: Any) -> Run:
    """A run on the CPU with the set's own text vectors, told to nobody."""
    assert features.text_vectors is not None
    run = Run(
        features,
        features.text_vectors,
        GIVEN_VECTORS,
        recipe or Recipe(),
        0,
        "cpu",
        folder,
        lambda _: None,
    )
    return replace(run, **changes)
