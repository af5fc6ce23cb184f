"""Distil the bundled audio backbone from EfficientAT mn04, on mixtures made on the fly.

This file owns the clips that are drawn from, the mixtures, the loss and the training loop:

    python -m model.distillation.audio --data PATH --out FOLDER --minutes 65 [--resume]

Every mixture is heard by the teacher and by the student as the very same waveform (function
matching: Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR
2022, arXiv 2106.05237), so labels are not needed and mixtures may be as wild as they like. The
budget is wall-clock time, so the same command suits any machine.
"""

import argparse
import copy
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import scipy.fft
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from model.backbones.compact_audio import CompactAudio, CompactAudioConfig, CompactAudioNetwork
from model.distillation.mn04 import MN04, load_teacher, read_class_names

Waveform = NDArray[np.float32]

SAMPLE_RATE = 32_000
TRAINING_STATE_FILE = "training.pt"
CALIBRATION_MIXTURES = 256
REPLAY_WINDOWS = 4096

# How often a source is drawn from each collection. Berklee comes first because its variety is what
# keeps the student general; the rest of the draws are synthesised.
GROUP_SHARES = {"berklee": 0.44, "esc10": 0.17, "animals": 0.19, "speech_digits": 0.05}

# Folder name -> the AudioSet classes that mean it; for validation figures only.
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


@dataclass(frozen=True)
class Clip:
    """One decoded recording: mono, int16, 32 kHz."""

    group: str
    label: str
    held_out: bool
    samples: NDArray[np.int16]


# --- clips ---------------------------------------------------------------------------------------


