"""Zero-shot methods as the protocol sees them: chosen on validation, trained anew, evaluated.

AVGZSLNet is one of them, by any recipe; `model.baselines` and `model.cjme` have others. All take a
`Run`, and what is not the method is alike: rows, text vectors, the choice of beta, the report.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model import protocol
from model.candidates import Phase, evaluated_rows
from model.config import Calibration
from model.embedded_samples import EmbeddedSamples, LabelEmbeddings
from model.evaluation import Report, evaluate
from model.features import FeatureSet
from model.network import AVGZSLNet
from model.projection import embed_labels, embed_samples
from model.protocol import Run, Validation
from model.stacking import Selection, betas_of, choose_betas


class ZeroShotModel(Protocol):
    """What a method became by training: samples and labels into one space."""

    def embed_samples(self, features: FeatureSet, labels: NDArray[np.int64]) -> EmbeddedSamples:
        """Embed all rows of a feature set; `labels` (N,) are theirs among the candidates."""

    def embed_labels(self, text: NDArray[np.float32], seen: NDArray[np.bool_]) -> LabelEmbeddings:
        """Embed C candidates from their text vectors (C, Dt); seen (C,)."""


@dataclass(frozen=True)
class Stage:
    """A method after one stage of the protocol.

    Attributes:
        model: as this stage trained it.
        trained: sorted positions of its classes among the feature set's.
        calibration: betas and modalities' weights, chosen in stage 1.
        chosen: what else was chosen there, by name; plain values.
    """

    model: ZeroShotModel
    trained: NDArray[np.int64]
    calibration: Calibration
    chosen: Mapping[str, Any]


class Method(Protocol):
    """A way to train; it never looks at test stages."""

    def select(self, run: Run) -> Stage:
        """Stage 1: train on `stage_1_train`, and choose on the validation stages."""

    def retrain(self, run: Run, choice: Stage) -> Stage:
        """Stage 2: train anew, as chosen, on the rows of all stages of stage 1."""


def evaluate_stage(stage: Stage, run: Run, phase: Phase) -> Report:
    """Evaluate on validation or on the test, among the trained classes and those of the rows.

    Raises:
        FeatureSetError: there are no such rows, or an embedding is not finite.
    """
    rows = evaluated_rows(run.features, phase)
    candidates = np.union1d(stage.trained, rows.labels)
    seen = np.isin(candidates, stage.trained)
    samples = stage.model.embed_samples(rows, np.searchsorted(candidates, rows.labels))
    labels = stage.model.embed_labels(run.text[candidates], seen)
    report = evaluate(
        samples,
        labels,
        class_names=[run.features.classes[i].name for i in candidates],
        betas=betas_of(stage.calibration),
        calibration=stage.calibration,
    )
    return replace(report, feature_set=rows.name, stages=tuple(sorted(set(rows.stages.tolist()))))


def betas_on(model: ZeroShotModel, validation: Validation) -> Selection:
    """Choose a model's betas on validation, the modalities weighing alike."""
    samples = model.embed_samples(validation.features, validation.labels)
    labels = model.embed_labels(validation.text, validation.seen)
    return choose_betas(samples, labels, Calibration())


@dataclass(frozen=True)
class NetworkModel:
    """A trained AVGZSLNet."""

    network: AVGZSLNet

    def embed_samples(self, features: FeatureSet, labels: NDArray[np.int64]) -> EmbeddedSamples:
        """Embed all rows of a feature set."""
        return embed_samples(self.network, features, labels)

    def embed_labels(self, text: NDArray[np.float32], seen: NDArray[np.bool_]) -> LabelEmbeddings:
        """Embed C candidates."""
        return embed_labels(self.network, text, seen)


class AvgzslnetMethod:
    """AVGZSLNet by the run's recipe."""

    def select(self, run: Run) -> Stage:
        """Choose the epoch, the modalities' weights and the betas."""
        choice = protocol.select(run)
        return Stage(
            NetworkModel(choice.network),
            choice.trained,
            choice.calibration,
            {"epochs": choice.epochs, "audio_weight": choice.calibration.audio_weight},
        )

    def retrain(self, run: Run, choice: Stage) -> Stage:
        """Train for as many epochs."""
        network, trained = protocol.retrain(run, choice.chosen["epochs"])
        return replace(choice, model=NetworkModel(network), trained=trained)
