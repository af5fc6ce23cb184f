"""The bundled audio backbone: a small convolutional network over a log-mel spectrogram.

This file owns the network, its configuration and its files on disk: `audio.json`,
`audio.safetensors`, and `audio.onnx` where there is one, by which ONNX Runtime runs the layers on
a CPU. The network is the student of `model.distillation.audio`; serving and training run the same
code from the waveform to the spectrogram.
"""

import copy
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.backbones.onnx_graph import OnnxGraph
from model.config import from_mapping
from model.errors import ConfigError
from model.files import existing, load_weights, read_json_object, write_json, write_tensors

CONFIG_FILE = "audio.json"
WEIGHTS_FILE = "audio.safetensors"
GRAPH_FILE = "audio.onnx"


@dataclass(frozen=True, kw_only=True)
class CompactAudioConfig:
    """Sizes of the front end and of the network; what `audio.json` holds.

    Attributes:
        sample_rate: Hz of the waveform.
        window_seconds: length that every window is padded or cut to.
        fft_size: points of the Fourier transform.
        frame_length: samples of the Hann window inside it.
        hop_length: samples between two frames.
        mel_bands: rows of the spectrogram.
        max_frequency: upper edge in Hz of the highest mel band.
        stem_channels: output channels of the first convolution.
        blocks: one row a block: (expanded channels, output channels, kernel size, stride, whether
            channels are gated, whether its activation is hardswish and not ReLU).
        dim: length of the pooled embedding.
        head_channels: hidden units between the embedding and the scores.
        classes: number of scores (527 in AudioSet).
    """

    sample_rate: int = 32_000
    window_seconds: float = 4.0
    fft_size: int = 1024
    frame_length: int = 800
    hop_length: int = 320
    mel_bands: int = 128
    max_frequency: float = 15_000.0
    stem_channels: int = 8
    blocks: tuple[tuple[int, int, int, int, bool, bool], ...] = (
        (8, 8, 3, 1, False, False),
        (24, 16, 3, 2, False, False),
        (32, 16, 3, 1, False, False),
        (32, 16, 5, 2, True, False),
        (48, 16, 5, 1, True, False),
        (48, 16, 5, 1, True, False),
        (96, 32, 3, 2, False, True),
        (80, 32, 3, 1, False, True),
        (72, 32, 3, 1, False, True),
        (72, 32, 3, 1, False, True),
        (192, 48, 3, 1, True, True),
        (272, 48, 3, 1, True, True),
        (272, 64, 5, 2, True, True),
        (384, 64, 5, 1, True, True),
        (384, 64, 5, 1, True, True),
    )
    dim: int = 384
    head_channels: int = 512
    classes: int = 527

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "blocks":
                value = getattr(self, field.name)
                fractional = field.type is float
                if not _is_positive(value, fractional=fractional):
                    wanted = "number" if fractional else "whole number"
                    raise ConfigError(f"{field.name} must be a positive {wanted}, got {value!r}")
        if not isinstance(self.blocks, tuple) or not all(map(_is_block, self.blocks)):
            raise ConfigError(
                "each row of blocks must hold four positive whole numbers (expanded channels, "
                "output channels, kernel size, stride) and two booleans (gated, hardswish), got "
                f"{self.blocks!r}"
            )
        if self.max_frequency > self.sample_rate / 2:
            raise ConfigError(
                f"max_frequency {self.max_frequency} Hz lies above half the sample rate "
                f"({self.sample_rate / 2} Hz); lower it"
            )
        if self.frame_length > self.fft_size:
            raise ConfigError(
                f"frame_length {self.frame_length} exceeds fft_size {self.fft_size}; raise fft_size"
            )

    @property
    def window_samples(self) -> int:
        """Samples in one window."""
        return round(self.window_seconds * self.sample_rate)


def _is_positive(value: Any, *, fractional: bool = False) -> bool:
    """Whether a value is a number above zero, whole unless `fractional`; a bool is no number."""
    kinds = int | float if fractional else int
    return isinstance(value, kinds) and not isinstance(value, bool) and value > 0


def _is_block(row: Any) -> bool:
    """Whether a row has the columns of `BlockPlan`."""
    return (
        isinstance(row, tuple)
        and len(row) == 6
        and all(_is_positive(number) for number in row[:4])
        and all(isinstance(flag, bool) for flag in row[4:])
    )


