"""The compact video backbone: MobileNetV2, from one picture to 1280 numbers.

Owns its architecture (Sandler et al. 2018, arXiv 1801.04381), its picture preparation and its
files: `video.json` (the configuration), `video.safetensors` (the weights), and `video.onnx` where
there is one, by which ONNX Runtime runs the layers on a CPU. How the weights came about is
`model.distillation.video`.
"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.backbones.onnx_graph import OnnxGraph
from model.config import from_mapping
from model.errors import ConfigError
from model.files import existing, load_weights, read_json_object, write_json, write_tensors

CONFIG_FILE = "video.json"
WEIGHTS_FILE = "video.safetensors"
GRAPH_FILE = "video.onnx"

# Inverted residual stages of MobileNetV2 1.0 (table 2): expansion, width, depth, first stride.
MOBILENET_V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@dataclass(frozen=True)
class CompactVideoConfig:
    """Sizes of the network.

    Attributes:
        frame_size: side in pixels of the square pictures that it reads.
        stem_width: channels of the first convolution.
        stages: (expansion, width, depth, stride) of each row of blocks; the stride is its first
            block's.
        dim: length of a feature vector.
        classes: length of a score vector: ImageNet's 1000 in the order of their WordNet ids, then
            Caltech-101's 97 names of objects, sorted.

    Raises:
        ConfigError: a size is not positive, or a stage has not four of them.
    """

    frame_size: int = 160
    stem_width: int = 32
    stages: tuple[tuple[int, int, int, int], ...] = MOBILENET_V2_STAGES
    dim: int = 1280
    classes: int = 1097

    def __post_init__(self) -> None:
        """Check the values where they enter: a wrong size is then named as such."""
        if not self.stages or any(len(stage) != 4 for stage in self.stages):
            raise ConfigError(
                f"Each stage must be (expansion, width, depth, stride), not {self.stages}."
            )
        sizes = (self.frame_size, self.stem_width, self.dim, self.classes, *sum(self.stages, ()))
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ConfigError(f"Every size of the compact video backbone must be positive: {self}.")


# --- network --------------------------------------------------------------------------------------


class SameConv2d(nn.Conv2d):
    """Convolution with bias under TensorFlow's "SAME" padding, as the teacher's weights expect.

    Where a stride of two leaves an odd pixel, the zeros go below and to the right; torch's own
    padding would put them above and to the left, and shift the picture by one.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding=padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        if self.stride[0] > 1:
            (top, bottom), (left, right) = (self._padding(size) for size in x.shape[2:])
            x = F.pad(x, (left, right, top, bottom))
        return super().forward(x)

    def _padding(self, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
        return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection (section 3.4, table 1)."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = SameConv2d(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = SameConv2d(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        hidden = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        hidden = F.relu6(self.depthwise(hidden), inplace=True)
        y: Tensor = self.project(hidden)
        return x + y if self.residual else y


class CompactVideoNetwork(nn.Module):
    """Picture -> features -> class scores: MobileNetV2 without batch normalisation.

    The teacher's file has its normalisations folded into the convolutions, and so starts training:
    every convolution has a bias instead.
    """

    def __init__(self, config: CompactVideoConfig) -> None:
        super().__init__()
        width = config.stem_width
        self.stem = SameConv2d(3, width, 3, stride=2)
        self.blocks = nn.ModuleList()
        for expansion, outputs, depth, first_stride in config.stages:
            for block in range(depth):
                stride = first_stride if block == 0 else 1
                self.blocks.append(
                    InvertedResidual(width, outputs, expansion=expansion, stride=stride)
                )
                width = outputs
        self.last = SameConv2d(width, config.dim, 1)
        self.head = nn.Linear(config.dim, config.classes)

    def features(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) of 0 to 255 -> (B, dim) float32 in [0, 6]."""
        x: Tensor = pictures.float() / 128 - 1  # the teacher's input quantisation
        x = F.relu6(self.stem(x), inplace=True)  # (B, stem_width, S/2, S/2)
        for block in self.blocks:
            x = block(x)  # the last: (B, 320, S/32, S/32)
        x = F.relu6(self.last(x), inplace=True)  # (B, dim, S/32, S/32)
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
        graph: the layers below the scores as ONNX, which a CPU then runs; else torch does.

    Raises:
        CheckpointError: the graph is not readable or does not fit.
    """

    name = "compact-video"

    def __init__(
        self,
        config: CompactVideoConfig,
        network: CompactVideoNetwork | None = None,
        *,
        graph: Path | None = None,
    ) -> None:
        self.config = config
        self.network = (network or CompactVideoNetwork(config)).eval()
        self.dim = config.dim
        self.frame_size = config.frame_size
        self._graph = None if graph is None else OnnxGraph(graph, self.network, asdict(config))
        self._device = torch.device("cpu")
        self.to("cpu")

    @classmethod
    def load(cls, folder: Path) -> "CompactVideo":
        """Read `video.json`, `video.safetensors` and, where there is one, `video.onnx` of a folder.

        Raises:
            ConfigError: the configuration has an unknown key or a value out of range.
            CheckpointError: a file is missing or corrupt, or the weights or the graph do not fit
                the configuration.
        """
        config = from_mapping(CompactVideoConfig, read_json_object(folder / CONFIG_FILE))
        with torch.device("meta"):
            network = CompactVideoNetwork(config)
        # Matrices are stored as float16, half the size.
        load_weights(network, folder / WEIGHTS_FILE)
        return cls(config, network, graph=existing(folder / GRAPH_FILE))

    def save(self, folder: Path) -> None:
        """Write `video.json` and `video.safetensors` into `folder`; each appears whole or not."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            # Biases are few, so they stay exact.
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
        """Map prepared frames (B, 3, S, S) uint8 to features (B, dim) float32 in [0, 6].

        Raises:
            ValueError: the batch has another shape.
        """
        self._require_pictures(batch)
        if self._graph is not None and self._device.type == "cpu":
            return self._graph(batch)
        return self.network.features(self._on_device(batch))

    @torch.inference_mode()
    def scores(self, batch: Tensor) -> Tensor:
        """Map prepared frames (B, 3, S, S) uint8 to class scores (B, classes) float32.

        The scores are logits. The first 1000 (ImageNet) and the rest (Caltech-101) were trained
        under a softmax each, so take a softmax of either part, not of the whole.

        Raises:
            ValueError: the batch has another shape.
        """
        self._require_pictures(batch)
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
        return batch.to(self._device, memory_format=torch.channels_last)

    def _require_pictures(self, batch: Tensor) -> None:
        size = self.frame_size
        if batch.dim() != 4 or tuple(batch.shape[1:]) != (3, size, size):
            raise ValueError(
                f"A batch of prepared frames must be (B, 3, {size}, {size}), "
                f"not {tuple(batch.shape)}."
            )


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
