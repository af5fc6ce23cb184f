"""The compact video backbone: a small residual network from one picture to 512 numbers.

Owns its architecture, its picture preparation and its two files, `video.json` (the configuration)
and `video.safetensors` (the weights). How the weights came about is `model.distillation.video`.
"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import from_mapping
from model.errors import ConfigError
from model.files import load_weights, read_json_object, write_json, write_tensors

CONFIG_FILE = "video.json"
WEIGHTS_FILE = "video.safetensors"

# Mean and deviation of 8-bit photographs over all channels: the network then starts from inputs
# of about zero mean and unit variance. One pair for all channels keeps grey pictures grey.
PIXEL_MEAN = 114.0
PIXEL_STD = 58.0


@dataclass(frozen=True)
class CompactVideoConfig:
    """Sizes of the network.

    Attributes:
        frame_size: side in pixels of the square pictures that it reads.
        stem_width: channels of the first convolution.
        widths: channels of each stage; each stage but the first halves height and width.
        depths: residual blocks of each stage.
        dim: length of a feature vector.
        classes: length of a score vector: ImageNet's 1000 in the order of their WordNet ids, then
            Caltech-101's 97 names of objects, sorted.

    Raises:
        ConfigError: a size is not positive, or widths and depths differ in length.
    """

    frame_size: int = 128
    stem_width: int = 32
    widths: tuple[int, ...] = (32, 64, 128, 256)
    depths: tuple[int, ...] = (1, 1, 2, 2)
    dim: int = 512
    classes: int = 1097

    def __post_init__(self) -> None:
        """Check the values where they enter: a wrong size is then named as such."""
        sizes = (
            self.frame_size,
            self.stem_width,
            *self.widths,
            *self.depths,
            self.dim,
            self.classes,
        )
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ConfigError(f"Every size of the compact video backbone must be positive: {self}.")
        if len(self.widths) != len(self.depths) or not self.widths:
            raise ConfigError(
                f"widths and depths must have one entry a stage, not {len(self.widths)} and "
                f"{len(self.depths)}."
            )


# --- network --------------------------------------------------------------------------------------


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch normalisation; height and width divided by `stride`."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, section 3).

    Where the block halves the picture, the shortcut averages before its 1x1 convolution instead of
    dropping three pixels of four (He et al. 2019, "Bag of tricks", ResNet-D).
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, kernel=3, stride=stride)
        self.second = ConvNorm(outputs, outputs, kernel=3)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True), ConvNorm(inputs, outputs, kernel=1)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class CompactVideoNetwork(nn.Module):
    """Picture -> features -> class scores.

    Full convolutions and an early stride of four rather than depthwise convolutions: those are few
    operations but bound by memory, and train several times slower on a CPU.
    """

    def __init__(self, config: CompactVideoConfig) -> None:
        super().__init__()
        width = config.widths[0]
        self.stem = nn.Sequential(
            ConvNorm(3, config.stem_width, kernel=3, stride=2),
            nn.ReLU(inplace=True),
            ConvNorm(config.stem_width, width, kernel=3, stride=2),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential()
        for stage, (outputs, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                self.stages.append(ResidualBlock(width, outputs, stride=stride))
                width = outputs
        self.project = nn.Sequential(ConvNorm(width, config.dim, kernel=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(config.dim, config.classes)

    def features(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) of 0 to 255 -> (B, dim) float32, not negative."""
        x: Tensor = (pictures.float() - PIXEL_MEAN) / PIXEL_STD
        x = self.stem(x)  # (B, widths[0], S/4, S/4)
        x = self.stages(x)  # (B, widths[-1], S/32, S/32) with four stages
        x = self.project(x)  # (B, dim, S/32, S/32)
        return x.mean(dim=(2, 3))  # (B, dim)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) of 0 to 255 -> features (B, dim), class logits (B, classes)."""
        features = self.features(pictures)
        return features, self.head(features)


# --- backbone -------------------------------------------------------------------------------------


