"""The pictures of the video backbone's training and what the teacher says of each."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from model.distillation.mobilenet import CLASS_COUNT, EMBEDDING_DIM, MobileNetTeacher
from model.errors import FeatureSetError


@dataclass(frozen=True)
class Pictures:
    """Every picture, decoded once.

    Attributes:
        names: class names of the joint label space: ImageNet's 1000 (sorted by WordNet id, the
            order of the teacher's labels), then Caltech's, sorted.
        pixels: N arrays (H, W, 3) uint8 RGB at the archive's size.
        labels: (N,) int64 index into `names`.
        source: (N,) int64: 0 thumbnail (Tiny ImageNet), 1 ImageNet photograph, 2 Caltech.
        held_out: (N,) bool: validation, never trained on.
    """

    names: tuple[str, ...]
    pixels: list[NDArray[np.uint8]]
    labels: NDArray[np.int64]
    source: NDArray[np.int64]
    held_out: NDArray[np.bool_]


ARCHIVES = ("tiny_imagenet", "imagenet_samples", "caltech101")
THUMBNAIL, PHOTOGRAPH, CALTECH = range(3)
HELD_OUT_EVERY = {THUMBNAIL: 10, CALTECH: 5}
"""Every 10th thumbnail and every 5th Caltech picture of each class, by file name, is held out."""


def load_pictures(images: Path, teacher_labels: tuple[str, ...]) -> Pictures:
    """Decode the three archives under `images` (a few seconds per 10,000 pictures)."""
    members = [sorted(_members(images / f"{archive}.zip")) for archive in ARCHIVES]
    folders = [sorted({name.split("/")[0] for name in names}) for names in members]
    wordnet_ids = sorted(folders[THUMBNAIL] + folders[PHOTOGRAPH])
    label_of = {folder: index for index, folder in enumerate(wordnet_ids + folders[CALTECH])}
    pixels, labels, source, held_out = [], [], [], []
    for number, (archive, names) in enumerate(zip(ARCHIVES, members, strict=True)):
        every = HELD_OUT_EVERY.get(number)
        with zipfile.ZipFile(images / f"{archive}.zip") as file:
            for folder, in_class in groupby(names, key=lambda name: name.split("/")[0]):
                for position, name in enumerate(in_class):
                    pixels.append(
                        np.asarray(Image.open(io.BytesIO(file.read(name))).convert("RGB"))
                    )
                    labels.append(label_of[folder])
                    source.append(number)
                    held_out.append(every is not None and position % every == every - 1)
    return Pictures(
        names=teacher_labels + tuple(folder.replace("_", " ") for folder in folders[CALTECH]),
        pixels=pixels,
        labels=np.array(labels),
        source=np.array(source),
        held_out=np.array(held_out),
    )


def _members(archive: Path) -> Iterator[str]:
    with zipfile.ZipFile(archive) as file:
        yield from (name for name in file.namelist() if not name.endswith("/"))


# --- teacher targets ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Targets:
    """The teacher's view of each picture: `logits` (N, 1000), `embedding` (N, 1280), float16."""

    logits: NDArray[np.float16]
    embedding: NDArray[np.float16]


def teacher_targets(pictures: Pictures, teacher: MobileNetTeacher, cache: Path) -> Targets:
    """Ask the teacher about every picture, about 20 ms a view; read `cache` where it exists.

    Crops are trained on with their whole picture's answer. Asking about each crop ("function
    matching", Beyer et al. 2022) would teach more, but triples the time of a step.

    Raises:
        FeatureSetError: `cache` was made from other pictures.
    """
    if not cache.is_file():
        logits = np.empty((len(pictures.pixels), CLASS_COUNT), np.float16)
        embedding = np.empty((len(pictures.pixels), EMBEDDING_DIM), np.float16)
        for row, pixels in enumerate(tqdm(pictures.pixels, desc="teacher", mininterval=5)):
            views = [teacher.observe(view) for view in _views(pixels)]
            logits[row] = np.mean([view.logits for view in views], axis=0)
            embedding[row] = np.mean([view.embedding for view in views], axis=0)
        unfinished = cache.with_suffix(".partial.npz")
        np.savez(unfinished, logits=logits, embedding=embedding)
        unfinished.replace(cache)
    with np.load(cache) as stored:
        targets = Targets(stored["logits"], stored["embedding"])
    if len(targets.logits) != len(pictures.pixels):
        raise FeatureSetError(
            f"{cache} holds the teacher's answers to {len(targets.logits)} pictures, but there are "
            f"{len(pictures.pixels)}; delete it to ask again."
        )
    return targets


def _views(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The centre square, and for pictures that are not square the whole, squashed and mirrored."""
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    yield pixels[top : top + side, left : left + side]
    if height != width:
        yield pixels[:, ::-1]


def correct_teacher(logits: NDArray[np.float16], labels: NDArray[np.int64]) -> NDArray[np.float16]:
    """Swap the best class's logit with the true class's (probability shift, Wen et al. 2019).

    The teacher's order of the other classes is kept and its mistakes are not taught. Rows whose
    label is no ImageNet class stay as they are.
    """
    corrected = logits.copy()
    rows = np.flatnonzero(labels < CLASS_COUNT)
    best, true = logits[rows].argmax(axis=1), labels[rows]
    corrected[rows, true], corrected[rows, best] = logits[rows, best], logits[rows, true]
    return corrected
