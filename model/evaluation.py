"""The zero-shot report by the protocol of AVCA-GZSL: S, U, HM, ZSL and mAP of one model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model import metrics
from model.config import Calibration
from model.embedded_samples import EVIDENCE, EmbeddedSamples, Evidence, LabelEmbeddings
from model.errors import FeatureSetError
from model.metrics import Confusion, Floats, Labels, Mask, SeenUnseen
from model.retrieval import RetrievalFigures, retrieval_figures
from model.scoring import softmax
from model.stacking import label_distances, stack


@dataclass(frozen=True)
class Report:
    """What one set of samples says of one model. Figures are fractions; JSON has them in percent.

    Attributes:
        figures: S, U, HM, ZSL by evidence.
        retrieval: by kind of query.
        betas: those that the figures were made with.
        chance: S, U, HM, ZSL of guessing among the candidates.
        class_names, seen: the C candidates.
        samples_per_class: (C,) int64.
        accuracy_per_class: evidence -> (C,), NaN where the class has no such samples.
        confusions: the most frequent ones, from both modalities.
        calibration_error: expected calibration error of the probabilities, from both modalities.
        unseen_auroc: area under the ROC curve for telling samples of unseen classes by their
            distance to the nearest seen class.
        counts: of samples and candidates.
        notes: a sentence for each absent figure and for each doubt.
        model_id, feature_set, stages: what was evaluated on what.
    """

    figures: Mapping[Evidence, SeenUnseen]
    retrieval: Mapping[str, RetrievalFigures]
    betas: Mapping[Evidence, float]
    chance: SeenUnseen
    class_names: tuple[str, ...]
    seen: Mask
    samples_per_class: Labels
    accuracy_per_class: Mapping[Evidence, Floats]
    confusions: tuple[Confusion, ...]
    calibration_error: float | None
    unseen_auroc: float | None
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    model_id: str = ""
    feature_set: str = ""
    stages: tuple[str, ...] = ()


def evaluate(
    samples: EmbeddedSamples,
    labels: LabelEmbeddings,
    *,
    class_names: Sequence[str],
    betas: Mapping[Evidence, float],
    calibration: Calibration,
) -> Report:
    """Evaluate N >= 1 samples among C candidates.

    Args:
        samples: their embeddings; a sample with neither modality counts in no figure.
        labels: the candidates, seen and unseen.
        class_names: C names.
        betas: evidence -> beta, from `choose_betas` on validation samples or from a checkpoint.
        calibration: weights of the modalities, and the temperature of the probabilities.

    Raises:
        FeatureSetError: an embedding is not finite, or there is no sample.
        ValueError: there are more or fewer names than labels.
    """
    if len(class_names) != len(labels.seen):
        raise ValueError(f"{len(class_names)} class names for {len(labels.seen)} label embeddings")
    if not samples.labels.size:
        raise FeatureSetError("there is no sample to evaluate; choose stages that have rows")
    distances = label_distances(samples, labels, calibration)
    stacked = stack(distances, samples, labels.seen, betas, calibration)
    figures: dict[Evidence, SeenUnseen] = {}
    accuracy_per_class: dict[Evidence, Floats] = {}
    for evidence in EVIDENCE:
        rows = samples.present(evidence)
        of_rows, true = stacked[evidence][rows], samples.labels[rows]
        figures[evidence] = metrics.seen_unseen_report(of_rows, true, labels.seen)
        accuracy_per_class[evidence] = metrics.per_class_accuracy(
            of_rows.argmin(axis=1), true, len(labels.seen)
        )
    rows = samples.present("both")
    predicted, true = stacked["both"][rows].argmin(axis=1), samples.labels[rows]
    return Report(
        figures=figures,
        retrieval=retrieval_figures(samples, labels, distances),
        betas=dict(betas),
        chance=_chance(labels.seen),
        class_names=tuple(class_names),
        seen=labels.seen,
        samples_per_class=np.bincount(samples.labels, minlength=len(labels.seen)),
        accuracy_per_class=accuracy_per_class,
        confusions=metrics.worst_confusions(predicted, true),
        calibration_error=metrics.expected_calibration_error(
            _confidence(stacked["both"][rows], calibration), predicted == true
        ),
        unseen_auroc=_unseen_auroc(distances["both"][rows], true, labels.seen),
        counts=_counts(samples, labels),
        notes=tuple(_notes(samples, labels)),
    )


def _chance(seen: Mask) -> SeenUnseen:
    guess = 1 / len(seen)
    unseen = np.count_nonzero(~seen)
    return SeenUnseen(guess, guess, guess, 1 / unseen if unseen else None)


def _confidence(stacked: Floats, calibration: Calibration) -> Floats:
    """Probability (N,) of each sample's first answer."""
    return np.array([softmax(-row / calibration.temperature).max() for row in stacked])


def _unseen_auroc(distances: Floats, true: Labels, seen: Mask) -> float | None:
    if not seen.any():
        return None
    return metrics.roc_auc(distances[:, seen].min(axis=1), ~seen[true])


def _counts(samples: EmbeddedSamples, labels: LabelEmbeddings) -> dict[str, int]:
    tested = np.unique(samples.labels)
    masks = {
        "samples": np.ones(len(samples.labels), bool),
        "seen_samples": labels.seen[samples.labels],
        "unseen_samples": ~labels.seen[samples.labels],
        "with_audio": samples.has_audio,
        "with_video": samples.has_video,
        "with_both": samples.has_audio & samples.has_video,
        "with_neither": ~samples.has_audio & ~samples.has_video,
        "candidate_classes": np.ones(len(labels.seen), bool),
        "seen_candidates": labels.seen,
        "unseen_candidates": ~labels.seen,
        "seen_classes_tested": labels.seen[tested],
        "unseen_classes_tested": ~labels.seen[tested],
    }
    return {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}


def _notes(samples: EmbeddedSamples, labels: LabelEmbeddings) -> Iterator[str]:
    of_seen = labels.seen[samples.labels]
    if not of_seen.any():
        yield "S and HM are absent: no sample here is of a class that the model was trained on."
    if of_seen.all():
        yield (
            "U, HM and ZSL are absent: the model was trained on every class that has samples here."
        )
    for evidence in ("audio", "video"):
        if not samples.present(evidence).any():
            yield f"The figures of {evidence} are absent: no sample here has embedded {evidence}."
    neither = int(np.count_nonzero(~samples.has_audio & ~samples.has_video))
    if neither:
        yield f"{neither} of {len(of_seen)} samples have neither modality and count in no figure."
