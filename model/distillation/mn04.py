"""The sound teacher: EfficientAT mn04, a MobileNetV3-Large at width 0.4 trained on AudioSet.

This file owns the network as its published state dict names it, and the loading of that state dict.
The front end is `LogMel` at its default sizes, which are the teacher's. Schmid, Koutini and Widmer,
"Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge Distillation", ICASSP 2023,
arXiv 2211.04772; the plan of blocks is table 1 of MobileNetV3, arXiv 1905.02244.
"""

import csv
import os
import pickle
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.backbones.compact_audio import CompactAudioConfig, LogMel
from model.errors import CheckpointError


class Block(NamedTuple):
    """One inverted residual: its sizes, and whether it gates channels."""

    inputs: int
    expanded: int
    outputs: int
    kernel: int
    stride: int
    gated: bool
    hardswish: bool


BLOCKS = (
    Block(8, 8, 8, 3, 1, False, False),
    Block(8, 24, 16, 3, 2, False, False),
    Block(16, 32, 16, 3, 1, False, False),
    Block(16, 32, 16, 5, 2, True, False),
    Block(16, 48, 16, 5, 1, True, False),
    Block(16, 48, 16, 5, 1, True, False),
    Block(16, 96, 32, 3, 2, False, True),
    Block(32, 80, 32, 3, 1, False, True),
    Block(32, 72, 32, 3, 1, False, True),
    Block(32, 72, 32, 3, 1, False, True),
    Block(32, 192, 48, 3, 1, True, True),
    Block(48, 272, 48, 3, 1, True, True),
    Block(48, 272, 64, 5, 2, True, True),
    Block(64, 384, 64, 5, 1, True, True),
    Block(64, 384, 64, 5, 1, True, True),
)


def _convolution(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None,
) -> nn.Sequential:
    """Convolution, batch norm, activation: entries 0, 1, 2, as torchvision numbers them."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


def _rounded_to_eight(channels: float) -> int:
    """Return the multiple of 8 nearest to a channel count, at least 8."""
    return max(8, int(channels + 4) // 8 * 8)


class _ChannelGate(nn.Module):
    """Squeeze-excite over channels, with a plain sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = _rounded_to_eight(channels / 4)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) -> the gate (B, C, 1, 1)."""
        gate = self.fc2(torch.relu(self.fc1(x.mean(dim=(2, 3)))))
        return torch.sigmoid(gate)[:, :, None, None]


class _ConcurrentGates(nn.Module):
    """The published network's list of gates, of which mn04 has one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conc_se_layers = nn.ModuleList([_ChannelGate(channels)])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) -> (B, C, F, T)."""
        gated: Tensor = x * self.conc_se_layers[0](x)
        return gated


class _InvertedResidual(nn.Module):
    """Widen (where the plan widens), convolve by channel, gate (where gated), narrow."""

    def __init__(self, plan: Block) -> None:
        super().__init__()
        activation = nn.Hardswish if plan.hardswish else nn.ReLU
        layers: list[nn.Module] = []
        if plan.expanded != plan.inputs:
            layers.append(_convolution(plan.inputs, plan.expanded, activation=activation))
        layers.append(
            _convolution(
                plan.expanded,
                plan.expanded,
                kernel=plan.kernel,
                stride=plan.stride,
                groups=plan.expanded,
                activation=activation,
            )
        )
        if plan.gated:
            layers.append(_ConcurrentGates(plan.expanded))
        layers.append(_convolution(plan.expanded, plan.outputs, activation=None))
        self.block = nn.Sequential(*layers)
        self.residual = plan.stride == 1 and plan.inputs == plan.outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, F, T) -> (B, outputs, F / stride, T / stride)."""
        y: Tensor = self.block(x)
        return x + y if self.residual else y


class MN04(nn.Module):
    """Log-mel (B, 1, 128, T) -> embedding (B, 384) and AudioSet logits (B, 527)."""

    def __init__(self) -> None:
        super().__init__()
        self.mel = LogMel(CompactAudioConfig())
        self.features = nn.Sequential(
            _convolution(1, 8, kernel=3, stride=2, activation=nn.Hardswish),
            *(_InvertedResidual(plan) for plan in BLOCKS),
            _convolution(64, 384, activation=nn.Hardswish),
        )
        # The state dict counts pooling and flattening as entries 0 and 1, and dropout as entry 4.
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(384, 512),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(512, 527),
        )

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, 128, T) -> the pooled last convolution (B, 384), logits (B, 527)."""
        x = self.features(mel)  # (B, 384, 4, T / 32)
        return x.mean(dim=(2, 3)), self.classifier(x)


def load_teacher(path: str | os.PathLike[str]) -> MN04:
    """Read the published state dict; the network comes in evaluation mode without gradients.

    Raises:
        CheckpointError: the file is missing, is no state dict or is another network's.
    """
    teacher = MN04()
    try:
        teacher.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is not the state dict of EfficientAT mn04: {error}"
        ) from error
    return teacher.eval().requires_grad_(False)


def read_class_names(path: str | os.PathLike[str]) -> list[str]:
    """Read AudioSet's 527 display names, in the order of the logits."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return [row["display_name"] for row in csv.DictReader(file)]
