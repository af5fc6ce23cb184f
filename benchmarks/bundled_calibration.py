"""How far the bundled model's probabilities can be believed, on held-out samples.

    python benchmarks/bundled_calibration.py --data PATH [--json FILE]

Three tables. First, the expected calibration error of the top answer's probability: the gap between
confidence and accuracy, averaged over 15 equal-width bins (Guo et al., "On Calibration of Modern
Neural Networks", ICML 2017), for lists of ten names, for all names of a set, and for the whole
vocabulary, where any of a sample's true names counts as right. Then how well
`unknown_probability` tells samples whose name is among ten candidates from those of which no
candidate is right: area under the ROC curve, and the share of known ones that is lost where 95 % of
the unknown are caught. Unknown are the same samples with the true name taken off the list, speech
among names of other sounds, and made noise. Last, whether silence and black pictures are reported
as nothing to hear or see.

Temperature and the model of "none of these" were fitted on the same clips (but for the street's),
under the vocabulary's names instead of these; four numbers for 4,985 samples. Speech was trained on
as speech, and is unknown only among these names.
"""

import argparse
import json
import sys
import tempfile
import wave
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model.config import Calibration
from model.distillation.held_out import (
    Floats,
    Labels,
    Samples,
    Served,
    embed_pictures,
    embed_sounds,
    held_out_sounds,
    street_sounds,
)
from model.distillation.label_space import (
    CALTECH_NAMES,
    ESC10_NAMES,
    STREET_CANDIDATES,
    build_label_space,
)
from model.distillation.mn04 import read_class_names
from model.distillation.mobilenet import CLASS_COUNT
from model.distillation.pictures import CALTECH, THUMBNAIL, Pictures, load_pictures
from model.distillation.tables import true_sounds
from model.embedder import Embedder
from model.media.limits import MediaLimits
from model.media.types import Modality
from model.metrics import expected_calibration_error, false_positive_rate, roc_auc
from model.scoring import LabelRanking, rank_labels

TEN = 10
LISTS_PER_SAMPLE = 3
NOISES = {"white": 0.0, "pink": 1.0, "brown": 2.0}
"""Kind -> exponent by which its power falls with frequency."""
NOISES_OF_A_KIND = 20
SAMPLE_RATE = 32_000
SPEECH_EVERY = 5
SOUNDS = ("esc10", "animals")
"""Collections with true labels."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Known:
    """Held-out samples of one modality and the names of their set.

    Attributes:
        names: (C, D) embedded candidates.
        true: (N,) the right candidate of each sample.
        vectors: (N, D).
    """

    title: str
    modality: Modality
    names: Floats
    true: Labels
    vectors: Floats


@dataclass(frozen=True)
class ErrorRow:
    """Calibration of the top answer on one set and one kind of list."""

    name: str
    answers: int
    candidates: int
    confidence: float
    accuracy: float
    error: float


@dataclass(frozen=True)
class UnknownRow:
    """How `unknown_probability` tells known samples from unknown ones.

    Attributes:
        known, unknown: mean `unknown_probability` of either kind.
        auroc: area under the ROC curve, unknown being the positive kind.
        lost: share of known samples above the threshold that 95 % of the unknown reach.
    """

    name: str
    against: str
    known: float
    unknown: float
    auroc: float
    lost: float


@dataclass(frozen=True)
class NothingRow:
    """Files in which there is nothing: how many, and how many were reported as such."""

    name: str
    files: int
    reported: int


# --- answers -------------------------------------------------------------------------------------


def rank(known: Known, vector: Floats, rows: Labels, calibration: Calibration) -> LabelRanking:
    """Rank some of the names for a vector of the set's modality."""
    similarity = known.names[rows] @ vector
    return rank_labels({known.modality: similarity}, np.zeros(len(rows), bool), calibration)


def random_lists(known: Known, size: int, *, with_true: bool) -> list[tuple[Floats, Labels]]:
    """Pairs of a vector and `size` rows of names; the right name is the first or is absent."""
    rng = np.random.default_rng(0)
    lists = []
    for vector, true in zip(known.vectors, known.true, strict=True):
        others = np.delete(np.arange(len(known.names)), true)
        for _ in range(LISTS_PER_SAMPLE):
            wrong = rng.choice(others, size - with_true, replace=False)
            lists.append((vector, np.concatenate([[true], wrong]) if with_true else wrong))
    return lists


def error_row(known: Known, size: int, calibration: Calibration) -> ErrorRow:
    """Calibration among random lists of names of a set, the right one among them."""
    answers = [
        rank(known, vector, rows, calibration).probability
        for vector, rows in random_lists(known, size, with_true=True)
    ]
    confidence = np.array([p.max() for p in answers])
    return _error_row(known.title, confidence, np.array([p.argmax() == 0 for p in answers]), size)


