"""What a video backbone is worth on pictures that were held out of its training."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.backbones.compact_video import CompactVideo
from model.distillation.mobilenet import CLASS_COUNT
from model.distillation.pictures import CALTECH, PHOTOGRAPH, THUMBNAIL, Pictures, Targets


@dataclass(frozen=True)
class Report:
    """Shares in [0, 1] on pictures never trained on, but for the last.

    Attributes:
        thumbnails_top1: Tiny ImageNet among its 200 names.
        thumbnails_top5: the same, true name among the best five.
        caltech_top1: Caltech-101 among its 97 names; None for the teacher, which has no such head.
        caltech_agreement: same best of 1000 classes as the teacher, on Caltech-101.
        photographs_agreement: same best of 1000 classes as the teacher, on ImageNet photographs
            (which are trained on).
    """

    thumbnails_top1: float
    thumbnails_top5: float
    caltech_top1: float | None
    caltech_agreement: float
    photographs_agreement: float

    def __str__(self) -> str:
        caltech = "no head" if self.caltech_top1 is None else f"{self.caltech_top1:.3f}"
        return (
            f"thumbnails top-1 {self.thumbnails_top1:.3f} top-5 {self.thumbnails_top5:.3f}, "
            f"Caltech top-1 {caltech}, agreement on Caltech {self.caltech_agreement:.3f}, "
            f"on photographs {self.photographs_agreement:.3f}"
        )


def evaluate(backbone: CompactVideo, pictures: Pictures, targets: Targets) -> Report:
    """Score the held-out pictures and the photographs as the service would prepare them."""
    rows = np.flatnonzero(pictures.held_out | (pictures.source == PHOTOGRAPH))
    scores = np.empty((len(rows), backbone.config.classes), np.float32)
    for start in range(0, len(rows), 64):
        batch = [backbone.prepare(pictures.pixels[row]) for row in rows[start : start + 64]]
        scores[start : start + 64] = backbone.scores(torch.from_numpy(np.stack(batch))).numpy()
    return summarise(scores, pictures, targets, rows)


def evaluate_teacher(pictures: Pictures, targets: Targets) -> Report:
    """Score the teacher's own answers in the same way."""
    rows = np.flatnonzero(pictures.held_out | (pictures.source == PHOTOGRAPH))
    return summarise(targets.logits[rows].astype(np.float32), pictures, targets, rows)


def summarise(
    scores: NDArray[np.float32], pictures: Pictures, targets: Targets, rows: NDArray[np.int64]
) -> Report:
    """Compare scores (len(rows), 1000 or 1097) with true labels and the teacher's best class."""
    source, labels = pictures.source[rows], pictures.labels[rows]
    thumbnails, photographs, caltech = (source == kind for kind in (THUMBNAIL, PHOTOGRAPH, CALTECH))
    tiny_classes = np.unique(pictures.labels[pictures.source == THUMBNAIL])
    ranked = tiny_classes[(-scores[thumbnails][:, tiny_classes]).argsort(axis=1)[:, :5]]
    hits = ranked == labels[thumbnails, None]
    caltech_top1 = None
    if scores.shape[1] > CLASS_COUNT:
        best = scores[caltech, CLASS_COUNT:].argmax(axis=1) + CLASS_COUNT
        caltech_top1 = float((best == labels[caltech]).mean())
    agreement = scores[:, :CLASS_COUNT].argmax(axis=1) == targets.logits[rows].argmax(axis=1)
    return Report(
        thumbnails_top1=float(hits[:, 0].mean()),
        thumbnails_top5=float(hits.any(axis=1).mean()),
        caltech_top1=caltech_top1,
        caltech_agreement=float(agreement[caltech].mean()),
        photographs_agreement=float(agreement[photographs].mean()),
    )