def decode_mono(path: Path) -> NDArray[np.int16]:
    """Decode a whole file to mono int16 at 32 kHz: (N,)."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    parts: list[NDArray[np.int16]] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            parts += [resampled.to_ndarray()[0] for resampled in resampler.resample(frame)]
        parts += [resampled.to_ndarray()[0] for resampled in resampler.resample(None)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)


def list_recordings(data: Path) -> list[tuple[str, str, bool, Path]]:
    """List (group, label, held out, path) under the data folder, in a fixed order.

    Held out are fold 4 of ESC-10, every fifth file of each animal and every twentieth of Berklee.
    """
    recordings = []
    for path in sorted((data / "esc10").glob("*/*.ogg")):
        recordings.append(("esc10", path.parent.name, path.name.startswith("4-"), path))
    for folder in sorted((data / "animals").iterdir()):
        for index, path in enumerate(sorted(folder.glob("*.ogg"))):
            recordings.append(("animals", folder.name, index % 5 == 0, path))
    for index, path in enumerate(sorted((data / "berklee").glob("*.ogg"))):
        recordings.append(("berklee", "", index % 20 == 0, path))
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


# --- mixtures ------------------------------------------------------------------------------------


def coloured_noise(rng: np.random.Generator, length: int) -> Waveform:
    """Noise whose power falls as 1/f^a, a from -0.5 (bluish) to 2.5 (brown): (length,)."""
    size = scipy.fft.next_fast_len(length, real=True)
    spectrum = rng.standard_normal(2 * (size // 2 + 1), dtype=np.float32).view(np.complex64)
    frequency = np.arange(1, spectrum.size + 1, dtype=np.float32)
    spectrum *= frequency ** np.float32(-0.5 * rng.uniform(-0.5, 2.5))
    noise: Waveform = scipy.fft.irfft(spectrum, size)[:length]
    return noise


def slow_envelope(rng: np.random.Generator, length: int) -> Waveform:
    """Loudness that wanders or beats at 0.2 to 25 Hz: (length,) in [0, 1]."""
    rate = 10 ** rng.uniform(-0.7, 1.4)
    knots = rng.uniform(0.0, 1.0, max(2, int(rate * length / SAMPLE_RATE) + 2))
    positions = np.linspace(0, knots.size - 1, length)
    envelope: Waveform = np.interp(positions, np.arange(knots.size), knots).astype(np.float32)
    return envelope


def gliding_tone(rng: np.random.Generator, length: int) -> Waveform:
    """Harmonic tone, steady, swept or wailing like a siren: (length,)."""
    seconds = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    pitch = 10 ** rng.uniform(1.7, 3.6)
    octaves = rng.uniform(0.0, 1.0) * np.sin(
        2 * math.pi * 10 ** rng.uniform(-0.8, 0.9) * seconds + rng.uniform(0, 6.28)
    )
    if rng.random() < 0.4:
        octaves = np.float32(0.0) * seconds
    phase = np.cumsum(pitch * np.exp2(octaves), dtype=np.float64) * (2 * math.pi / SAMPLE_RATE)
    tone = np.zeros(length, dtype=np.float32)
    for harmonic in range(1, int(rng.integers(1, 8))):
        if pitch * harmonic * 2 > SAMPLE_RATE / 2:
            break
        tone += (rng.uniform(0.2, 1.0) / harmonic) * np.sin(phase * harmonic).astype(np.float32)
    return tone


def pulse_train(rng: np.random.Generator, length: int) -> Waveform:
    """Decaying bursts at 0.7 to 80 a second, from clock ticks to an engine: (length,)."""
    period = SAMPLE_RATE / 10 ** rng.uniform(-0.15, 1.9)
    starts = np.arange(rng.uniform(0, period), length, period)
    starts += rng.normal(0.0, 0.1 * rng.random(), starts.size) * period
    train = np.zeros(length, dtype=np.float32)
    train[np.clip(starts.astype(np.int64), 0, length - 1)] = rng.uniform(0.6, 1.0, starts.size)
    ring = np.arange(4096, dtype=np.float32)
    burst = np.exp(ring / -(10 ** rng.uniform(0.5, 3.0)))
    if rng.random() < 0.6:
        burst *= np.sin(ring * 10 ** rng.uniform(-2.0, 0.3))
    else:
        burst *= rng.standard_normal(ring.size, dtype=np.float32)
    return convolve(train, burst.astype(np.float32))[:length]


def plucked_notes(rng: np.random.Generator, length: int) -> Waveform:
    """Melody of decaying harmonic notes on a twelve-tone scale: (length,)."""
    step = int(SAMPLE_RATE * rng.uniform(0.12, 0.7))
    decay = rng.uniform(0.05, 1.0)
    partials = rng.uniform(0.0, 1.0, 6) / np.arange(1, 7)
    base = 10 ** rng.uniform(1.8, 2.9)
    melody = np.zeros(length + 2 * step, dtype=np.float32)
    seconds = np.arange(2 * step, dtype=np.float32) / SAMPLE_RATE
    fade = np.exp(-seconds / decay) * np.minimum(1.0, seconds / 0.004)
    fade *= np.linspace(1.0, 0.0, fade.size, dtype=np.float32) ** 0.3
    for start in range(0, length, step):
        for _ in range(rng.choice([1, 1, 3])):
            pitch = base * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
            phase = np.float32(2 * math.pi * pitch) * seconds
            note = sum(p * np.sin(phase * (k + 1)) for k, p in enumerate(partials))
            melody[start : start + 2 * step] += fade * note
    return melody[:length]


def synthesise(rng: np.random.Generator, length: int) -> Waveform:
    """One sound that no recording holds: (length,) float32, of any level."""
    match rng.integers(6):
        case 0:
            return coloured_noise(rng, length)
        case 1:
            return coloured_noise(rng, length) * slow_envelope(rng, length)
        case 2:
            return gliding_tone(rng, length) * slow_envelope(rng, length)
        case 3:
            return gliding_tone(rng, length)
        case 4:
            return pulse_train(rng, length)
        case _:
            return plucked_notes(rng, length)


def convolve(signal: Waveform, response: Waveform) -> Waveform:
    """Linear convolution by Fourier transform, in float32: (N + M - 1,)."""
    length = signal.size + response.size - 1
    size = scipy.fft.next_fast_len(length, real=True)
    product = scipy.fft.rfft(signal, size) * scipy.fft.rfft(response, size)
    result: Waveform = scipy.fft.irfft(product, size)[:length]
    return result


def room_response(rng: np.random.Generator) -> Waveform:
    """Direct sound and a tail of exponentially decaying noise, 0.1 to 1.2 s: (M,)."""
    seconds = rng.uniform(0.1, 1.2)
    time_axis = np.arange(int(seconds * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    tail = rng.standard_normal(time_axis.size, dtype=np.float32)
    tail *= np.exp(-6.9 * time_axis / seconds) * np.float32(rng.uniform(0.01, 0.08))
    tail[0] = 1.0
    return tail


def equalise(rng: np.random.Generator, signal: Waveform) -> Waveform:
    """Colour a sound as microphones and codecs do: random gains, at times a band limit: (N,)."""
    size = scipy.fft.next_fast_len(signal.size, real=True)
    spectrum = scipy.fft.rfft(signal, size)
    octave = np.log2(np.linspace(20.0, SAMPLE_RATE / 2, spectrum.size, dtype=np.float32))
    knots = np.linspace(octave[0], octave[-1], 9)
    decibels = np.interp(octave, knots, rng.normal(0.0, 5.0, knots.size))
    if rng.random() < 0.3:
        decibels -= 24.0 * np.maximum(0.0, octave - rng.uniform(10.5, 13.5))
    if rng.random() < 0.2:
        decibels -= 24.0 * np.maximum(0.0, rng.uniform(5.0, 9.5) - octave)
    gain = np.exp(decibels * (math.log(10) / 20)).astype(np.float32)
    result: Waveform = scipy.fft.irfft(spectrum * gain, size)[: signal.size]
    return result


def change_speed(signal: Waveform, factor: float) -> Waveform:
    """Play faster (factor > 1, higher pitch) or slower by linear interpolation: (N / factor,)."""
    positions = np.arange(0, signal.size - 1, factor, dtype=np.float64)
    whole = positions.astype(np.int64)
    fraction = (positions - whole).astype(np.float32)
    return signal[whole] * (1 - fraction) + signal[whole + 1] * fraction


class Mixer:
    """Endless source of training windows."""

    def __init__(self, clips: Sequence[Clip], window_samples: int, seed: int) -> None:
        self.window = window_samples
        self.rng = np.random.default_rng(seed)
        self.groups = {
            group: [clip for clip in clips if clip.group == group and clip.samples.size > 1]
            for group in GROUP_SHARES
        }
        self.labels = {
            group: sorted({clip.label for clip in members})
            for group, members in self.groups.items()
        }

    def draw(self) -> Waveform:
        """One mixture of one to three sources: (window,) float32 in [-1, 1]."""
        rng = self.rng
        mixture = self._source()
        for _ in range(rng.choice(3, p=[0.6, 0.3, 0.1])):
            mixture += self._source() * np.float32(10 ** (rng.uniform(-20, 3) / 20))
        if rng.random() < 0.2:
            noise = _to_unit_peak(coloured_noise(rng, self.window))
            mixture += noise * np.float32(10 ** (rng.uniform(-50, -15) / 20))
        mixture = _to_unit_peak(mixture) * np.float32(10 ** (rng.uniform(-30, 3) / 20))
        return np.clip(mixture, -1.0, 1.0)

    def _source(self) -> Waveform:
        """One sound with random speed, colour and room, placed in the window at unit peak."""
        rng = self.rng
        group = rng.choice([*GROUP_SHARES, ""], p=self._shares())
        if group:
            signal = self._recording(str(group))
        else:
            signal = synthesise(rng, int(self.window * rng.choice([0.1, 0.4, 1.0, 1.0])))
        if rng.random() < 0.3:
            signal = equalise(rng, signal)
        if rng.random() < 0.15:
            signal = convolve(signal, room_response(rng))
        return _to_unit_peak(self._place(signal))

    def _shares(self) -> list[float]:
        shares = list(GROUP_SHARES.values())
        return [*shares, 1.0 - sum(shares)]

    def _recording(self, group: str) -> Waveform:
        """Random stretch of a random clip, every label equally often, at a random speed."""
        rng = self.rng
        label = self.labels[group][rng.integers(len(self.labels[group]))]
        members = [clip for clip in self.groups[group] if clip.label == label]
        samples = members[rng.integers(len(members))].samples
        factor = 2 ** rng.uniform(-0.5, 0.5) if rng.random() < 0.5 else 1.0
        wanted = math.ceil(self.window * factor) + 1
        start = rng.integers(max(1, samples.size - wanted + 1))
        signal = samples[start : start + wanted].astype(np.float32) / 32768.0
        return change_speed(signal, factor) if factor != 1.0 else signal

    def _place(self, signal: Waveform) -> Waveform:
        """Cut a long sound; repeat a short one or set it somewhere in silence: (window,)."""
        rng = self.rng
        if signal.size >= self.window:
            return signal[: self.window].copy()
        if rng.random() < 0.3:
            gap = np.zeros(int(rng.uniform(0, 0.5) * SAMPLE_RATE), dtype=np.float32)
            unit = np.concatenate([signal, gap])
            return np.resize(unit, self.window)
        placed = np.zeros(self.window, dtype=np.float32)
        start = rng.integers(self.window - signal.size + 1)
        placed[start : start + signal.size] = signal
        return placed


def _to_unit_peak(signal: Waveform) -> Waveform:
    """Scale to a peak of 1; near silence, which has no shape to keep, stays as it is."""
    peak = float(np.abs(signal).max(initial=0.0))
    return signal / np.float32(peak) if peak > 1e-4 else signal


# --- loss ----------------------------------------------------------------------------------------


class Answered(NamedTuple):
    """Windows and what the teacher says of them; (B, ...) for a batch, without B for one window."""

    mel: Tensor
    """(B, 1, 128, T) float32."""
    embedding: Tensor
    """(B, 384) float32."""
    logits: Tensor
    """(B, 527) float32."""


@dataclass(frozen=True)
class TeacherStatistics:
    """Mean logits (527,), their spread (527,) and the embedding's spread (dim,) over mixtures."""

    logits_mean: Tensor
    logits_std: Tensor
    embedding_std: Tensor

    @classmethod
    def of(cls, rows: Sequence[Answered]) -> "TeacherStatistics":
        """Measure over windows that the teacher has answered."""
        embedding = torch.stack([row.embedding for row in rows])
        logits = torch.stack([row.logits for row in rows])
        return cls(
            logits_mean=logits.mean(dim=0),
            logits_std=logits.std(dim=0),
            # Dimensions that hardly move would otherwise weigh most.
            embedding_std=embedding.std(dim=0).clamp_min(3e-2),
        )


