"""The zero-shot report: embeddings of samples and labels in, the AVCA-GZSL protocol's figures out.

Distances are Euclidean (Mazumder et al., WACV 2021, section 3.4). "Both" is the weighted mean of
the two modalities' distances, which ranks as the paper's sum does, or the distance of a method's
own joint embedding; a sample that lacks one modality goes by the other alone. Each modality has
its own beta, chosen on validation samples and never on those that are reported.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model import metrics
from model.config import Calibration, NetworkConfig
from model.embedding import ClassText
from model.errors import FeatureSetError
from model.features import FeatureSet
from model.features.feature_set import class_key
from model.metrics import BetaCurve, Confusion, Floats, Labels, Mask, SeenUnseen
from model.scoring import fuse_distances, penalty_unit, softmax

Evidence = Literal["both", "audio", "video"]
"""What an answer is given from."""
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)
ACROSS: tuple[tuple[Evidence, Evidence], ...] = (("audio", "video"), ("video", "audio"))
"""Query and item of retrieval from sample to sample."""

Phase = Literal["test", "validation"]
STAGES_OF: Mapping[Phase, tuple[str, str]] = {
    "test": ("stage_2_test_seen", "stage_2_test_unseen"),
    "validation": ("stage_1_val_seen", "stage_1_val_unseen"),
}

BLOCK_NUMBERS = 2**23
"""Distances held at once in sample-to-sample retrieval: 64 MiB."""

# --- what is evaluated ---------------------------------------------------------------------------


@dataclass(frozen=True)
class EmbeddedSamples:
    """N samples in the shared space of width E; rows of a missing modality mean nothing.

    Attributes:
        audio, video: (N, E) float32; None where the method has no such embedding.
        both: (N, E) float32 joint embedding where a method has one; None: the modalities'
            distances are fused instead.
        has_audio, has_video: (N,) bool.
        labels: (N,) int64 into the label embeddings.
    """

    audio: NDArray[np.float32] | None
    video: NDArray[np.float32] | None
    both: NDArray[np.float32] | None
    has_audio: Mask
    has_video: Mask
    labels: Labels

    def embedding(self, evidence: Evidence) -> NDArray[np.float32] | None:
        """Embedding (N, E) float32 made from this evidence, where the method has one."""
        return {"both": self.both, "audio": self.audio, "video": self.video}[evidence]

    def present(self, evidence: Evidence) -> Mask:
        """Samples that can be answered from this evidence, (N,) bool; "both" needs but one."""
        audio = self.has_audio & (self.audio is not None)
        video = self.has_video & (self.video is not None)
        joint = (self.has_audio | self.has_video) & (self.both is not None)
        return {"both": audio | video | joint, "audio": audio, "video": video}[evidence]

    def alone(self, modality: Evidence) -> Mask:
        """Samples that "both" answers from this modality's own embedding alone, (N,) bool.

        Where there is a joint embedding too, the modality's own beats it for a sample without the
        other modality: the joint one was given nothing in its place.
        """
        if self.both is not None:
            return self.present(modality) & ~(self.has_audio & self.has_video)
        other: Evidence = "video" if modality == "audio" else "audio"
        return self.present(modality) & ~self.present(other)


@dataclass(frozen=True)
class LabelEmbeddings:
    """C candidate classes in the shared space: vectors (C, E) float32, seen (C,) bool."""

    vectors: NDArray[np.float32]
    seen: Mask


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


# --- distances -----------------------------------------------------------------------------------


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


# --- choosing beta -------------------------------------------------------------------------------


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


# --- retrieval -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RetrievalFigures:
    """Mean average precisions of one kind of query.

    Attributes:
        mean: over the queries of all classes, among all samples.
        by_queries: S and U, the same of queries of seen and of unseen classes alone; HM of the two;
            ZSL, queries of unseen classes among those classes' samples.
        chance: `mean` of a random order.
    """

    mean: float | None
    by_queries: SeenUnseen
    chance: float | None


def retrieval_figures(
    samples: EmbeddedSamples, labels: LabelEmbeddings, distances: Mapping[Evidence, Floats]
) -> dict[str, RetrievalFigures]:
    """Evaluate text-to-sample and sound-to-picture retrieval, both ways.

    A query of text is a class, and its samples are relevant. A query of a modality is a sample, and
    all samples of its class are relevant, its own other modality among them, as public evaluations
    across the modalities of AudioSetZSL count it; it is one match among many.
    Beta has no part here: it moves all of a query's items alike.
    """
    every_class = np.arange(len(labels.seen))
    figures: dict[str, RetrievalFigures] = {}
    for evidence in EVIDENCE:
        rows = samples.present(evidence)
        figures[f"text_to_{evidence}"] = _retrieval(
            [distances[evidence][rows].T], every_class, samples.labels[rows], labels.seen
        )
    for query, item in ACROSS:
        query_rows, item_rows = samples.present(query), samples.present(item)
        figures[f"{query}_to_{item}"] = _retrieval(
            _distance_blocks(
                samples.embedding(query), query_rows, samples.embedding(item), item_rows
            ),
            samples.labels[query_rows],
            samples.labels[item_rows],
            labels.seen,
        )
    return figures


def _distance_blocks(
    queries: NDArray[np.float32] | None,
    query_rows: Mask,
    items: NDArray[np.float32] | None,
    item_rows: Mask,
) -> Iterator[Floats]:
    """Distances from all queries to all items, (Q, N), some rows at a time."""
    if queries is None or items is None:
        return
    queries, items = queries[query_rows], items[item_rows]
    rows = max(1, BLOCK_NUMBERS // max(1, len(items)))
    for start in range(0, len(queries), rows):
        yield euclidean_distances(queries[start : start + rows], items)


def _retrieval(
    blocks: Iterable[Floats], query_labels: Labels, item_labels: Labels, seen: Mask
) -> RetrievalFigures:
    """Figures from blocks (rows of Q, N) of the distances of all queries, in order."""
    among_all, among_unseen = [np.zeros(0)], [np.zeros(0)]
    unseen_items = ~seen[item_labels]
    start = 0
    for block in blocks:
        block_labels = query_labels[start : start + len(block)]
        start += len(block)
        among_all.append(metrics.average_precisions(block, block_labels, item_labels))
        rows = ~seen[block_labels]
        among_unseen.append(
            metrics.average_precisions(
                block[rows][:, unseen_items], block_labels[rows], item_labels[unseen_items]
            )
        )
    precisions = np.concatenate(among_all)
    answered = query_labels[: len(precisions)]
    of_seen = seen[answered]
    mean_of = metrics.mean_average_precision
    seen_mean = mean_of(precisions[of_seen], answered[of_seen])
    unseen_mean = mean_of(precisions[~of_seen], answered[~of_seen])
    return RetrievalFigures(
        mean=mean_of(precisions, answered),
        by_queries=SeenUnseen(
            seen=seen_mean,
            unseen=unseen_mean,
            harmonic_mean=metrics.harmonic_mean(seen_mean, unseen_mean),
            zero_shot=mean_of(np.concatenate(among_unseen), answered[~of_seen]),
        ),
        chance=_chance_precision(answered[~np.isnan(precisions)], item_labels),
    )


def _chance_precision(query_labels: Labels, item_labels: Labels) -> float | None:
    counts = np.bincount(item_labels)[np.unique(query_labels)]
    if not counts.size:
        return None
    return float(np.mean([metrics.chance_average_precision(c, len(item_labels)) for c in counts]))


# --- the report ----------------------------------------------------------------------------------


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


# --- the report, written -------------------------------------------------------------------------


def to_json(report: Report) -> dict[str, Any]:
    """Give the report as plain JSON values; all figures are in percent, absent ones are null."""
    return {
        **{e: _four_figures(report.figures[e]) for e in EVIDENCE},
        "mAP": {name: _percent(f.mean) for name, f in report.retrieval.items()},
        "mAP_by_queries": {
            name: _four_figures(f.by_queries) for name, f in report.retrieval.items()
        },
        "chance": {
            **_four_figures(report.chance),
            "mAP": {name: _percent(f.chance) for name, f in report.retrieval.items()},
        },
        "betas": dict(report.betas),
        "expected_calibration_error": _percent(report.calibration_error),
        "unseen_auroc": _percent(report.unseen_auroc),
        "counts": dict(report.counts),
        "per_class": [
            {
                "name": name,
                "seen": bool(report.seen[i]),
                "samples": int(report.samples_per_class[i]),
                **{e: _percent(report.accuracy_per_class[e][i]) for e in EVIDENCE},
            }
            for i, name in enumerate(report.class_names)
            if report.samples_per_class[i]
        ],
        "confusions": [
            {
                "true": report.class_names[c.true],
                "predicted": report.class_names[c.predicted],
                "count": c.count,
                "share": _percent(c.share),
            }
            for c in report.confusions
        ],
        "notes": list(report.notes),
        "model_id": report.model_id,
        "feature_set": report.feature_set,
        "stages": list(report.stages),
    }


def _four_figures(figures: SeenUnseen) -> dict[str, float | None]:
    return {
        "S": _percent(figures.seen),
        "U": _percent(figures.unseen),
        "HM": _percent(figures.harmonic_mean),
        "ZSL": _percent(figures.zero_shot),
    }


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None or np.isnan(fraction) else round(100 * float(fraction), 4)


def print_report(report: Report, console: Console) -> None:
    """Print the figures in percent as two tables, with the notes below."""
    counts = report.counts
    console.print(
        f"model {report.model_id or '?'} on {report.feature_set or '?'} "
        f"({', '.join(report.stages) or 'all rows'}): {counts['samples']} samples, "
        f"{counts['seen_candidates']} seen and {counts['unseen_candidates']} unseen candidates",
        highlight=False,
    )
    accuracy = Table("accuracy, %", title="Zero-shot classification", title_justify="left")
    for column in ("S", "U", "HM", "ZSL", "beta"):
        accuracy.add_column(column, justify="right")
    for evidence in EVIDENCE:
        accuracy.add_row(
            evidence, *_cells(report.figures[evidence]), f"{report.betas[evidence]:.3f}"
        )
    accuracy.add_row("chance", *_cells(report.chance), "", style="dim")
    console.print(accuracy)
    retrieval = Table("mAP, %", title="Retrieval", title_justify="left")
    for column in ("all", "S", "U", "HM", "ZSL", "chance"):
        retrieval.add_column(column, justify="right")
    for name, figures in report.retrieval.items():
        retrieval.add_row(
            name.replace("_", " "),
            _cell(figures.mean),
            *_cells(figures.by_queries),
            _cell(figures.chance),
        )
    console.print(retrieval)
    for note in report.notes:
        console.print(note, highlight=False)


def _cells(figures: SeenUnseen) -> list[str]:
    return [_cell(value) for value in dataclasses.astuple(figures)]


def _cell(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"
