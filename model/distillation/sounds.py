"""The recordings that the audio backbone is distilled on, and what their names say is heard.

This file owns the reading of the folders, the held-out share, and the way from a folder's or a
file's name to AudioSet classes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

SAMPLE_RATE = 32_000

# Folder name -> the AudioSet classes that mean it; true labels and validation figures.
AUDIOSET_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "esc10": {
        "baby_cry": ("Baby cry, infant cry",),
        "chainsaw": ("Chainsaw",),
        "clock_tick": ("Tick", "Tick-tock"),
        "dog_bark": ("Bark", "Dog"),
        "fire_crackling": ("Fire", "Crackle"),
        "person_sneeze": ("Sneeze",),
        "rain": ("Rain",),
        "rooster": ("Chicken, rooster", "Crowing, cock-a-doodle-doo"),
        "sea_waves": ("Waves, surf", "Ocean"),
    },
    "animals": {
        "bird": ("Bird",),
        "cat": ("Cat", "Meow"),
        "chicken": ("Chicken, rooster", "Cluck"),
        "cow": ("Cattle, bovinae", "Moo"),
        "dog": ("Bark", "Dog"),
        "donkey": ("Horse", "Neigh, whinny"),
        "frog": ("Frog", "Croak"),
        "lion": ("Roaring cats (lions, tigers)", "Roar"),
        "monkey": ("Wild animals",),
    },
}


# Folders that AudioSet has only a neighbour's name for, which must not be taught as theirs.
POORLY_NAMED = ("donkey", "monkey")

# Berklee has no labels. Files whose names match a pattern are held out and stand for the sounds of
# a street, of which no set is given: candidate -> (pattern, the AudioSet classes that mean it).
STREET_NAMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "blower": (
        "fan_noise|airblower|aircompressor|hair-dryer|dryer|vacuum",
        ("Air conditioning", "Mechanical fan", "Vacuum cleaner", "Hair dryer"),
    ),
    "crowd": (
        "^children|laughing_crowd|crowd|cheers",
        ("Children playing", "Children shouting", "Crowd", "Cheering"),
    ),
    "dog": ("^dog", ("Bark", "Dog")),
    "drill": ("drill|dremel|powertool|screwdriver", ("Drill", "Power tool")),
    "engine": (
        "engine|^motor|loudmotor|driving",
        ("Engine", "Idling", "Engine starting", "Car", "Motor vehicle (road)"),
    ),
    "gun": ("gunfire|explosion", ("Gunshot, gunfire", "Explosion", "Machine gun")),
    "horn": (
        "honking|bike_bell",
        ("Vehicle horn, car horn, honking", "Toot", "Honk", "Bicycle bell"),
    ),
    "music": (
        "techno|groove|comping|funk|street_beat|street_perc|guitar_riff|rhythmicloop",
        ("Music",),
    ),
    "siren": ("siren|^alarm|buzzer", ("Siren", "Police car (siren)", "Alarm", "Buzzer")),
    "train": (
        r"^train(\d|_|$)|subway|underground_train",
        ("Train", "Subway, metro, underground", "Rail transport"),
    ),
}


@dataclass(frozen=True)
class Clip:
    """One decoded recording: mono, int16, 32 kHz."""

    group: str
    label: str
    held_out: bool
    samples: NDArray[np.int16]


def decode_mono(path: Path) -> NDArray[np.int16]:
    """Decode a whole file to mono int16 at 32 kHz: (N,)."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    parts: list[NDArray[np.int16]] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            parts += [resampled.to_ndarray()[0] for resampled in resampler.resample(frame)]
        parts += [resampled.to_ndarray()[0] for resampled in resampler.resample(None)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)


def street_name(stem: str) -> str | None:
    """Return the only key of `STREET_NAMES` whose pattern a file's name matches."""
    found = [
        key for key, (pattern, _) in STREET_NAMES.items() if re.search(pattern, stem.casefold())
    ]
    return found[0] if len(found) == 1 else None


def list_recordings(data: Path) -> list[tuple[str, str, bool, Path]]:
    """List (group, label, held out, path) under the data folder, in a fixed order.

    Held out are fold 4 of ESC-10, every fifth file of each animal, and of Berklee every twentieth
    and those with a street name. A Berklee file is a class by itself, labelled with its name.
    """
    recordings = []
    for path in sorted((data / "esc10").glob("*/*.ogg")):
        recordings.append(("esc10", path.parent.name, path.name.startswith("4-"), path))
    for folder in sorted((data / "animals").iterdir()):
        for index, path in enumerate(sorted(folder.glob("*.ogg"))):
            recordings.append(("animals", folder.name, index % 5 == 0, path))
    for index, path in enumerate(sorted((data / "berklee").glob("*.ogg"))):
        held_out = index % 20 == 0 or street_name(path.stem) is not None
        recordings.append(("berklee", path.stem, held_out, path))
    for path in sorted((data / "speech_digits").glob("*.wav")):
        recordings.append(("speech_digits", "", False, path))
    return recordings


def load_clips(data: Path, cache: Path) -> list[Clip]:
    """Decode every recording once; later calls read the samples back from `cache` (.npz)."""
    recordings = list_recordings(data)
    names = np.array([path.relative_to(data).as_posix() for *_, path in recordings])
    if cache.is_file():
        with np.load(cache) as stored:
            if np.array_equal(stored["names"], names):
                waveforms = np.split(stored["samples"], np.cumsum(stored["lengths"])[:-1])
                return [
                    Clip(*row[:3], samples)
                    for row, samples in zip(recordings, waveforms, strict=True)
                ]
    waveforms = [decode_mono(path) for *_, path in tqdm(recordings, desc="decode")]
    lengths = np.array([samples.size for samples in waveforms])
    with cache.open("wb") as file:
        np.savez(file, names=names, lengths=lengths, samples=np.concatenate(waveforms))
    return [Clip(*row[:3], samples) for row, samples in zip(recordings, waveforms, strict=True)]


class ClassFinder:
    """Finds the AudioSet classes (columns of the scores) that a clip's label means."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._column = {name: column for column, name in enumerate(class_names)}
        # Only names of one word: a word of a longer name may mean another thing.
        self._words = {name.casefold(): self._column[name] for name in class_names}

    def folders(self, group: str) -> dict[str, list[int]]:
        """Columns of each labelled folder of a group."""
        return {
            label: [self._column[name] for name in names]
            for label, names in AUDIOSET_NAMES.get(group, {}).items()
        }

    def street(self) -> dict[str, list[int]]:
        """Columns of each street name."""
        return {
            key: [self._column[name] for name in names] for key, (_, names) in STREET_NAMES.items()
        }

    def true(self, clip: Clip) -> list[int]:
        """Columns that a person said are heard; none where AudioSet has no name for it."""
        if clip.group == "speech_digits":
            return [self._column["Speech"]]
        if clip.label in POORLY_NAMED:
            return []
        return self.folders(clip.group).get(clip.label, [])

    def untrue(self, clip: Clip) -> list[int]:
        """Columns of the other folders of a labelled clip's group."""
        true = self.true(clip)
        if not true:
            return []
        others = {c for columns in self.folders(clip.group).values() for c in columns}
        return sorted(others - set(true))

    def hinted(self, clip: Clip) -> list[int]:
        """Columns named by a word of a Berklee file's name, as in "thunder_drum_1"."""
        if clip.group != "berklee":
            return []
        words = re.findall("[a-z]+", clip.label.casefold())
        return sorted({self._words[word] for word in words if word in self._words})