def distillation_losses(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], statistics: TeacherStatistics
) -> dict[str, Tensor]:
    """Four scalar terms from (embedding (B, dim), logits (B, 527)) of both networks.

    tags: binary KL divergence of the class probabilities, summed over classes (AudioSet is
    multi-label). ranking: KL divergence of softmax at temperature 2, times 4 (Hinton et al., arXiv
    1503.02531). logits: squared error in units of each class's spread, which also teaches the
    classes that are rarely heard. embedding: squared error in units of each dimension's spread.
    """
    embedding, logits = student
    target_embedding, target_logits = teacher
    tags = F.binary_cross_entropy_with_logits(
        logits, target_logits.sigmoid(), reduction="none"
    ) - F.binary_cross_entropy_with_logits(target_logits, target_logits.sigmoid(), reduction="none")
    ranking = F.kl_div(
        F.log_softmax(logits / 2, dim=1),
        F.log_softmax(target_logits / 2, dim=1),
        log_target=True,
        reduction="batchmean",
    )
    return {
        "tags": tags.sum(dim=1).mean(),
        "ranking": 4 * ranking,
        "logits": ((logits - target_logits) / statistics.logits_std).square().mean(),
        "embedding": ((embedding - target_embedding) / statistics.embedding_std).square().mean(),
    }


