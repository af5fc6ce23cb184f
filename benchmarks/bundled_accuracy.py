"""What the bundled model knows: accuracy on held-out samples, naming only the candidates.

    python benchmarks/bundled_accuracy.py --data PATH [--json FILE]

PATH holds esc10/, animals/, berklee/, images/ and teachers/. The rows are those that the
distillation held out: fold 4 of ESC-10, every fifth file of each animal, Berklee's files with the
name of a street sound, every tenth thumbnail, every fifth picture of Caltech. They are validation
figures: choices were made by looking at them. Beside each stand chance and the frozen baseline, the
teachers with ConSE (`model.distillation.frozen_baseline`).

Five of the street's sounds were no label of training, not even by a word of a file's name: their
row is the nearest to "never given" that can be had here, though the teachers know such sounds by
names of their own. Of pictures there is no such row, as every object of the sets was a label; nor
is there one of sharp photographs of the 200 names: the 800 ImageNet photographs show other classes
and all were trained on. Caltech's are the sharp ones that were held out.

The last rows show the same samples under names in other words, and random pairs of a sound and a
picture of the same thing, by each modality and by both. Those of animals chose the modalities'
weights; those of the street did not.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model.config import Calibration
from model.distillation.frozen_baseline import FrozenBaseline
from model.distillation.held_out import (
    Model,
    Samples,
    Served,
    embed_pictures,
    embed_sounds,
    held_out_sounds,
    street_sounds,
)
from model.distillation.label_space import CALTECH_NAMES, ESC10_NAMES, STREET_CANDIDATES
from model.distillation.pictures import CALTECH, THUMBNAIL, Pictures, load_pictures
from model.embedder import Embedder
from model.media.types import Modality
from model.scoring import rank_labels

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

PAIRS_PER_PICTURE = 100
"""Random pairs of a sound and each kind of picture: there are too few samples to use each once."""

# The animals in other words.
PARAPHRASES = {
    "bird": "a songbird singing",
    "cat": "a kitten mewing",
    "chicken": "a clucking hen",
    "cow": "cattle mooing",
    "dog": "a puppy yapping",
    "donkey": "a braying donkey",
    "frog": "toads croaking",
    "lion": "a roaring lion",
    "monkey": "an ape screaming",
}

# Street sounds that no true label of training means, and no word in the name of a file that was
# trained on: those have dogs, cars, honks, music and trains in them.
NEVER_LABELLED = ("blower", "crowd", "drill", "gun", "siren")

# A picture's name -> the sound of the same thing.
ANIMALS_IN_THUMBNAILS = {
    "goose": "bird",
    "tabby": "cat",
    "ox": "cow",
    "golden retriever": "dog",
    "bullfrog": "frog",
    "lion": "lion",
    "baboon": "monkey",
}
ANIMALS_IN_PHOTOGRAPHS = {
    "emu": "bird",
    "flamingo": "bird",
    "ibis": "bird",
    "pigeon": "bird",
    "wild cat": "cat",
    "rooster": "chicken",
    "dalmatian": "dog",
}
STREET_IN_PICTURES = {
    "golden retriever": "dog",
    "sports car": "engine",
    "revolver": "gun",
    "electric guitar": "music",
    "police van": "siren",
    "bullet train": "train",
}

# --- figures -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accuracy:
    """Of one model on one set, averaged over classes."""

    name: str
    samples: int
    candidates: int
    top1: float
    top5: float


@dataclass(frozen=True)
class Figure:
    """Accuracy of the bundled model on one set, and what it is to be compared with.

    Attributes:
        chance: top-1 accuracy of guessing.
        baseline_top1, baseline_top5: of the frozen teachers with ConSE.
    """

    name: str
    samples: int
    candidates: int
    chance: float
    baseline_top1: float
    baseline_top5: float
    top1: float
    top5: float


def mean_class_accuracy(name: str, similarity: NDArray[np.floating], true: Labels) -> Accuracy:
    """Top-1 and top-5 accuracy, averaged over classes: similarity (N, C), true (N,)."""
    ranked = (-similarity).argsort(axis=1)[:, :5]
    hits = ranked == true[:, None]
    by_class = [hits[true == c] for c in np.unique(true)]
    return Accuracy(
        name,
        len(true),
        similarity.shape[1],
        float(np.mean([h[:, 0].mean() for h in by_class])),
        float(np.mean([h.any(axis=1).mean() for h in by_class])),
    )


def accuracy_among(
    model: Model, name: str, samples: Samples, names: Mapping[str, str], *, only: Sequence[str] = ()
) -> Accuracy:
    """Accuracy among the samples' own names; `names` says how a key is called, if not by itself.

    Where `only` some keys are given, others' samples are not counted; their names stay candidates.
    """
    candidates = model.embed_names([names.get(key, key) for key in samples.keys])
    counted = np.array([not only or samples.keys[label] in only for label in samples.labels])
    similarity = samples.vectors[counted] @ candidates.T
    return mean_class_accuracy(name, similarity, samples.labels[counted])


def pair_accuracies(
    name: str,
    *,
    sounds: Samples,
    pictures: Samples,
    shown: Mapping[str, str],
    candidates: Floats,
    calibration: Calibration,
) -> list[Accuracy]:
    """Accuracy on random pairs by audio, by video and by both.

    Args:
        name: of the pairs.
        sounds, pictures: what is paired.
        shown: a picture's key -> the sound's key, which is the right answer.
        candidates: (C, D) in the order of the sounds' keys.
        calibration: weights of the modalities.
    """
    rng = np.random.default_rng(0)
    similarity: dict[str, list[NDArray[np.float64]]] = {"audio": [], "video": [], "both": []}
    true = []
    for picture, sound in shown.items():
        for _ in range(PAIRS_PER_PICTURE):
            cosines: dict[Modality, Floats] = {
                "audio": candidates @ rng.choice(sounds.of(sound)),
                "video": candidates @ rng.choice(pictures.of(picture)),
            }
            evidence: dict[str, Mapping[Modality, Floats]] = {
                "audio": {"audio": cosines["audio"]},
                "video": {"video": cosines["video"]},
                "both": cosines,
            }
            for key, used in evidence.items():
                ranking = rank_labels(used, np.zeros(len(candidates), np.bool_), calibration)
                similarity[key].append(ranking.score)
            true.append(sounds.keys.index(sound))
    return [
        mean_class_accuracy(f"{name}, by {key}", np.stack(rows), np.array(true))
        for key, rows in similarity.items()
    ]


def accuracies(
    model: Model, data: Path, pictures: Pictures, calibration: Calibration
) -> list[Accuracy]:
    """All accuracies of one model, sounds first."""
    esc10 = embed_sounds(model, "ESC-10", held_out_sounds(data, "esc10"))
    animals = embed_sounds(model, "animals", held_out_sounds(data, "animals"))
    street = embed_sounds(model, "street", street_sounds(data))
    thumbnails = embed_pictures(model, "thumbnails", pictures, THUMBNAIL)
    caltech = embed_pictures(model, "Caltech", pictures, CALTECH)

    def pairs(
        name: str,
        sounds: Samples,
        shown: Samples,
        what: Mapping[str, str],
        names: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Accuracy]:
        candidates = model.embed_names([names.get(key, key) for key in sounds.keys])
        return pair_accuracies(
            name,
            sounds=sounds,
            pictures=shown,
            shown=what,
            candidates=candidates,
            calibration=calibration,
        )

    everything = Samples(
        thumbnails.keys + caltech.keys,
        np.concatenate([thumbnails.vectors, caltech.vectors]),
        np.concatenate([thumbnails.labels, caltech.labels + len(thumbnails.keys)]),
    )
    return [
        accuracy_among(model, "ESC-10 fold 4", esc10, ESC10_NAMES),
        accuracy_among(model, "animal sounds", animals, {}),
        accuracy_among(model, "street sounds of Berklee", street, STREET_CANDIDATES),
        accuracy_among(
            model,
            "street sounds, five never a label",
            street,
            STREET_CANDIDATES,
            only=NEVER_LABELLED,
        ),
        accuracy_among(model, "Tiny ImageNet thumbnails", thumbnails, {}),
        accuracy_among(model, "Caltech photographs", caltech, CALTECH_NAMES),
        accuracy_among(model, "animal sounds, in other words", animals, PARAPHRASES),
        *pairs("animals and thumbnails", animals, thumbnails, ANIMALS_IN_THUMBNAILS),
        *pairs("animals and photographs", animals, caltech, ANIMALS_IN_PHOTOGRAPHS),
        *pairs("street and pictures", street, everything, STREET_IN_PICTURES, STREET_CANDIDATES),
    ]


def measure(embedder: Embedder, data: Path) -> list[Figure]:
    """All figures of the model beside those of the frozen baseline."""
    imagenet = (data / "teachers" / "imagenet_labels.txt").read_text("utf-8").splitlines()[1:]
    pictures = load_pictures(data / "images", tuple(imagenet))
    ours = accuracies(Served(embedder), data, pictures, embedder.calibration)
    # The default weighs both modalities alike: ConSE's distances are summed.
    frozen = accuracies(FrozenBaseline(data / "teachers"), data, pictures, Calibration())
    return [
        Figure(
            name=our.name,
            samples=our.samples,
            candidates=our.candidates,
            chance=1 / our.candidates,
            baseline_top1=base.top1,
            baseline_top5=base.top5,
            top1=our.top1,
            top5=our.top5,
        )
        for our, base in zip(ours, frozen, strict=True)
    ]


def show(figures: Sequence[Figure]) -> None:
    """Print the figures as a table."""
    table = Table(title="Bundled model, held-out samples, mean over classes")
    headings = ("set", "samples", "names", "chance", "ConSE top-1", "top-5", "top-1", "top-5")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "set" else "right", no_wrap=True)
    for f in figures:
        table.add_row(
            f.name,
            str(f.samples),
            str(f.candidates),
            *(f"{value:.3f}" for value in (f.chance, f.baseline_top1, f.baseline_top5)),
            f"{f.top1:.3f}",
            f"{f.top5:.3f}",
        )
    # A table cut to 80 columns in a log says nothing.
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy of the bundled model.")
    parser.add_argument("--data", type=Path, required=True, help="folder of esc10/, images/ ...")
    parser.add_argument("--model", default="bundled", help="'bundled' or a checkpoint folder")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    figures = measure(Embedder.load(options.model), options.data)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n")


if __name__ == "__main__":
    main()
