"""Mean average precision of retrieval: class names to samples, sound to pictures and back."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.embedded_samples import EVIDENCE, EmbeddedSamples, Evidence, LabelEmbeddings
from model.metrics import Floats, Labels, Mask, SeenUnseen
from model.stacking import euclidean_distances

ACROSS: tuple[tuple[Evidence, Evidence], ...] = (("audio", "video"), ("video", "audio"))
"""Query and item of retrieval from sample to sample."""
BLOCK_NUMBERS = 2**23
"""Distances held at once in sample-to-sample retrieval: 64 MiB."""


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
