"""Ridge regression to text and ConSE: the linear methods that a network has to beat.

Each is fitted on audio, on video and on both side by side (features standardised), and what it
leaves open is chosen for each of the three by HM on validation. A sample that lacks a modality is
answered by the other's fit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from model.config import Calibration
from model.embedded_samples import EmbeddedSamples, Evidence, LabelEmbeddings
from model.errors import FeatureSetError
from model.features import FeatureSet
from model.folding import Standardisation
from model.methods import Stage, betas_on
from model.protocol import VALIDATION_STAGES, Run, Validation
from model.stacking import best_harmonic_mean, with_betas
from model.training import TrainingData
from model.vectors import unit_rows

Floats = NDArray[np.float32]

RIDGE_PENALTIES = (1.0, 1e1, 1e2, 1e3, 1e4)
CONSE_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties of ConSE's classifier, as in `sklearn.linear_model.LogisticRegression`."""
CONSE_TOPS = (1, 2, 5, 10, 20, 50)

FITTED_IN_ORDER: tuple[Evidence, ...] = ("audio", "video", "both")


class Head(Protocol):
    """A fit from one evidence: its features into text space."""

    def embed(self, x: Floats) -> Floats:
        """Map standardised features (N, D) to unit vectors (N, Dt)."""


@dataclass(frozen=True)
class Sample:
    """What a head is fitted on.

    Attributes:
        x: (N, D) standardised features.
        labels: (N,) among the C trained classes.
        text: (C, Dt) unit text vectors.
    """

    x: Floats
    labels: NDArray[np.int64]
    text: Floats


# --- ridge regression ----------------------------------------------------------------------------


@dataclass(frozen=True)
class RidgeHead:
    """Linear regression onto the text vectors of labels; answers are ranked by cosine.

    The linear map of DeViSE (Frome et al., NeurIPS 2013) with squared errors and a penalty in place
    of its ranking loss.
    """

    regression: Ridge

    def embed(self, x: Floats) -> Floats:
        """Predict text vectors, at unit length."""
        return unit_rows(self.regression.predict(x).astype(np.float32))


def fit_ridge(sample: Sample, penalties: Sequence[float]) -> list[RidgeHead]:
    """Fit one head for each penalty; the intercept is not penalised."""
    targets = sample.text[sample.labels]
    return [RidgeHead(Ridge(alpha=penalty).fit(sample.x, targets)) for penalty in penalties]


# --- ConSE ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConseSetting:
    """What ConSE leaves open.

    Attributes:
        strength: inverse penalty of the classifier.
        top: T, how many of the likeliest trained classes are combined.
    """

    strength: float
    top: int


@dataclass(frozen=True)
class ConseHead:
    """Convex combination of semantic embeddings (Norouzi et al., ICLR 2014).

    A sample is the mean of the text vectors of its T likeliest trained classes, by probability.

    Attributes:
        classifier: has `predict_proba`, (N, D) -> (N, C).
        text: (C, Dt) unit text vectors of its classes.
        top: T.
    """

    classifier: LogisticRegression
    text: Floats
    top: int

    def embed(self, x: Floats) -> Floats:
        """Combine text vectors, at unit length."""
        return combine_text(self.classifier.predict_proba(x), self.text, self.top)


def combine_text(probability: NDArray[np.floating], text: Floats, top: int) -> Floats:
    """Mean text vectors (N, Dt), at unit length, of the likeliest `top` classes of each sample.

    Args:
        probability: (N, C).
        text: (C, Dt) unit text vectors.
        top: T.
    """
    top = min(top, probability.shape[1])
    least = np.partition(probability, -top, axis=1)[:, -top, None]  # (N, 1)
    kept = np.where(probability >= least, probability, 0.0)
    combined = kept @ text / kept.sum(axis=1, keepdims=True)
    return unit_rows(combined.astype(np.float32))


def fit_conse(sample: Sample, settings: Sequence[ConseSetting]) -> list[ConseHead]:
    """Fit one head for each setting; those of one strength share their classifier."""
    classifiers = {
        strength: LogisticRegression(C=strength, tol=1e-3, max_iter=200).fit(
            sample.x, sample.labels
        )
        for strength in dict.fromkeys(s.strength for s in settings)
    }
    return [
        ConseHead(classifiers[s.strength], sample.text[classifiers[s.strength].classes_], s.top)
        for s in settings
    ]


