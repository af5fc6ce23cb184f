"""Distances of samples to labels, and calibrated stacking: a penalty beta for seen classes.

Distances are Euclidean (Mazumder et al., WACV 2021, section 3.4). "Both" is the weighted mean of
the two modalities' distances, which ranks as the paper's sum does, or the distance of a method's
own joint embedding; a sample that lacks one modality goes by the other alone. Each modality has
its own beta, chosen on validation samples and never on those that are reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.config import Calibration
from model.embedded_samples import EVIDENCE, EmbeddedSamples, Evidence, LabelEmbeddings
from model.errors import FeatureSetError
from model.metrics import BetaCurve, Floats, Mask
from model.scoring import fuse_distances, penalty_unit


def euclidean_distances(a: NDArray[np.floating], b: NDArray[np.floating]) -> Floats:
    """Distances between the rows of a (N, E) and b (M, E): (N, M) float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def label_distances(
    samples: EmbeddedSamples, labels: LabelEmbeddings, calibration: Calibration
) -> dict[Evidence, Floats]:
    """Distances (N, C) float64 of all samples to all labels; NaN in rows without the evidence.

    Raises:
        FeatureSetError: an embedding is not finite, as after a training that diverged.
    """
    audio = _distances_of_rows(samples, "audio", samples.present("audio"), labels.vectors)
    video = _distances_of_rows(samples, "video", samples.present("video"), labels.vectors)
    both = _fused_distances(samples, audio, video, labels.vectors, calibration)
    return {"both": both, "audio": audio, "video": video}


def _distances_of_rows(
    samples: EmbeddedSamples, evidence: Evidence, rows: Mask, vectors: NDArray[np.float32]
) -> Floats:
    embedding = samples.embedding(evidence)
    distances = np.full((len(rows), len(vectors)), np.nan)
    if embedding is not None and rows.any():
        for what, values in ((f"embeddings of {evidence}", embedding[rows]), ("labels", vectors)):
            if not np.isfinite(values).all():
                raise FeatureSetError(
                    f"the {what} hold NaN or infinity; the training diverged: lower its learning "
                    "rate, or take an earlier checkpoint"
                )
        distances[rows] = euclidean_distances(embedding[rows], vectors)
    return distances


def _fused_distances(
    samples: EmbeddedSamples,
    audio: Floats,
    video: Floats,
    vectors: NDArray[np.float32],
    calibration: Calibration,
) -> Floats:
    joint = samples.present("both") & ~samples.alone("audio") & ~samples.alone("video")
    if samples.both is not None:
        fused = _distances_of_rows(samples, "both", joint, vectors)
    else:
        fused = np.full_like(audio, np.nan)
        fused[joint] = fuse_distances({"audio": audio[joint], "video": video[joint]}, calibration)
    fused = np.where(samples.alone("audio")[:, None], audio, fused)
    return np.where(samples.alone("video")[:, None], video, fused)


@dataclass(frozen=True)
class Selection:
    """Betas chosen on validation samples, and the curves that they were read from.

    Attributes:
        betas: evidence -> beta; 0 where there is no curve to read it from.
        curves: only where samples of both seen and unseen classes have the evidence.
    """

    betas: Mapping[Evidence, float]
    curves: Mapping[Evidence, BetaCurve]


def choose_betas(
    samples: EmbeddedSamples, labels: LabelEmbeddings, calibration: Calibration
) -> Selection:
    """Choose for each evidence the beta with the largest HM on these validation samples.

    That of "both" is chosen on samples with both modalities; the others have a beta of their own.
    """
    curves: dict[Evidence, BetaCurve] = {}
    for evidence, distances in label_distances(samples, labels, calibration).items():
        rows = samples.present(evidence)
        if evidence == "both":
            rows = rows & ~samples.alone("audio") & ~samples.alone("video")
        true = samples.labels[rows]
        of_seen = labels.seen[true]
        if of_seen.any() and not of_seen.all():
            # Scaling a sample's distances leaves their order, and makes beta's unit 1.
            scaled = distances[rows] / penalty_unit(distances[rows], calibration)
            grid = metrics.beta_grid(scaled, labels.seen)
            curves[evidence] = metrics.sweep_beta(scaled, true, labels.seen, grid)
    betas: dict[Evidence, float] = {
        e: metrics.choose_beta(curves[e]) if e in curves else 0.0 for e in EVIDENCE
    }
    return Selection(betas, curves)


def best_harmonic_mean(selection: Selection, evidence: Evidence) -> float:
    """HM, as a fraction, at the chosen beta; 0 where there is no curve to choose it from."""
    curve = selection.curves.get(evidence)
    return 0.0 if curve is None else float(np.nanmax(curve.harmonic_mean))


def with_betas(calibration: Calibration, selection: Selection) -> Calibration:
    """Put chosen betas into a calibration."""
    return replace(
        calibration,
        seen_penalty=selection.betas["both"],
        audio_seen_penalty=selection.betas["audio"],
        video_seen_penalty=selection.betas["video"],
    )


def betas_of(calibration: Calibration) -> dict[Evidence, float]:
    """Betas that a checkpoint was stored with."""
    return {
        "both": calibration.seen_penalty,
        "audio": calibration.audio_seen_penalty,
        "video": calibration.video_seen_penalty,
    }


def stack(
    distances: Mapping[Evidence, Floats],
    samples: EmbeddedSamples,
    seen: Mask,
    betas: Mapping[Evidence, float],
    calibration: Calibration,
) -> dict[Evidence, Floats]:
    """Add beta to the distances of seen classes: calibrated stacking, (N, C) by evidence.

    A sample that "both" answers from one modality gets that modality's beta, as in `model.scoring`.
    """
    by_sample = np.full(len(samples.labels), betas["both"])
    by_sample[samples.alone("audio")] = betas["audio"]
    by_sample[samples.alone("video")] = betas["video"]
    beta_of: dict[Evidence, Floats | float] = {
        "both": by_sample[:, None],
        "audio": betas["audio"],
        "video": betas["video"],
    }
    return {
        evidence: distance + beta_of[evidence] * penalty_unit(distance, calibration) * seen
        for evidence, distance in distances.items()
    }