def vocabulary_row(
    title: str,
    modality: Modality,
    *,
    vectors: Floats,
    right: Sequence[Sequence[int]],
    vocabulary: Floats,
    calibration: Calibration,
) -> ErrorRow:
    """Calibration among all names of the vocabulary, of which several may be right."""
    seen = np.zeros(len(vocabulary), np.bool_)
    answers = [
        rank_labels({modality: vocabulary @ vector}, seen, calibration).probability
        for vector in vectors
    ]
    confidence = np.array([p.max() for p in answers])
    hits = np.array([p.argmax() in names for p, names in zip(answers, right, strict=True)])
    return _error_row(title, confidence, hits, len(vocabulary))


def _error_row(name: str, confidence: NDArray[np.float64], right: Mask, size: int) -> ErrorRow:
    error = expected_calibration_error(confidence, right)
    assert error is not None
    return ErrorRow(name, len(right), size, float(confidence.mean()), float(right.mean()), error)


def unknown_row(
    known: Known, against: str, unknown: Sequence[tuple[Floats, Labels]], calibration: Calibration
) -> UnknownRow:
    """Compare known samples, their name among ten, with lists of which no name is right."""
    size = min(TEN, len(known.names))
    lists = random_lists(known, size, with_true=True)
    scores = np.array(
        [rank(known, v, r, calibration).unknown_probability for v, r in [*lists, *unknown]]
    )
    positive = np.arange(len(scores)) >= len(lists)
    area, lost = roc_auc(scores, positive), false_positive_rate(scores, positive)
    assert area is not None
    assert lost is not None
    means = float(scores[~positive].mean()), float(scores[positive].mean())
    return UnknownRow(known.title, against, *means, area, lost)


def removed_row(known: Known, calibration: Calibration) -> UnknownRow:
    """Compare with the same samples, the true name taken off the list."""
    size = min(TEN, len(known.names) - 1)
    lists = random_lists(known, size, with_true=False)
    return unknown_row(known, "true name removed", lists, calibration)


def intruder_row(
    known: Known, against: str, vectors: Floats, calibration: Calibration
) -> UnknownRow:
    """Compare with samples of another kind, which none of the names means."""
    rng = np.random.default_rng(0)
    size = min(TEN, len(known.names))
    lists = [(v, rng.choice(len(known.names), size, replace=False)) for v in vectors]
    return unknown_row(known, against, lists, calibration)


# --- made media ----------------------------------------------------------------------------------


def make_noise(rng: np.random.Generator, exponent: float) -> NDArray[np.float64]:
    """Five seconds in [-0.5, 0.5] whose power falls with frequency to the given exponent."""
    spectrum = np.fft.rfft(rng.standard_normal(5 * SAMPLE_RATE))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** (exponent / 2)
    noise = np.fft.irfft(spectrum)
    return np.asarray(0.5 * noise / np.abs(noise).max())