def kaldi_mel_filters(
    *, sample_rate: int, fft_size: int, mel_bands: int, max_frequency: float
) -> Tensor:
    """Triangular filters of unit height, evenly spaced in mel from 0 Hz: (mel_bands, fft_size/2+1).

    mel(f) = 1127 ln(1 + f / 700), and the triangles are straight in mel, not in Hz (Kaldi,
    `feat/mel-computations.cc`). Kaldi leaves out the bin at half the sample rate; here it weighs 0.
    """

    def mel(frequency: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(frequency / 700.0)

    bins = torch.arange(fft_size // 2 + 1, dtype=torch.float64) * (sample_rate / fft_size)
    top = float(mel(torch.tensor(max_frequency, dtype=torch.float64)))
    edges = torch.linspace(0.0, top, mel_bands + 2, dtype=torch.float64)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    position = mel(bins)[None, :]
    rising = (position - left) / (centre - left)
    falling = (right - position) / (right - centre)
    filters = torch.minimum(rising, falling).clamp_min(0.0)
    filters[:, -1] = 0.0
    return filters.to(torch.float32)


class LogMel(nn.Module):
    """Waveform (B, N) float32 -> scaled log-mel spectrogram (B, 1, mel_bands, T).

    Pre-emphasis y[t] = x[t+1] - 0.97 x[t]; power of a short-time Fourier transform with a symmetric
    Hann window, centred, reflected at the ends; Kaldi mel bands; ln(p + 1e-5), shifted and scaled
    to about [-1, 1] (EfficientAT, Schmid et al., ICASSP 2023, arXiv 2211.04772).
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: CompactAudioConfig) -> None:
        super().__init__()
        self.fft_size = config.fft_size
        self.frame_length = config.frame_length
        self.hop_length = config.hop_length
        filters = kaldi_mel_filters(
            sample_rate=config.sample_rate,
            fft_size=config.fft_size,
            mel_bands=config.mel_bands,
            max_frequency=config.max_frequency,
        )
        # Both follow from the configuration, so they stay out of the weights file.
        window = torch.hann_window(config.frame_length, periodic=False)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, N) float32 -> (B, 1, mel_bands, 1 + (N - 1) // hop_length)."""
        emphasised = waveform[:, 1:] - 0.97 * waveform[:, :-1]  # (B, N - 1)
        spectrum = torch.stft(
            emphasised,
            self.fft_size,
            hop_length=self.hop_length,
            win_length=self.frame_length,
            window=self.window,
            return_complex=True,
        )  # (B, fft_size / 2 + 1, T)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = torch.matmul(self.filters, power)  # (B, mel_bands, T)
        scaled: Tensor = ((mel + 1e-5).log() + 4.5) / 5.0
        return scaled.unsqueeze(1)  # (B, 1, mel_bands, T)


class BlockPlan(NamedTuple):
    """One row of `CompactAudioConfig.blocks`."""

    expanded: int
    outputs: int
    kernel: int
    stride: int
    gated: bool
    hardswish: bool


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] = nn.Hardswish,
    ) -> None:
        convolution = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        super().__init__(convolution, nn.BatchNorm2d(outputs, eps=1e-3), activation())

    def fold(self) -> None:
        """Move the batch norm, in evaluation mode, into the convolution."""
        convolution, norm, _ = self
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            self[0] = fuse_conv_bn_eval(convolution, norm)
            self[1] = nn.Identity()


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channels' means (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # A quarter of the channels, to the nearest multiple of 8, as MobileNetV3 counts.
        hidden = max(8, (channels // 4 + 4) // 8 * 8)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) -> (B, C, F, T)."""
        gate = self.expand(F.relu(self.reduce(x.mean(dim=(2, 3)))))  # (B, C)
        gated: Tensor = x * torch.sigmoid(gate)[:, :, None, None]
        return gated


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, gate, narrow (MobileNetV3, arXiv 1905.02244)."""

    def __init__(self, inputs: int, plan: BlockPlan) -> None:
        super().__init__()
        wide = plan.expanded
        activation = nn.Hardswish if plan.hardswish else nn.ReLU
        widens = wide != inputs
        self.widen = ConvNorm(inputs, wide, activation=activation) if widens else nn.Identity()
        self.depthwise = ConvNorm(
            wide, wide, kernel=plan.kernel, stride=plan.stride, groups=wide, activation=activation
        )
        self.gate = SqueezeExcite(wide) if plan.gated else nn.Identity()
        self.narrow = ConvNorm(wide, plan.outputs, activation=nn.Identity)
        self.residual = plan.stride == 1 and inputs == plan.outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, F, T) -> (B, outputs, F / stride, T / stride)."""
        y: Tensor = self.widen(x)  # (B, expanded, F, T)
        y = self.gate(self.depthwise(y))  # (B, expanded, F / stride, T / stride)
        y = self.narrow(y)  # (B, outputs, F / stride, T / stride)
        return x + y if self.residual else y


class CompactAudioNetwork(nn.Module):
    """Log-mel -> convolution -> inverted residuals -> mean -> embedding -> scores.

    The default plan is MobileNetV3-Large (arXiv 1905.02244, table 1) at width 0.4 with one input
    channel and without stride in the eleventh block: EfficientAT mn04 (arXiv 2211.04772).
    """

    def __init__(self, config: CompactAudioConfig) -> None:
        super().__init__()
        self.mel = LogMel(config)
        channels = config.stem_channels
        self.stem = ConvNorm(1, channels, kernel=3, stride=2)
        blocks = []
        for row in config.blocks:
            plan = BlockPlan(*row)
            blocks.append(InvertedResidual(channels, plan))
            channels = plan.outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = ConvNorm(channels, config.dim)
        self.head = nn.Sequential(
            nn.Linear(config.dim, config.head_channels),
            nn.Hardswish(),
            nn.Linear(config.head_channels, config.classes),
        )

    def embed(self, mel: Tensor) -> Tensor:
        """Log-mel (B, 1, mel_bands, T) -> embedding (B, dim)."""
        x = self.stem(mel)  # (B, stem_channels, mel_bands / 2, T / 2)
        x = self.blocks(x)  # (B, C, mel_bands / 32, T / 32)
        x = self.last(x)  # (B, dim, mel_bands / 32, T / 32)
        embedding: Tensor = x.mean(dim=(2, 3))  # (B, dim)
        return embedding

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel (B, 1, mel_bands, T) -> embedding (B, dim), logits (B, classes)."""
        embedding = self.embed(mel)
        return embedding, self.head(embedding)


def fold_batch_norms(network: CompactAudioNetwork) -> CompactAudioNetwork:
    """Copy a network in evaluation mode with each batch norm inside its convolution.

    The answers are the same and take a quarter less time; the copy cannot be trained. Its kernels
    lie channels last, which on a CPU suits depthwise ones.
    """
    folded = copy.deepcopy(network)
    for module in folded.modules():
        if isinstance(module, ConvNorm):
            module.fold()
    folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return folded


class CompactAudio:
    """AudioBackbone over CompactAudioNetwork: four seconds of 32 kHz sound -> `dim` numbers.

    Args:
        config: sizes of the network.
        network: its weights.
        graph: the layers behind the spectrogram as ONNX, which a CPU then runs; else torch does.

    Raises:
        CheckpointError: the graph is not readable or does not fit.
    """

    name = "compact-audio"

    def __init__(
        self,
        config: CompactAudioConfig,
        network: CompactAudioNetwork,
        *,
        graph: Path | None = None,
    ) -> None:
        self.config = config
        self.network = network.eval().requires_grad_(False)
        self._folded = fold_batch_norms(self.network)
        self._graph = None if graph is None else OnnxGraph(graph, self._folded, asdict(config))
        self.dim = config.dim
        self.sample_rate = config.sample_rate

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "CompactAudio":
        """Read `audio.json`, `audio.safetensors` and, where there is one, `audio.onnx` of a folder.

        Raises:
            ConfigError: `audio.json` has an unknown key or a value out of range.
            CheckpointError: a file is missing or unreadable, or the weights or the graph do not fit
                the configuration.
        """
        config = from_mapping(CompactAudioConfig, read_json_object(Path(folder) / CONFIG_FILE))
        network = CompactAudioNetwork(config)
        load_weights(network, Path(folder) / WEIGHTS_FILE)
        return cls(config, network, graph=existing(Path(folder) / GRAPH_FILE))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `audio.json` and `audio.safetensors`, each by a rename, so neither is ever torn."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        write_tensors(target / WEIGHTS_FILE, self.network.state_dict())
        write_json(target / CONFIG_FILE, asdict(self.config))

    def prepare(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cut (N,) float32 in [-1, 1] at its end, or pad it with silence: (window,) float32."""
        window = np.zeros(self.config.window_samples, dtype=np.float32)
        kept = waveform[: window.size]
        window[: kept.size] = kept
        return window

    @torch.inference_mode()
    def features(self, batch: Tensor) -> Tensor:
        """Map prepared windows (B, N) float32 to embeddings (B, dim) float32."""
        mel = self._mel(batch)
        if self._graph is not None and mel.device.type == "cpu":
            return self._graph(mel)
        return self._folded.embed(mel)

    @torch.inference_mode()
    def scores(self, batch: Tensor) -> Tensor:
        """Map prepared windows (B, N) float32 to AudioSet logits (B, classes) float32."""
        logits: Tensor = self._folded(self._mel(batch))[1]
        return logits

    def to(self, device: str) -> "CompactAudio":
        """Move the weights to a device and return self."""
        self.network.to(device)
        self._folded.to(device)
        return self

    def _mel(self, batch: Tensor) -> Tensor:
        """Spectrograms of prepared windows: on a CPU one by one, as more would leave its caches."""
        windows = torch.split(batch, 1) if batch.device.type == "cpu" else (batch,)
        return torch.cat([self._folded.mel(window) for window in windows])
