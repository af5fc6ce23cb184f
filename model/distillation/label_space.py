"""The label space of the bundled model: AudioSet's, ImageNet's and Caltech's names in one list."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.embedding import ClassText

# Sounds with true labels here that AudioSet has no name for.
ADDED_SOUNDS = ("Donkey", "Lion", "Monkey")

# ImageNet names that mean another thing elsewhere in the list or in AudioSet (by teacher's index).
IMAGENET_HOMONYMS = {
    78: ("tick arachnid", "mite"),
    134: ("crane bird", "crane"),
    517: ("construction crane", "crane"),
    264: ("cardigan corgi", "cardigan Welsh corgi"),
    639: ("tank suit", "maillot"),
    673: ("computer mouse", "mouse"),
}

# Caltech folder names that are no words for what is shown.
CALTECH_NAMES = {
    "Faces": "human face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
    "brain": "human brain",
    "buddha": "Buddha statue",
    "car side": "car seen from the side",
    "cougar body": "cougar",
    "cougar face": "cougar face",
    "garfield": "Garfield cartoon cat",
    "snoopy": "Snoopy cartoon dog",
    "tick": "tick arachnid",
    "water lilly": "water lily",
}

# What ESC-10's folders are called among candidates, in words that AudioSet does not use.
ESC10_NAMES = {
    "baby_cry": "crying baby",
    "chainsaw": "chainsaw",
    "clock_tick": "clock ticking",
    "dog_bark": "dog barking",
    "fire_crackling": "crackling fire",
    "person_sneeze": "person sneezing",
    "rain": "rain",
    "rooster": "rooster crowing",
    "sea_waves": "sea waves",
}

# Berklee's street files -> a name that the label space does not have as such.
STREET_CANDIDATES = {
    "blower": "air conditioner",
    "crowd": "crowd of people",
    "dog": "dog bark",
    "drill": "drilling",
    "engine": "engine idling",
    "gun": "gun shot",
    "horn": "car horn",
    "music": "street music",
    "siren": "siren",
    "train": "train",
}

# Class of a picture -> class of what one hears of it. Either has held-out samples with true labels:
# the thumbnails are of generic kinds and hard to see, the photographs are sharp.
HEARD_OF_THUMBNAILS = {
    "goose": "Bird",
    "tabby": "Cat",
    "ox": "Cattle",
    "golden retriever": "Dog",
    "bullfrog": "Frog",
    "lion": "Lion",
    "baboon": "Monkey",
}
HEARD_OF_PHOTOGRAPHS = {
    "emu": "Bird",
    "flamingo": "Bird",
    "ibis": "Bird",
    "pigeon": "Bird",
    "wild cat": "Cat",
    "rooster": "Chicken",
    "dalmatian": "Dog",
}


@dataclass(frozen=True)
class LabelSpace:
    """C classes, and where each teacher's outputs and each picture label lie among them.

    Attributes:
        classes: the C classes, names unique ignoring case.
        audioset: (527,) int64 class of each AudioSet output.
        added_sounds: (3,) int64 classes of `ADDED_SOUNDS`.
        imagenet: (1000,) int64 class of each ImageNet output.
        caltech: (97,) int64 class of each Caltech folder, sorted by folder.
    """

    classes: tuple[ClassText, ...]
    audioset: NDArray[np.int64]
    added_sounds: NDArray[np.int64]
    imagenet: NDArray[np.int64]
    caltech: NDArray[np.int64]

    def places(self, names: Mapping[str, str]) -> NDArray[np.int64]:
        """Find the classes of P pairs of names, ignoring case: (P, 2) int64."""
        place = {c.name.casefold(): i for i, c in enumerate(self.classes)}
        return np.array([[place[n.casefold()] for n in pair] for pair in names.items()], np.int64)


def build_label_space(teachers: Path, caltech_folders: Sequence[str]) -> LabelSpace:
    """Merge the label files of `teachers` and the Caltech folders; equal names become one class."""
    merger = _Merger()
    audioset = merger.add_all(_audioset_classes(teachers / "mn04_class_labels.csv"))
    added_sounds = merger.add_all((name, ()) for name in ADDED_SOUNDS)
    imagenet = merger.add_all(_imagenet_classes(teachers / "imagenet_labels.txt"))
    caltech = merger.add_all(
        (CALTECH_NAMES.get(folder.replace("_", " "), folder.replace("_", " ")), ())
        for folder in caltech_folders
    )
    return LabelSpace(merger.classes(), audioset, added_sounds, imagenet, caltech)


def _audioset_classes(path: Path) -> Iterable[tuple[str, Sequence[str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        lines = [row["display_name"] for row in csv.DictReader(file)]
    uses = Counter(_split_names(line)[0] for line in lines)
    for line in lines:
        name, synonyms = _split_names(line)
        # "Inside, small room" and "Inside, public space" are no two names of one thing.
        yield (name, synonyms) if uses[name] == 1 else (line, [])


def _imagenet_classes(path: Path) -> Iterable[tuple[str, Sequence[str]]]:
    for index, line in enumerate(path.read_text("utf-8").splitlines()[1:]):  # "background" first
        if index in IMAGENET_HOMONYMS:
            name, *synonyms = IMAGENET_HOMONYMS[index]
            yield name, synonyms
        else:
            yield _split_names(line)


def _split_names(line: str) -> tuple[str, list[str]]:
    """First name and the rest of "tench, Tinca tinca"; commas in parentheses do not split."""
    name, *synonyms = [part.strip() for part in re.split(r",(?![^(]*\))", line)]
    return name, synonyms


class _Merger:
    """Collects classes, keyed by name without case."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._names: list[str] = []
        self._synonyms: list[dict[str, str]] = []

    def add_all(self, classes: Iterable[tuple[str, Sequence[str]]]) -> NDArray[np.int64]:
        return np.array([self._add(name, synonyms) for name, synonyms in classes], dtype=np.int64)

    def classes(self) -> tuple[ClassText, ...]:
        return tuple(
            ClassText(name, tuple(synonyms.values()))
            for name, synonyms in zip(self._names, self._synonyms, strict=True)
        )

    def _add(self, name: str, synonyms: Sequence[str]) -> int:
        key = name.casefold()
        index = self._index.setdefault(key, len(self._names))
        if index == len(self._names):
            self._names.append(name)
            self._synonyms.append({})
        for synonym in synonyms:
            if synonym.casefold() != key:
                self._synonyms[index].setdefault(synonym.casefold(), synonym)
        return index
