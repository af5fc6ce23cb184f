"""The bundled audio backbone: a small convolutional network over a log-mel spectrogram.

This file owns the network, its configuration and its two files on disk (`audio.json` and
`audio.safetensors`). The network is the student of `model.distillation.audio`; serving and training
run the same code from the waveform on.
"""

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import from_mapping
from model.errors import ConfigError
from model.files import load_weights, read_json_object, write_json, write_tensors

CONFIG_FILE = "audio.json"
WEIGHTS_FILE = "audio.safetensors"


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
        stem_channels: output channels of the two stem convolutions.
        blocks: one row a block: (expanded channels, output channels, kernel size, stride).
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
    stem_channels: tuple[int, int] = (8, 24)
    blocks: tuple[tuple[int, int, int, int], ...] = (
        (72, 40, 5, 2),
        (120, 40, 3, 1),
        (120, 40, 3, 1),
        (160, 80, 3, 2),
        (240, 80, 3, 1),
        (240, 80, 3, 1),
        (320, 112, 3, 1),
        (400, 128, 5, 2),
        (512, 128, 5, 1),
        (512, 128, 5, 1),
    )
    dim: int = 384
    head_channels: int = 512
    classes: int = 527

    def __post_init__(self) -> None:
        for field in fields(self):
            self._check_numbers(field.name, fractional=field.type is float)
        if not _is_table([self.stem_channels], columns=2):
            raise ConfigError(f"stem_channels must hold two numbers, got {self.stem_channels!r}")
        if not _is_table(self.blocks, columns=4):
            raise ConfigError(
                "each row of blocks must hold four numbers (expanded channels, output channels, "
                f"kernel size, stride), got {self.blocks!r}"
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

    def _check_numbers(self, name: str, *, fractional: bool) -> None:
        """Raise ConfigError unless every number under a key is positive and of the key's kind."""
        value = getattr(self, name)
        kinds = (int, float) if fractional else (int,)
        for number in _flatten(value):
            if isinstance(number, bool) or not isinstance(number, kinds) or number <= 0:
                wanted = "positive numbers" if fractional else "positive whole numbers"
                raise ConfigError(f"{name} must hold {wanted}, got {value!r}")

    @property
    def window_samples(self) -> int:
        """Samples in one window."""
        return round(self.window_seconds * self.sample_rate)


def _is_table(rows: Any, *, columns: int) -> bool:
    """Whether `rows` is a sequence of tuples of `columns` entries each."""
    return isinstance(rows, tuple | list) and all(
        isinstance(row, tuple) and len(row) == columns for row in rows
    )


def _flatten(value: Any) -> list[Any]:
    """Leaves of nested tuples; a bare value is its own only leaf."""
    if not isinstance(value, tuple):
        return [value]
    return [leaf for item in value for leaf in _flatten(item)]


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


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channels' means (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, channels // 8)
        self.expand = nn.Linear(channels // 8, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) -> (B, C, F, T)."""
        gate = self.expand(F.relu(self.reduce(x.mean(dim=(2, 3)))))  # (B, C)
        gated: Tensor = x * torch.sigmoid(gate)[:, :, None, None]
        return gated


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, gate, narrow (MobileNetV3, arXiv 1905.02244)."""

    def __init__(self, inputs: int, expanded: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(inputs, expanded, 1, bias=False)
        self.widen_norm = nn.BatchNorm2d(expanded)
        self.depthwise = nn.Conv2d(
            expanded, expanded, kernel, stride, kernel // 2, groups=expanded, bias=False
        )
        self.depthwise_norm = nn.BatchNorm2d(expanded)
        self.gate = SqueezeExcite(expanded)
        self.narrow = nn.Conv2d(expanded, outputs, 1, bias=False)
        self.narrow_norm = nn.BatchNorm2d(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, F, T) -> (B, outputs, F / stride, T / stride)."""
        y: Tensor = F.hardswish(self.widen_norm(self.widen(x)))  # (B, expanded, F, T)
        y = F.hardswish(self.depthwise_norm(self.depthwise(y)))  # (B, expanded, F/s, T/s)
        y = self.narrow_norm(self.narrow(self.gate(y)))  # (B, outputs, F/s, T/s)
        return x + y if self.residual else y


class CompactAudioNetwork(nn.Module):
    """Log-mel -> two plain convolutions -> inverted residuals -> mean -> embedding -> scores.

    The first two layers are plain convolutions: at high resolution depthwise ones are bound by
    memory on a CPU and no faster (EfficientNetV2, arXiv 2104.00298, section 3.2). The first merges
    mel bands four to one, which halves the time of all that follows.
    """

    def __init__(self, config: CompactAudioConfig) -> None:
        super().__init__()
        self.mel = LogMel(config)
        first, channels = config.stem_channels
        self.stem = nn.Sequential(
            nn.Conv2d(1, first, 5, (4, 2), 2, bias=False),
            nn.BatchNorm2d(first),
            nn.Hardswish(),
            nn.Conv2d(first, channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Hardswish(),
        )
        blocks = []
        for expanded, outputs, kernel, stride in config.blocks:
            blocks.append(InvertedResidual(channels, expanded, outputs, kernel, stride))
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(
            nn.Conv2d(channels, config.dim, 1, bias=False),
            nn.BatchNorm2d(config.dim),
            nn.Hardswish(),
        )
        self.head = nn.Sequential(
            nn.Linear(config.dim, config.head_channels),
            nn.Hardswish(),
            nn.Linear(config.head_channels, config.classes),
        )

    def embed(self, mel: Tensor) -> Tensor:
        """Log-mel (B, 1, mel_bands, T) -> embedding (B, dim)."""
        x = self.stem(mel)  # (B, stem_channels[1], mel_bands / 8, T / 4)
        x = self.blocks(x)  # (B, C, mel_bands / 64, T / 32)
        x = self.last(x)  # (B, dim, mel_bands / 64, T / 32)
        embedding: Tensor = x.mean(dim=(2, 3))  # (B, dim)
        return embedding

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel (B, 1, mel_bands, T) -> embedding (B, dim), logits (B, classes)."""
        embedding = self.embed(mel)
        return embedding, self.head(embedding)


class CompactAudio:
    """AudioBackbone over CompactAudioNetwork: four seconds of 32 kHz sound -> `dim` numbers."""

    name = "compact-audio"

    def __init__(self, config: CompactAudioConfig, network: CompactAudioNetwork) -> None:
        self.config = config
        self.network = network.eval().requires_grad_(False)
        self.dim = config.dim
        self.sample_rate = config.sample_rate

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "CompactAudio":
        """Read `audio.json` and `audio.safetensors` from a folder.

        Raises:
            ConfigError: `audio.json` has an unknown key or a value out of range.
            CheckpointError: a file is missing or unreadable, or the weights do not fit the
                configuration.
        """
        config = from_mapping(CompactAudioConfig, read_json_object(Path(folder) / CONFIG_FILE))
        network = CompactAudioNetwork(config)
        load_weights(network, Path(folder) / WEIGHTS_FILE)
        return cls(config, network)

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
        return self.network.embed(self.network.mel(batch))

    @torch.inference_mode()
    def scores(self, batch: Tensor) -> Tensor:
        """Map prepared windows (B, N) float32 to AudioSet logits (B, classes) float32."""
        logits: Tensor = self.network(self.network.mel(batch))[1]
        return logits

    def to(self, device: str) -> "CompactAudio":
        """Move the weights to a device and return self."""
        self.network.to(device)
        return self