LOSS_WEIGHTS = {"tags": 0.5, "ranking": 0.5, "logits": 1.0, "embedding": 1.0}


# --- validation ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Validation:
    """Held-out windows with the teacher's answers: mel (N, 1, 128, T), logits (N, 527)."""

    mel: Tensor
    logits: Tensor
    groups: NDArray[np.str_]
    labels: NDArray[np.str_]


@torch.inference_mode()
def build_validation(
    clips: Sequence[Clip], teacher: MN04, window_samples: int, device: str
) -> Validation:
    """Cut or pad each held-out clip to its first window and let the teacher hear it."""
    held_out = [clip for clip in clips if clip.held_out]
    waveforms = np.zeros((len(held_out), window_samples), dtype=np.float32)
    for row, clip in zip(waveforms, held_out, strict=True):
        kept = clip.samples[:window_samples]
        row[: kept.size] = kept.astype(np.float32) / 32768.0
    mels, logits = [], []
    for batch in torch.split(torch.from_numpy(waveforms), 16):
        mel = teacher.mel(batch.to(device)).contiguous(memory_format=torch.channels_last)
        mels.append(mel)
        logits.append(teacher(mel)[1])
    return Validation(
        mel=torch.cat(mels),
        logits=torch.cat(logits),
        groups=np.array([clip.group for clip in held_out]),
        labels=np.array([clip.label for clip in held_out]),
    )


def mean_class_accuracy(
    logits: NDArray[np.float32], labels: NDArray[np.str_], columns: dict[str, list[int]]
) -> float:
    """Accuracy averaged over classes; a class scores its best AudioSet column: logits (N, 527)."""
    names = sorted(columns)
    scores = np.stack([logits[:, columns[name]].max(axis=1) for name in names], axis=1)
    predicted = np.array(names)[scores.argmax(axis=1)]
    return float(np.mean([(predicted[labels == name] == name).mean() for name in names]))


