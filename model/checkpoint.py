"""A checkpoint: one folder with all that turns a clip into answers, and ids made of its content.

checkpoint.json          backbones, network shape, decoding, calibration (CheckpointConfig)
avgzslnet.safetensors    weights of AVGZSLNet
calibration.json         optional: a Calibration fitted since, which serves in its place
vocabulary.json          the classes it was trained on: names, synonyms, descriptions
vocabulary.safetensors   their text vectors w, (C, Dt) float16
<backbone files>         where the backbones' weights are ours to ship
MODEL_CARD.md            data, licences, figures, weaknesses
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.config import Calibration, NetworkConfig, from_mapping
from model.embedding import ClassText
from model.errors import CheckpointError, ConfigError
from model.files import (
    load_weights,
    read_json,
    read_json_object,
    read_tensors,
    write_json,
    write_tensors,
)
from model.media.types import FRAMES_PER_SECOND, HOP_SECONDS, WINDOW_SECONDS
from model.network import AVGZSLNet

FORMAT_VERSION = 1
BUNDLED = "bundled"
CALIBRATION_FILE = "calibration.json"
IDENTIFYING_FILES = (
    "audio.json",
    "audio.safetensors",
    "avgzslnet.safetensors",
    CALIBRATION_FILE,
    "checkpoint.json",
    "video.json",
    "video.safetensors",
    "vocabulary.json",
    "vocabulary.safetensors",
)
"""What answers depend on, and the ids are made of; a report beside them changes no model."""
PRECOMPUTED = "precomputed"
"""Name of the backbones of a checkpoint that was trained on others' feature files."""


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """What `checkpoint.json` holds.

    Attributes:
        audio_backbone, video_backbone, text_encoder: names in `model.backbones.registry`.
        window_seconds, hop_seconds, frames_per_second: how clips are cut.
        network, calibration: see their classes.
        unit_calibration: of the embeddings scaled to unit length, as the service compares them;
            None where the network makes them so itself, and `calibration` is of such.
        descriptions: whether a class's description is part of its text.
        format_version: raised when an older reader would misread the folder.
    """

    audio_backbone: str
    video_backbone: str
    text_encoder: str
    network: NetworkConfig
    calibration: Calibration
    window_seconds: float = WINDOW_SECONDS
    hop_seconds: float = HOP_SECONDS
    frames_per_second: float = FRAMES_PER_SECOND
    descriptions: bool = True
    unit_calibration: Calibration | None = None
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory; `text_vectors` (C, Dt) float32 belong to the C `classes`.

    `model_id` is of all that an answer depends on, `space_id` of all that a vector depends on: the
    same without `calibration.json`, so that one fitted anew leaves stored vectors as they are.
    """

    config: CheckpointConfig
    network: AVGZSLNet
    classes: tuple[ClassText, ...]
    text_vectors: NDArray[np.float32]
    model_id: str
    space_id: str
    folder: Path


def checkpoint_folder(model: str) -> Path:
    """Folder of a model given by setting: `bundled`, or a path."""
    if model == BUNDLED:
        return Path(str(resources.files("model"))) / "bundled"
    return Path(model)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read and check a checkpoint folder; the network comes in evaluation mode, on the CPU.

    Raises:
        CheckpointError: a file is missing, corrupt, of another format, or does not fit the others.
    """
    config = _read_config(folder)
    with torch.device("meta"):
        network = AVGZSLNet(config.network)
    load_weights(network, folder / "avgzslnet.safetensors")
    classes = _read_classes(folder / "vocabulary.json")
    text_vectors = _read_text_vectors(folder / "vocabulary.safetensors")
    if text_vectors.shape != (len(classes), config.network.text_dim):
        raise CheckpointError(
            f"{folder / 'vocabulary.safetensors'} has shape {text_vectors.shape}; "
            f"{len(classes)} classes of {config.network.text_dim} numbers were expected"
        )
    model_id = space_id = _content_id(folder)
    if (folder / CALIBRATION_FILE).exists():
        space_id = _content_id(folder, without=CALIBRATION_FILE)
    return Checkpoint(
        config,
        network.eval(),
        classes,
        text_vectors,
        model_id=model_id,
        space_id=space_id,
        folder=folder.resolve(),
    )


def save_checkpoint(
    folder: Path,
    config: CheckpointConfig,
    network: AVGZSLNet,
    classes: Sequence[ClassText],
    text_vectors: NDArray[np.float32],
) -> None:
    """Write the folder's own files; backbone files and the model card are written elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "checkpoint.json", dataclasses.asdict(config))
    weights = {name: weight.half() for name, weight in network.state_dict().items()}
    write_tensors(folder / "avgzslnet.safetensors", weights)
    write_json(folder / "vocabulary.json", [dataclasses.asdict(c) for c in classes])
    write_tensors(
        folder / "vocabulary.safetensors", {"text": torch.from_numpy(text_vectors).half()}
    )


def _content_id(folder: Path, *, without: str | None = None) -> str:
    """Return 12 hexadecimal digits of the SHA-256 over those `IDENTIFYING_FILES` that there are."""
    digest = hashlib.sha256()
    for name in IDENTIFYING_FILES:
        if name != without and (folder / name).is_file():
            digest.update(name.encode())
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:12]


def _read_config(folder: Path) -> CheckpointConfig:
    path, calibration_path = folder / "checkpoint.json", folder / CALIBRATION_FILE
    values = read_json_object(path)
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version!r}; this program reads {FORMAT_VERSION}"
        )
    try:
        values["network"] = from_mapping(NetworkConfig, values.get("network", {}))
        values["calibration"] = from_mapping(Calibration, values.get("calibration", {}))
        if values.get("unit_calibration") is not None:
            values["unit_calibration"] = from_mapping(Calibration, values["unit_calibration"])
        config = from_mapping(CheckpointConfig, values)
        if not calibration_path.exists():
            return config
        path = calibration_path
        calibration = from_mapping(Calibration, read_json_object(path))
        if config.network.normalise:
            return dataclasses.replace(config, calibration=calibration)
        return dataclasses.replace(config, unit_calibration=calibration)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_text_vectors(path: Path) -> NDArray[np.float32]:
    tensors = read_tensors(path)
    if "text" not in tensors:
        raise CheckpointError(f"{path} holds no tensor 'text', only {sorted(tensors) or 'nothing'}")
    vectors: NDArray[np.float32] = tensors["text"].float().numpy()
    return vectors


def _read_classes(path: Path) -> tuple[ClassText, ...]:
    try:
        return tuple(
            ClassText(c["name"], tuple(c["synonyms"]), c["description"]) for c in read_json(path)
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a list of classes: {error}") from error
