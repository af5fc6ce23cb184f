"""The feature set: features of samples of classes, each sample in one stage of the protocol."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.embedding import ClassText
from model.errors import FeatureSetError

STAGES = (
    "stage_1_train",
    "stage_1_val_seen",
    "stage_1_val_unseen",
    "stage_2_test_seen",
    "stage_2_test_unseen",
)
"""Stages of the AVCA-GZSL protocol."""

TRAINING_STAGES = STAGES[:3]
"""Stages whose rows stage 2 is trained on."""


@dataclass(frozen=True)
class FeatureSet:
    """Features of N samples of C classes, with the protocol's stages.

    Features are as they were measured: scaling them is the training's business. A set is checked
    when it is made, so that one that exists can be trained or evaluated on.

    Attributes:
        name: what tables call it, such as "yt8m-gzsl".
        audio: (N, Da) float32; rows without audio are zero.
        video: (N, Dv) float32; rows without video are zero.
        has_audio, has_video: (N,) bool, whether a row has that modality.
        labels: (N,) int64 index into `classes`.
        stages: (N,) str, each one of `STAGES`.
        ids: N names of samples: a video's address, a file's path, a row's number.
        classes: C classes; one without a row is only a name.
        text_vectors: (C, Dt) float32 label vectors that the set itself brings (word2vec), or None:
            a text encoder makes them.
        backbones: names of the audio and the video backbone that made the features, in
            `model.backbones.registry`; None where they are others' features.

    Raises:
        FeatureSetError: lengths do not agree, a value is not finite, a label or a stage is unknown,
            or a class is named twice.
    """

    name: str
    audio: NDArray[np.float32]
    video: NDArray[np.float32]
    has_audio: NDArray[np.bool_]
    has_video: NDArray[np.bool_]
    labels: NDArray[np.int64]
    stages: NDArray[np.str_]
    ids: tuple[str, ...]
    classes: tuple[ClassText, ...]
    text_vectors: NDArray[np.float32] | None
    backbones: tuple[str, str] | None

    def __post_init__(self) -> None:
        _require_shapes(self)
        _require_classes(self)
        _require_stages(self)
        _require_finite(self)

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, *stages: str) -> NDArray[np.intp]:
        """Positions of the rows of these stages, in order; of all stages without an argument."""
        return np.flatnonzero(np.isin(self.stages, stages or STAGES))

    def classes_of(self, *stages: str) -> NDArray[np.int64]:
        """Sorted distinct labels of the rows of these stages; of all stages without an argument."""
        return np.unique(self.labels[self.rows(*stages)])

    def take(self, rows: NDArray[np.intp]) -> "FeatureSet":
        """The set with these rows only, in this order; classes stay as they are."""
        return dataclasses.replace(
            self,
            audio=self.audio[rows],
            video=self.video[rows],
            has_audio=self.has_audio[rows],
            has_video=self.has_video[rows],
            labels=self.labels[rows],
            stages=self.stages[rows],
            ids=tuple(self.ids[i] for i in rows),
        )


def class_key(name: str) -> str:
    """What two spellings of one class's name have in common: surrounding space and case are not."""
    return name.strip().casefold()


def _require_shapes(features: FeatureSet) -> None:
    for what, array in (("audio", features.audio), ("video", features.video)):
        if array.ndim != 2 or array.shape[1] == 0:
            raise FeatureSetError(
                f"{features.name}: {what} has shape {array.shape}; (samples, numbers) was expected"
            )
    n = len(features.labels)
    for what in ("audio", "video", "has_audio", "has_video", "stages", "ids"):
        length = len(getattr(features, what))
        if length != n:
            raise FeatureSetError(
                f"{features.name}: {what} has {length} rows, labels {n}; all arrays must agree"
            )
    vectors = features.text_vectors
    if vectors is not None and (vectors.ndim != 2 or len(vectors) != len(features.classes)):
        raise FeatureSetError(
            f"{features.name}: text_vectors has shape {vectors.shape}; one row for each of the "
            f"{len(features.classes)} classes was expected"
        )


def _require_classes(features: FeatureSet) -> None:
    known: dict[str, str] = {}
    for c in features.classes:
        key = class_key(c.name)
        if key in known:
            raise FeatureSetError(
                f"{features.name}: the classes {known[key]!r} and {c.name!r} are one name twice; "
                "rename one or join them"
            )
        known[key] = c.name
    outside = (features.labels < 0) | (features.labels >= len(features.classes))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise FeatureSetError(
            f"{features.name}: row {row} has label {features.labels[row]}; there are "
            f"{len(features.classes)} classes, numbered from 0"
        )


def _require_stages(features: FeatureSet) -> None:
    unknown = sorted(set(features.stages.tolist()) - set(STAGES))
    if unknown:
        raise FeatureSetError(
            f"{features.name}: unknown stage {unknown[0]!r}; stages are {', '.join(STAGES)}"
        )


def _require_finite(features: FeatureSet) -> None:
    for what, array in (("audio", features.audio), ("video", features.video)):
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if bad.size:
            row = int(bad[0])
            raise FeatureSetError(
                f"{features.name}: {what} holds NaN or infinity in {bad.size} of {len(array)} "
                f"rows, first in row {row} ({features.ids[row]!r}, class "
                f"{features.classes[features.labels[row]].name!r}); extract these features again "
                "or leave the rows out"
            )
    if features.text_vectors is not None:
        bad = np.flatnonzero(~np.isfinite(features.text_vectors).all(axis=1))
        if bad.size:
            raise FeatureSetError(
                f"{features.name}: text_vectors holds NaN or infinity in {bad.size} of "
                f"{len(features.classes)} classes, first {features.classes[int(bad[0])].name!r}"
            )