@torch.inference_mode()
def validate(
    network: CompactAudioNetwork, validation: Validation, class_names: Sequence[str]
) -> dict[str, float]:
    """Compare student and teacher on the held-out windows; `correlation` is over all logits.

    `class_correlation` is the correlation within a class over windows, averaged over classes; it
    leaves out what the classes' mean logits alone explain.
    """
    logits = torch.cat([network(mel)[1] for mel in torch.split(validation.mel, 16)])
    student = logits.cpu().numpy()
    teacher = validation.logits.cpu().numpy()
    figures = {}
    for group, names in AUDIOSET_NAMES.items():
        columns = {label: [class_names.index(name) for name in names[label]] for label in names}
        rows = validation.groups == group
        for who, scores in (("student", student), ("teacher", teacher)):
            figures[f"{group}_{who}"] = mean_class_accuracy(
                scores[rows], validation.labels[rows], columns
            )
    centred_student = student - student.mean(axis=0)
    centred_teacher = teacher - teacher.mean(axis=0)
    products = (centred_student * centred_teacher).mean(axis=0)
    spreads = centred_student.std(axis=0) * centred_teacher.std(axis=0)
    figures["top1_agreement"] = float((student.argmax(1) == teacher.argmax(1)).mean())
    figures["correlation"] = float(np.corrcoef(student.ravel(), teacher.ravel())[0, 1])
    figures["class_correlation"] = float((products / spreads).mean())
    return figures


# --- training ------------------------------------------------------------------------------------


def learning_rate(progress: float, peak: float) -> float:
    """Linear rise over the first 4 % of the budget, then half a cosine down to a hundredth."""
    warm_up = 0.04
    if progress < warm_up:
        return peak * (0.05 + 0.95 * progress / warm_up)
    fall = min(1.0, (progress - warm_up) / (1 - warm_up))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fall)))


@torch.no_grad()
def update_average(average: CompactAudioNetwork, network: CompactAudioNetwork, step: int) -> None:
    """Exponential moving average of weights, shorter at the start; batch norm's figures too."""
    decay = min(0.998, (1 + step) / (10 + step))
    current = network.state_dict()
    for key, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[key], 1 - decay)
        else:
            value.copy_(current[key])