class CompactVideo:
    """The network as a `VideoBackbone`: `prepare` on the CPU, `features` on the device.

    Args:
        config: sizes of the network.
        network: weights to wrap; None makes a network with random weights.
    """

    name = "compact-video"

    def __init__(
        self, config: CompactVideoConfig, network: CompactVideoNetwork | None = None
    ) -> None:
        self.config = config
        self.network = (network or CompactVideoNetwork(config)).eval()
        self.dim = config.dim
        self.frame_size = config.frame_size
        self._device = torch.device("cpu")
        self.to("cpu")

    @classmethod
    def load(cls, folder: Path) -> "CompactVideo":
        """Read `video.json` and `video.safetensors`.

        Raises:
            ConfigError: the configuration has an unknown key or a value out of range.
            CheckpointError: a file is missing or corrupt, or the weights do not fit the
                configuration.
        """
        config = from_mapping(CompactVideoConfig, read_json_object(folder / CONFIG_FILE))
        network = CompactVideoNetwork(config)
        # Matrices are stored as float16, half the size.
        load_weights(network, folder / WEIGHTS_FILE)
        return cls(config, network)

    def save(self, folder: Path) -> None:
        """Write `video.json` and `video.safetensors` into `folder`; each appears whole or not."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            # A batch norm's variances may lie below float16's range; they are few, so stay exact.
            name: tensor.half() if tensor.dim() > 1 else tensor
            for name, tensor in self.network.state_dict().items()
        }
        write_tensors(folder / WEIGHTS_FILE, weights)
        write_json(folder / CONFIG_FILE, asdict(self.config))

    def prepare(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut the centre square of one upright RGB frame (H, W, 3) uint8: (3, S, S) uint8.

        A frame whose shorter side is not S = `frame_size` is resampled after the cut.

        Raises:
            ValueError: the frame is not (H, W, 3) uint8 or has no pixels.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or frame.size == 0:
            raise ValueError(f"A frame must be (H, W, 3) uint8, not {frame.shape} {frame.dtype}.")
        height, width, _ = frame.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = frame[top : top + side, left : left + side].transpose(2, 0, 1)  # (3, side, side)
        if side != self.frame_size:
            weights = _resampling_weights(side, self.frame_size)
            resampled = weights @ square.astype(np.float32) @ weights.T  # (3, S, S)
            square = np.rint(resampled).astype(np.uint8)
        return np.ascontiguousarray(square)

    @torch.inference_mode()
    def features(self, batch: Tensor) -> Tensor:
        """Map prepared frames (B, 3, S, S) uint8 to features (B, dim) float32, not negative.

        Raises:
            ValueError: the batch has another shape.
        """
        return self.network.features(self._on_device(batch))

    @torch.inference_mode()
    def scores(self, batch: Tensor) -> Tensor:
        """Map prepared frames (B, 3, S, S) uint8 to class scores (B, classes) float32.

        The scores are logits. The first 1000 (ImageNet) and the rest (Caltech-101) were trained
        under a softmax each, so take a softmax of either part, not of the whole.

        Raises:
            ValueError: the batch has another shape.
        """
        scores: Tensor = self.network(self._on_device(batch))[1]
        return scores

    def to(self, device: str) -> "CompactVideo":
        """Move the weights to a device and return self."""
        self._device = torch.device(device)
        # Channels last is the layout in which oneDNN and cuDNN convolve without reordering.
        self.network.to(self._device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def _on_device(self, batch: Tensor) -> Tensor:
        size = self.frame_size
        if batch.dim() != 4 or tuple(batch.shape[1:]) != (3, size, size):
            raise ValueError(
                f"A batch of prepared frames must be (B, 3, {size}, {size}), "
                f"not {tuple(batch.shape)}."
            )
        return batch.to(self._device, memory_format=torch.channels_last)


@lru_cache(maxsize=32)
def _resampling_weights(inputs: int, outputs: int) -> NDArray[np.float32]:
    """Bilinear interpolation along one axis as a matrix (outputs, inputs) float32, rows sum to 1.

    Shrinking widens the triangle to the step, as Pillow does, so that no pixel is skipped (no
    aliasing).
    """
    step = inputs / outputs
    radius = max(step, 1.0)
    centres = (np.arange(outputs) + 0.5) * step - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(inputs) - centres[:, None]) / radius)
    normalised: NDArray[np.float32] = weights / weights.sum(axis=1, keepdims=True)
    return normalised.astype(np.float32)
