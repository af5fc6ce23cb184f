"""What the bundled model knows: accuracy on held-out samples, naming only the candidates.

    python benchmarks/bundled_accuracy.py --data PATH [--json FILE]

PATH holds esc10/, animals/, images/ and teachers/. The rows are those that the distillation held
out: fold 4 of ESC-10, every fifth file of each animal, Berklee's files with the name of a street
sound, every tenth thumbnail, every fifth picture of Caltech. They are validation figures: choices
were made by looking at them. The last rows show the same samples under names in other words, and
pairs of a sound and a picture of the same animal, by each modality and by both.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model.distillation.label_space import CALTECH_NAMES
from model.distillation.pictures import CALTECH, THUMBNAIL, Pictures, load_pictures
from model.distillation.sounds import list_recordings, street_name
from model.embedder import Embedder
from model.embedding import ClassText
from model.media.limits import MediaLimits
from model.media.types import ClipChunk
from model.scoring import rank_labels

Floats = NDArray[np.float32]

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
STREET_NAMES = {
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

# Animals of the sounds -> a Tiny ImageNet class that shows one.
ANIMALS_SHOWN = {
    "bird": "goose",
    "cat": "tabby",
    "cow": "ox",
    "dog": "golden retriever",
    "frog": "bullfrog",
    "lion": "lion",
    "monkey": "baboon",
}


@dataclass(frozen=True)
class Figure:
    """Accuracy on one set, averaged over classes."""

    name: str
    samples: int
    candidates: int
    top1: float
    top5: float

    @property
    def chance(self) -> float:
        """Top-1 accuracy of guessing."""
        return 1 / self.candidates


def mean_class_accuracy(
    name: str, similarity: Floats, true: NDArray[np.int64], candidates: int
) -> Figure:
    """Top-1 and top-5 accuracy, averaged over classes: similarity (N, C), true (N,)."""
    ranked = (-similarity).argsort(axis=1)[:, :5]
    hits = ranked == true[:, None]
    by_class = [hits[true == c] for c in np.unique(true)]
    return Figure(
        name,
        len(true),
        candidates,
        float(np.mean([h[:, 0].mean() for h in by_class])),
        float(np.mean([h.any(axis=1).mean() for h in by_class])),
    )


def sound_figure(
    embedder: Embedder, name: str, paths: Mapping[str, Sequence[Path]], names: Mapping[str, str]
) -> Figure:
    """Accuracy of sound alone on files by folder; `names` says how each folder is called."""
    folders = sorted(paths)
    labels = embedder.embed_classes([ClassText(names.get(f, f)) for f in folders])
    vectors, true = [], []
    for row, folder in enumerate(track(folders, description=name)):
        for path in paths[folder]:
            clip = embedder.embed_clip(path, limits=MediaLimits())
            # A silent file has no vector and is counted as wrong.
            vectors.append(np.zeros(labels.shape[1]) if clip.audio is None else clip.audio)
            true.append(row)
    return mean_class_accuracy(name, np.stack(vectors) @ labels.T, np.array(true), len(folders))


def pair_figures(
    embedder: Embedder, sounds: Mapping[str, Sequence[Path]], pictures: Pictures
) -> list[Figure]:
    """Accuracy on pairs of a held-out sound and a held-out picture of the same animal."""
    animals = sorted(ANIMALS_SHOWN)
    labels = embedder.embed_classes([ClassText(a) for a in animals])
    seen = np.zeros(len(animals), np.bool_)
    similarity: dict[str, list[Floats]] = {"audio": [], "video": [], "both": []}
    true = []
    for row, animal in enumerate(track(animals, description="pairs")):
        (shown,) = [
            i for i, n in enumerate(pictures.names) if n.split(",")[0] == ANIMALS_SHOWN[animal]
        ]
        shown_rows = np.flatnonzero(pictures.held_out & (pictures.labels == shown))
        clips = [embedder.embed_clip(p, limits=MediaLimits()).audio for p in sounds[animal]]
        heard = [vector for vector in clips if vector is not None]
        for i, picture in enumerate(shown_rows):
            vectors = {
                "audio": heard[i % len(heard)],
                "video": embed_picture(embedder, pictures.pixels[picture]),
            }
            cosines = {m: labels @ v for m, v in vectors.items()}
            for evidence, rows in similarity.items():
                used = cosines if evidence == "both" else {evidence: cosines[evidence]}
                rows.append(rank_labels(used, seen, embedder.calibration).score)
            true.append(row)
    return [
        mean_class_accuracy(
            f"animal pairs, by {evidence}", np.stack(rows), np.array(true), len(animals)
        )
        for evidence, rows in similarity.items()
    ]


def picture_figure(
    embedder: Embedder, name: str, pictures: Pictures, source: int, names: Mapping[int, str]
) -> Figure:
    """Accuracy of single held-out pictures among the names of their own collection."""
    classes = sorted(names)
    labels = embedder.embed_classes([ClassText(names[c]) for c in classes])
    rows = np.flatnonzero(pictures.held_out & (pictures.source == source))
    vectors = [embed_picture(embedder, pictures.pixels[r]) for r in track(rows, description=name)]
    true = np.array([classes.index(c) for c in pictures.labels[rows]])
    return mean_class_accuracy(name, np.stack(vectors) @ labels.T, true, len(classes))


def embed_picture(embedder: Embedder, pixels: NDArray[np.uint8]) -> Floats:
    """Embed one picture (H, W, 3) as a window of one frame, at its own size."""
    size = embedder.decode_spec.frame_size
    height, width, _ = pixels.shape
    scale = size / min(height, width)
    scaled = Image.fromarray(pixels).resize(
        (max(size, round(width * scale)), max(size, round(height * scale)))
    )
    chunk = ClipChunk(
        windows=((0.0, 1.0),),
        waveforms=None,
        has_audio=np.zeros(1, np.bool_),
        frames=np.asarray(scaled)[None],
        frame_times=np.zeros(1),
        has_video=np.ones(1, np.bool_),
    )
    vector = embedder.finish(embedder.forward(embedder.prepare(chunk)))[0].video
    assert vector is not None
    return vector


def held_out_sounds(data: Path, group: str) -> dict[str, list[Path]]:
    """Held-out files of one collection by class folder."""
    files: dict[str, list[Path]] = defaultdict(list)
    for file_group, label, held_out, path in list_recordings(data):
        if held_out and file_group == group:
            files[label].append(path)
    return files


def street_sounds(data: Path) -> dict[str, list[Path]]:
    """Berklee's files with the name of a street sound, by that name; none was trained on."""
    files: dict[str, list[Path]] = defaultdict(list)
    for paths in held_out_sounds(data, "berklee").values():
        for path in paths:
            name = street_name(path.stem)
            if name is not None:
                files[name].append(path)
    return files