def to_channels_last(network: nn.Module) -> None:
    """Lay the kernels out channels last, which on a CPU halves the time of depthwise ones."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Distillation:
    """One training run: networks, optimiser, clock, and where they are written."""

    def __init__(
        self, *, data: Path, out: Path, minutes: float, batch_size: int, peak: float, device: str
    ) -> None:
        self.out = out
        self.budget_seconds = minutes * 60
        self.batch_size = batch_size
        self.peak = peak
        self.device = device
        self.config = CompactAudioConfig()
        self.teacher = load_teacher(data / "teachers" / "mn04_audioset.pt").to(device)
        to_channels_last(self.teacher)
        self.class_names = read_class_names(data / "teachers" / "mn04_class_labels.csv")
        clips = load_clips(data, out / "clips.npz")
        training = [clip for clip in clips if not clip.held_out]
        self.mixer = Mixer(training, self.config.window_samples, seed=time.time_ns())
        self.validation = build_validation(clips, self.teacher, self.config.window_samples, device)
        self.network = CompactAudioNetwork(self.config).to(device)
        to_channels_last(self.network)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=0.02
        )
        # One row an entry; a deque, so that the oldest leave by themselves.
        self.replay = deque(self._rows(self.draw(CALIBRATION_MIXTURES)), maxlen=REPLAY_WINDOWS)
        self.replay_rng = np.random.default_rng(time.time_ns())
        self.statistics = TeacherStatistics.of(list(self.replay))
        # Starting at the mean answer, the first minutes are not spent on learning it.
        output = self.network.head[-1]
        assert isinstance(output, nn.Linear)
        output.bias.data.copy_(self.statistics.logits_mean)
        self.elapsed_seconds = 0.0
        self.step = 0

    @torch.no_grad()
    def draw(self, count: int) -> Answered:
        """Draw fresh mixtures and let the teacher hear them.

        Log-mel one window at a time, because the spectra of a batch do not fit a CPU's cache.
        """
        windows = (torch.from_numpy(self.mixer.draw())[None] for _ in range(count))
        mel = torch.cat([self.teacher.mel(window.to(self.device)) for window in windows])
        mel = mel.contiguous(memory_format=torch.channels_last)
        return Answered(mel, *self.teacher(mel))

    def batch(self) -> Answered:
        """A quarter fresh mixtures, the rest from those heard earlier, which cost no teacher."""
        fresh = self.draw(self.batch_size // 4)
        chosen = self.replay_rng.integers(len(self.replay), size=self.batch_size - len(fresh.mel))
        repeated = [self.replay[index] for index in chosen]
        self.replay.extend(self._rows(fresh))
        stacked = Answered(*(torch.stack(rows) for rows in zip(*repeated, strict=True)))
        mel, embedding, logits = (torch.cat(pair) for pair in zip(fresh, stacked, strict=True))
        return Answered(mel.contiguous(memory_format=torch.channels_last), embedding, logits)

    @staticmethod
    def _rows(answered: Answered) -> list[Answered]:
        """Split a batch into its windows, copied so that a row does not keep its batch alive."""
        return [Answered(*(part.clone() for part in rows)) for rows in zip(*answered, strict=True)]

    def train_step(self) -> dict[str, float]:
        """Draw a batch, take one optimiser step, return the named losses."""
        rate = learning_rate(self.elapsed_seconds / self.budget_seconds, self.peak)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        mel, *target = self.batch()
        losses = distillation_losses(self.network(mel), (target[0], target[1]), self.statistics)
        total = torch.stack([LOSS_WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        update_average(self.average, self.network, self.step)
        return {name: loss.item() for name, loss in losses.items()}

    def save(self) -> None:
        """Write the averaged backbone, and the state that `resume` reads, each by a rename."""
        CompactAudio(self.config, self.average).save(self.out)
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "elapsed_seconds": self.elapsed_seconds,
            "step": self.step,
        }
        partial = self.out / f"{TRAINING_STATE_FILE}.partial"
        torch.save(state, partial)
        partial.replace(self.out / TRAINING_STATE_FILE)

    def resume(self) -> None:
        """Go on from the last `save`; the time it had used counts against the budget."""
        state: dict[str, Any] = torch.load(
            self.out / TRAINING_STATE_FILE, map_location=self.device, weights_only=True
        )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.elapsed_seconds = state["elapsed_seconds"]
        self.step = state["step"]

    def run(self, *, save_every_seconds: float) -> None:
        """Train until the budget is spent; validate and save now and then and at the end."""
        self.network.train()
        last = time.monotonic()
        last_save = self.elapsed_seconds
        recent: list[dict[str, float]] = []
        with tqdm(total=round(self.budget_seconds), unit="s", mininterval=20) as bar:
            while self.elapsed_seconds < self.budget_seconds:
                recent = [*recent[-49:], self.train_step()]
                now = time.monotonic()
                self.elapsed_seconds += now - last
                last = now
                bar.set_postfix(self._means(recent), refresh=False)
                bar.update(round(min(self.elapsed_seconds, self.budget_seconds)) - bar.n)
                if self.elapsed_seconds - last_save >= save_every_seconds:
                    self.report(recent)
                    last_save = self.elapsed_seconds
        self.report(recent)

    def report(self, recent: Sequence[dict[str, float]]) -> None:
        """Save, then print where training and validation stand."""
        self.save()
        figures = validate(self.average, self.validation, self.class_names)
        values = self._means(recent) | figures
        listed = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        tqdm.write(f"{self.elapsed_seconds / 60:.1f} min, step {self.step}: {listed}")

    def _means(self, recent: Sequence[dict[str, float]]) -> dict[str, float]:
        names = recent[0] if recent else {}
        return {name: float(np.mean([losses[name] for losses in recent])) for name in names}


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with esc10/, teachers/ ..."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and the cache")
    parser.add_argument("--minutes", type=float, default=65.0, help="wall-clock budget")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak of the schedule")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--save-every", type=float, default=4.0, help="minutes between saves")
    parser.add_argument("--resume", action="store_true", help="go on from the last save in --out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    distillation = Distillation(
        data=options.data,
        out=options.out,
        minutes=options.minutes,
        batch_size=options.batch_size,
        peak=options.learning_rate,
        device=options.device,
    )
    if options.resume:
        distillation.resume()
    distillation.run(save_every_seconds=options.save_every * 60)


if __name__ == "__main__":
    main()
