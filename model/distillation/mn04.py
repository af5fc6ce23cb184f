"""The sound teacher: EfficientAT mn04, a MobileNetV3-Large at width 0.4 trained on AudioSet.

This file owns the reading of its published state dict into the bundled backbone's network, whose
default plan is the same. Schmid, Koutini and Widmer, "Efficient Large-Scale Audio Tagging via
Transformer-to-CNN Knowledge Distillation", ICASSP 2023, arXiv 2211.04772; weights: MIT licence.
"""

import csv
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from model.backbones.compact_audio import CompactAudioConfig, CompactAudioNetwork
from model.errors import CheckpointError


def load_teacher(path: str | os.PathLike[str]) -> CompactAudioNetwork:
    """Read the published state dict; the network comes in evaluation mode without gradients.

    Raises:
        CheckpointError: the file is missing, is no state dict or is another network's.
    """
    teacher = CompactAudioNetwork(CompactAudioConfig())
    try:
        published = torch.load(path, map_location="cpu", weights_only=True)
        teacher.load_state_dict(rename_published(published, teacher))
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is not the state dict of EfficientAT mn04: {error}"
        ) from error
    return teacher.eval().requires_grad_(False)


def rename_published(
    published: Mapping[str, Tensor], network: CompactAudioNetwork
) -> dict[str, Tensor]:
    """Published keys -> the network's keys; keys that are not known keep their names.

    The published network is one list: stem, blocks, last convolution. A block is in turn a list of
    those parts that it has, with its gate inside a list of one.
    """
    prefixes = {
        "features.0.": "stem.",
        f"features.{len(network.blocks) + 1}.": "last.",
        # Pooling and flattening are entries 0 and 1 of the published head, dropout is entry 4.
        "classifier.2.": "head.0.",
        "classifier.5.": "head.2.",
    }
    for number, block in enumerate(network.blocks):
        parts = [name for name, part in block.named_children() if not isinstance(part, nn.Identity)]
        for place, part in enumerate(parts):
            source, target = f"features.{number + 1}.block.{place}.", f"blocks.{number}.{part}."
            if part == "gate":
                prefixes[source + "conc_se_layers.0.fc1."] = target + "reduce."
                prefixes[source + "conc_se_layers.0.fc2."] = target + "expand."
            else:
                prefixes[source] = target
    renamed = {}
    for key, value in published.items():
        known = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
        renamed[prefixes.get(known, "") + key.removeprefix(known)] = value
    return renamed


def read_class_names(path: str | os.PathLike[str]) -> list[str]:
    """Read AudioSet's 527 display names, in the order of the logits."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return [row["display_name"] for row in csv.DictReader(file)]