# --- the two stages ------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearModel:
    """Heads by evidence; one that no two trained classes have is absent.

    Attributes:
        heads: at least one.
        audio_scale, video_scale: how features are standardised.
    """

    heads: Mapping[Evidence, Head]
    audio_scale: Standardisation
    video_scale: Standardisation

    def embed_samples(self, features: FeatureSet, labels: NDArray[np.int64]) -> EmbeddedSamples:
        """Embed all rows of a feature set, "both" by a fit of its own."""
        audio = self.audio_scale.apply(torch.from_numpy(features.audio))
        video = self.video_scale.apply(torch.from_numpy(features.video))
        x = _features_by_evidence(audio, video)
        embedded = {evidence: head.embed(x[evidence]) for evidence, head in self.heads.items()}
        return EmbeddedSamples(
            audio=embedded.get("audio"),
            video=embedded.get("video"),
            both=embedded.get("both"),
            has_audio=features.has_audio,
            has_video=features.has_video,
            labels=labels,
        )

    def embed_labels(self, text: Floats, seen: NDArray[np.bool_]) -> LabelEmbeddings:
        """Take candidates' text vectors as they are, at unit length."""
        return LabelEmbeddings(unit_rows(text), seen)


Setting = TypeVar("Setting")


@dataclass(frozen=True)
class LinearMethod(Generic[Setting]):
    """A linear method, and the settings that it is tried with on validation.

    Attributes:
        settings: of which one is chosen for each evidence.
        fit: heads for several settings, in their order.
    """

    settings: Sequence[Setting]
    fit: Callable[[Sample, Sequence[Setting]], Sequence[Head]]

    def select(self, run: Run) -> Stage:
        """Fit with every setting, and keep for each evidence that of the best HM.

        Raises:
            FeatureSetError: no modality has samples of two classes to train on.
        """
        data, trained = _training_data(run, "stage_1_train")
        validation = Validation.of(run, trained)
        model = _empty_model(data)
        chosen: dict[str, Any] = {}
        for evidence, sample in _samples(data).items():
            heads = self.fit(sample, self.settings)
            models = [replace(model, heads={**model.heads, evidence: head}) for head in heads]
            scores = [best_harmonic_mean(betas_on(m, validation), evidence) for m in models]
            best = int(np.argmax(scores))
            model, chosen[evidence] = models[best], self.settings[best]
        calibration = with_betas(Calibration(), betas_on(model, validation))
        return Stage(model, trained, calibration, chosen)

    def retrain(self, run: Run, choice: Stage) -> Stage:
        """Fit each evidence with its setting."""
        data, trained = _training_data(run, "stage_1_train", *VALIDATION_STAGES)
        heads = {
            evidence: self.fit(sample, [choice.chosen[evidence]])[0]
            for evidence, sample in _samples(data).items()
            if evidence in choice.chosen
        }
        return replace(choice, model=replace(_empty_model(data), heads=heads), trained=trained)


RIDGE = LinearMethod(RIDGE_PENALTIES, fit_ridge)
CONSE = LinearMethod(
    [ConseSetting(strength, top) for strength in CONSE_STRENGTHS for top in CONSE_TOPS], fit_conse
)


def _training_data(run: Run, *stages: str) -> tuple[TrainingData, NDArray[np.int64]]:
    standardised = replace(run, recipe=replace(run.recipe, standardise=True))
    return standardised.training_data(*stages)


def _empty_model(data: TrainingData) -> LinearModel:
    assert data.audio_scale is not None
    assert data.video_scale is not None
    return LinearModel({}, data.audio_scale, data.video_scale)


def _samples(data: TrainingData) -> dict[Evidence, Sample]:
    """Rows to fit on by evidence, where there are rows of at least two classes."""
    x = _features_by_evidence(data.audio, data.video)
    has = {
        "audio": data.has_audio.numpy(),
        "video": data.has_video.numpy(),
        "both": (data.has_audio & data.has_video).numpy(),
    }
    labels, text = data.labels.numpy(), unit_rows(data.text.numpy())
    samples = {
        evidence: Sample(x[evidence][has[evidence]], labels[has[evidence]], text)
        for evidence in FITTED_IN_ORDER
        if len(np.unique(labels[has[evidence]])) >= 2
    }
    if not samples:
        raise FeatureSetError(
            "neither audio nor video has samples of two classes to train on; add some"
        )
    return samples


def _features_by_evidence(audio: Tensor, video: Tensor) -> dict[Evidence, Floats]:
    return {
        "audio": audio.numpy(),
        "video": video.numpy(),
        "both": torch.cat([audio, video], dim=1).numpy(),
    }
