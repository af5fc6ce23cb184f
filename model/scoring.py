"""From similarities to answers: fused distance, calibrated stacking, probability, "none of these".

Pure NumPy, so that the numbers can be checked by hand. All embeddings are of unit length, so a
similarity s is a cosine and the paper's Euclidean distance is d = sqrt(2 - 2 s).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.config import Calibration
from model.media.types import Modality

Floats = NDArray[np.float64]

RIGHT_ANGLE = float(np.sqrt(2))
"""Distance of two unit vectors that have nothing in common."""
LEAST_CONFIDENCE = 1e-3
"""Keeps a sample on the far side of every label from turning the penalty round."""
LEAST_OTHERS = 9
"""Fewest other candidates that the best one is compared with."""


@dataclass(frozen=True, slots=True)
class LabelRanking:
    """Scores of C candidate labels for one clip or window, in the candidates' order.

    Attributes:
        score: (C,) float64 fused similarity after calibrated stacking; higher is better.
        probability: (C,) float64 over the candidates, sums to 1.
        by_modality: modality -> (C,) float64 probability from that modality alone.
        unknown_probability: probability that none of the candidates is right.
    """

    score: Floats
    probability: Floats
    by_modality: Mapping[Modality, Floats]
    unknown_probability: float


def distance_from_similarity(similarity: NDArray[np.floating]) -> Floats:
    """Euclidean distance between unit vectors of a given cosine, same shape, float64."""
    return np.sqrt(np.maximum(0.0, 2.0 - 2.0 * np.asarray(similarity, dtype=np.float64)))


def similarity_from_distance(distance: Floats) -> Floats:
    """Inverse of `distance_from_similarity`."""
    return 1.0 - 0.5 * distance**2


def fuse_distances(distances: Mapping[Modality, Floats], calibration: Calibration) -> Floats:
    """Weighted mean of the modalities' distances, (C,) float64.

    The paper (section 3.4) sums the two distances; the mean ranks alike and keeps the scale where a
    modality is missing.
    """
    weights = {"audio": calibration.audio_weight, "video": calibration.video_weight}
    total = sum(weights[modality] for modality in distances)
    return np.asarray(sum(weights[m] * d for m, d in distances.items()) / total)


def softmax(logits: Floats) -> Floats:
    """Probabilities (C,) from logits (C,), without overflow."""
    exponentials = np.exp(logits - logits.max())
    return np.asarray(exponentials / exponentials.sum())


def standing_out(similarity: Floats, contrast: float) -> Floats:
    """How far the best of C candidates stands out, (...,), from similarities (..., C).

    The best similarity, less `contrast` times the mean of the others: some samples are near to
    every label. The mean is over all of them, since in a vocabulary the next best are names of the
    same thing. Where there are fewer than `LEAST_OTHERS`, 0 stands for the rest: what unrelated
    unit vectors have on average.
    """
    best = similarity.max(axis=-1)
    others = max(similarity.shape[-1] - 1, LEAST_OTHERS)
    return np.asarray(best - contrast * (similarity.sum(axis=-1) - best) / others)


def unknown_probability(similarity: Floats, calibration: Calibration) -> float:
    """Logistic model of "none of these" from fused similarities (C,), before stacking."""
    evidence = standing_out(similarity, calibration.unknown_contrast)
    logit = calibration.unknown_offset - calibration.unknown_slope * evidence
    return float(1.0 / (1.0 + np.exp(-logit)))


def seen_penalty(modalities: Collection[Modality], calibration: Calibration) -> float:
    """Beta of calibrated stacking for a sample with these modalities."""
    if len(modalities) > 1:
        return calibration.seen_penalty
    (alone,) = modalities
    return calibration.audio_seen_penalty if alone == "audio" else calibration.video_seen_penalty


def penalty_unit(distances: Floats, calibration: Calibration) -> Floats:
    """What beta is multiplied by, (..., 1), for distances (..., C) to all candidates.

    1, as published (Chao et al., ECCV 2016), or how much nearer than a right angle the sample's
    nearest label is: distances differ less where a sample is like nothing known, and the same beta
    would then sway too many answers.
    """
    if not calibration.relative_penalty:
        return np.ones((*distances.shape[:-1], 1))
    confidence = RIGHT_ANGLE - distances.min(axis=-1, keepdims=True)
    return np.asarray(np.maximum(confidence, LEAST_CONFIDENCE))


def rank_labels(
    similarity: Mapping[Modality, NDArray[np.floating]],
    seen: NDArray[np.bool_],
    calibration: Calibration,
) -> LabelRanking:
    """Score C >= 1 candidates by the modalities present.

    Args:
        similarity: for each modality used, (C,) cosines between its embedding and the labels'.
        seen: (C,) bool; beta of calibrated stacking is added to their distances.
        calibration: fitted on validation data, stored in the checkpoint.

    Raises:
        ValueError: no modality or no candidate is given.
    """
    if not similarity or seen.size == 0:
        raise ValueError("rank_labels needs at least one modality and one candidate label")
    distances = {m: distance_from_similarity(s) for m, s in similarity.items()}
    fused = fuse_distances(distances, calibration)

    def stack(distance: Floats, modalities: Collection[Modality]) -> Floats:
        beta = seen_penalty(modalities, calibration)
        return distance + beta * penalty_unit(distance, calibration) * seen

    stacked = stack(fused, similarity)
    return LabelRanking(
        score=similarity_from_distance(stacked),
        probability=softmax(-stacked / calibration.temperature),
        by_modality={
            m: softmax(-stack(d, [m]) / calibration.temperature) for m, d in distances.items()
        },
        unknown_probability=unknown_probability(similarity_from_distance(fused), calibration),
    )