def write_sound(path: Path, samples: NDArray[np.float64]) -> Path:
    """Write samples in [-1, 1] as mono 16-bit WAV."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def write_black_video(path: Path, codec: str) -> Path:
    """Write three seconds of black pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(30):
            frame = av.VideoFrame.from_ndarray(np.zeros((120, 160, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def nothing_rows(embedder: Embedder, folder: Path) -> list[NothingRow]:
    """Silence and black pictures as files, through the decoder as any upload."""
    dither = np.random.default_rng(0).integers(-1, 2, 5 * SAMPLE_RATE) / 32768.0
    silent = [
        write_sound(folder / "zeros.wav", np.zeros(5 * SAMPLE_RATE)),
        write_sound(folder / "dither.wav", dither),
    ]
    black = [write_black_video(folder / f"{c}.mkv", c) for c in ("mpeg4", "libx264")]
    reported = {"silence": 0, "black pictures": 0}
    for path in [*silent, *black]:
        summary = embedder.embed_clip(path, limits=MediaLimits()).summary
        reported["silence"] += "nothing to hear" in (summary.audio.reason or "")
        reported["black pictures"] += "nothing to see" in (summary.video.reason or "")
    return [
        NothingRow("silence", len(silent), reported["silence"]),
        NothingRow("black pictures", len(black), reported["black pictures"]),
    ]


# --- all figures ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """The three tables."""

    errors: list[ErrorRow]
    unknown: list[UnknownRow]
    nothing: list[NothingRow]


def measure(embedder: Embedder, data: Path) -> Report:
    """Embed every held-out sample and compute all rows."""
    model, calibration = Served(embedder), embedder.calibration
    imagenet = (data / "teachers" / "imagenet_labels.txt").read_text("utf-8").splitlines()[1:]
    pictures = load_pictures(data / "images", tuple(imagenet))

    def known(title: str, modality: Modality, of: Samples, called: Mapping[str, str]) -> Known:
        names = model.embed_names([called.get(key, key) for key in of.keys])
        return Known(title, modality, names, of.labels, of.vectors)

    groups = {group: embed_sounds(model, group, held_out_sounds(data, group)) for group in SOUNDS}
    thumbnails = embed_pictures(model, "thumbnails", pictures, THUMBNAIL)
    caltech = embed_pictures(model, "Caltech", pictures, CALTECH)
    street = embed_sounds(model, "street", street_sounds(data))
    speech = {"speech": sorted((data / "speech_digits").glob("*.wav"))[::SPEECH_EVERY]}
    esc10 = known("ESC-10 fold 4", "audio", groups["esc10"], ESC10_NAMES)
    animals = known("animal sounds", "audio", groups["animals"], {})
    sets = [
        esc10,
        animals,
        known("street sounds", "audio", street, STREET_CANDIDATES),
        known("thumbnails", "video", thumbnails, {}),
        known("Caltech photographs", "video", caltech, CALTECH_NAMES),
    ]
    errors = [
        error_row(of_set, size, calibration)
        for of_set in sets
        for size in sorted({min(TEN, len(of_set.names)), len(of_set.names)})
    ]
    errors += vocabulary_rows(embedder, data, pictures, groups, [thumbnails, caltech])
    unknown = [removed_row(of_set, calibration) for of_set in sets]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        noises = {
            f"{kind} noise": [
                write_sound(folder / f"{kind}{i}.wav", make_noise(rng, exponent))
                for i in range(NOISES_OF_A_KIND)
            ]
            for kind, exponent in NOISES.items()
        }
        intruders = embed_sounds(model, "speech and noise", {**speech, **noises})
        nothing = nothing_rows(embedder, folder)
    unknown += [
        intruder_row(of_set, key, intruders.of(key), calibration)
        for of_set in (esc10, animals)
        for key in intruders.keys
    ]
    return Report(errors, unknown, nothing)


def vocabulary_rows(
    embedder: Embedder,
    data: Path,
    pictures: Pictures,
    sounds: Mapping[str, Samples],
    shown: Sequence[Samples],
) -> list[ErrorRow]:
    """Whole vocabulary, sounds and pictures."""
    names = read_class_names(data / "teachers" / "mn04_class_labels.csv")
    folders = [name.replace(" ", "_") for name in pictures.names[CLASS_COUNT:]]
    space = build_label_space(data / "teachers", folders)
    vocabulary = np.stack([entry.vector for entry in embedder.vocabulary()])
    heard = [
        true_sounds(group, samples.keys[label], names, space)
        for group, samples in sounds.items()
        for label in samples.labels
    ]
    rows = [
        np.flatnonzero(pictures.held_out & (pictures.source == source))
        for source in (THUMBNAIL, CALTECH)
    ]
    class_of = np.concatenate([space.imagenet, space.caltech])
    seen = [[place] for place in class_of[pictures.labels[np.concatenate(rows)]]]
    return [
        vocabulary_row(
            "sounds, whole vocabulary",
            "audio",
            vectors=np.concatenate([samples.vectors for samples in sounds.values()]),
            right=heard,
            vocabulary=vocabulary,
            calibration=embedder.calibration,
        ),
        vocabulary_row(
            "pictures, whole vocabulary",
            "video",
            vectors=np.concatenate([samples.vectors for samples in shown]),
            right=seen,
            vocabulary=vocabulary,
            calibration=embedder.calibration,
        ),
    ]


def show(title: str, rows: Sequence[ErrorRow | UnknownRow | NothingRow]) -> None:
    """Print rows of one kind as a table."""
    table = Table(title=title)
    for heading in asdict(rows[0]):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        values = asdict(row).values()
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in values))
    # A table cut to 80 columns in a log says nothing.
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibration of the bundled model.")
    parser.add_argument("--data", type=Path, required=True, help="folder of esc10/, images/ ...")
    parser.add_argument("--model", default="bundled", help="'bundled' or a checkpoint folder")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    report = measure(Embedder.load(options.model), options.data)
    show("Expected calibration error of the top answer", report.errors)
    show("Probability of 'none of these'", report.unknown)
    show("Nothing to hear or see", report.nothing)
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=1) + "\n")


if __name__ == "__main__":
    main()
