"""What the distillation held out, as vectors of a model: the samples of every reported figure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from model.distillation.pictures import Pictures
from model.distillation.sounds import list_recordings, street_name
from model.embedder import Embedder
from model.embedding import ClassText
from model.media.limits import MediaLimits
from model.media.types import ClipChunk

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

# --- models --------------------------------------------------------------------------------------


class Model(Protocol):
    """Sounds, pictures and names -> unit vectors in one space."""

    def embed_names(self, names: Sequence[str]) -> Floats:
        """Embed candidates, (len(names), D)."""

    def embed_sound(self, path: Path) -> Floats | None:
        """Embed a recording, (D,); None where it is silent."""

    def embed_picture(self, pixels: NDArray[np.uint8]) -> Floats:
        """Embed one picture (H, W, 3), (D,)."""


class Served:
    """An embedder as the service uses it."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def embed_names(self, names: Sequence[str]) -> Floats:
        """Embed candidates, (len(names), D)."""
        return self.embedder.embed_classes([ClassText(name) for name in names])

    def embed_sound(self, path: Path) -> Floats | None:
        """Embed a whole file, (D,); None where it is silent."""
        return self.embedder.embed_clip(path, limits=MediaLimits(), modality="audio").audio

    def embed_picture(self, pixels: NDArray[np.uint8]) -> Floats:
        """Embed one picture (H, W, 3) as a window of one frame, at its own size."""
        size = self.embedder.decode_spec.frame_size
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
        embedder = self.embedder
        [forwarded] = embedder.forward([embedder.prepare(chunk)])
        vector = embedder.finish(forwarded)[0].video
        assert vector is not None
        return vector


# --- samples -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Samples:
    """Embedded samples: `vectors` (N, D), `labels` (N,) among `keys`."""

    keys: tuple[str, ...]
    vectors: Floats
    labels: Labels

    def of(self, key: str) -> Floats:
        """Vectors (n, D) of one key's samples."""
        return np.asarray(self.vectors[self.labels == self.keys.index(key)])


def embed_sounds(model: Model, name: str, paths: Mapping[str, Sequence[Path]]) -> Samples:
    """Embed files by folder; a silent file's vector is zero, which is counted as wrong."""
    keys = tuple(sorted(paths))
    files = [(row, path) for row, key in enumerate(keys) for path in paths[key]]
    vectors = [model.embed_sound(path) for _, path in tqdm(files, desc=name, disable=None)]
    dim = model.embed_names(["any"]).shape[1]
    return Samples(
        keys,
        np.stack([np.zeros(dim, np.float32) if v is None else v for v in vectors]),
        np.array([row for row, _ in files]),
    )


def embed_pictures(model: Model, name: str, pictures: Pictures, source: int) -> Samples:
    """Embed single held-out pictures of one collection, by the names that it uses."""
    rows = np.flatnonzero(pictures.held_out & (pictures.source == source))
    classes, labels = np.unique(pictures.labels[rows], return_inverse=True)
    vectors = [
        model.embed_picture(pictures.pixels[row]) for row in tqdm(rows, desc=name, disable=None)
    ]
    keys = tuple(pictures.names[c].split(",")[0] for c in classes)
    return Samples(keys, np.stack(vectors), labels)


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