def measure(embedder: Embedder, data: Path) -> list[Figure]:
    """All figures, sounds first."""
    imagenet = (data / "teachers" / "imagenet_labels.txt").read_text("utf-8").splitlines()[1:]
    pictures = load_pictures(data / "images", tuple(imagenet))
    tiny = np.unique(pictures.labels[pictures.source == THUMBNAIL])
    caltech = np.unique(pictures.labels[pictures.source == CALTECH])
    animals = held_out_sounds(data, "animals")
    return [
        sound_figure(embedder, "ESC-10 fold 4", held_out_sounds(data, "esc10"), ESC10_NAMES),
        sound_figure(embedder, "animal sounds", animals, {}),
        sound_figure(embedder, "street sounds of Berklee", street_sounds(data), STREET_NAMES),
        picture_figure(
            embedder,
            "Tiny ImageNet thumbnails",
            pictures,
            THUMBNAIL,
            {int(c): imagenet[c].split(",")[0] for c in tiny},
        ),
        picture_figure(
            embedder,
            "Caltech photographs",
            pictures,
            CALTECH,
            {int(c): CALTECH_NAMES.get(pictures.names[c], pictures.names[c]) for c in caltech},
        ),
        sound_figure(embedder, "animal sounds, in other words", animals, PARAPHRASES),
        *pair_figures(embedder, animals, pictures),
    ]


def show(figures: Sequence[Figure]) -> None:
    """Print the figures as a table."""
    table = Table(title="Bundled model, held-out samples, mean over classes")
    for heading in ("set", "samples", "names", "chance", "top-1", "top-5"):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    for f in figures:
        table.add_row(
            f.name,
            str(f.samples),
            str(f.candidates),
            f"{f.chance:.3f}",
            f"{f.top1:.3f}",
            f"{f.top5:.3f}",
        )
    Console().print(table)


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
