"""Train the bundled audio backbone further than the network it starts from, EfficientAT mn04.

This file owns the teachers' common answer, the loss, the validation and the training loop:

    python -m model.distillation.audio --data PATH --out FOLDER --minutes 65 [--resume]

The student starts at mn04's weights (as DistilBERT starts at BERT's, arXiv 1910.01108) and learns
what mn04 lacks: a second opinion (YAMNet's), true labels, four seconds where its teacher hears ten,
and faults of microphones, rooms and lines, which its teachers do not hear. The budget is wall-clock
time, so the same command suits any machine.
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

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from model.backbones.compact_audio import CompactAudio, CompactAudioConfig, CompactAudioNetwork
from model.distillation.mixtures import Mixer, Mixture, Waveform, degrade
from model.distillation.mn04 import load_teacher, read_class_names
from model.distillation.sounds import ClassFinder, Clip, load_clips, street_name
from model.distillation.yamnet import Yamnet

TRAINING_STATE_FILE = "training.pt"
FIRST_MIXTURES = 256
REPLAY_MIXTURES = 1024

# mn04 hears a window repeated to the length that it was trained on.
TEACHER_SAMPLES = 320_000
YAMNET_SHARE = 0.45

# The weights that are kept lie this far on the way from mn04's to the trained ones, which answers
# better on sounds of either kind than both ends do (Wortsman et al., "Robust fine-tuning of
# zero-shot models", CVPR 2022, arXiv 2109.01903).
TRAINED_SHARE = 0.6

# Least and greatest probability of a class that a label affirms, or denies; a word of a file's name
# is believed only where the class is among the teachers' likeliest anyway.
TRUE_PROBABILITY = 0.8
UNTRUE_PROBABILITY = 0.05
HINTED_PROBABILITY = 0.5
HINTED_RANKS = 15


# --- teachers ------------------------------------------------------------------------------------


class Answered(NamedTuple):
    """Clean windows and what the teachers say of them; without B for one window."""

    waveform: Tensor
    """(B, N) float16, in [-1, 1]."""
    embedding: Tensor
    """(B, 384) float32, mn04's."""
    logits: Tensor
    """(B, 527) float32, common to both teachers."""


class Teachers:
    """mn04 and YAMNet, whose logits are averaged, and the labels, which overrule both."""

    def __init__(self, folder: Path, device: str) -> None:
        self.device = device
        self.mn04 = load_teacher(folder / "mn04_audioset.pt").to(device)
        to_channels_last(self.mn04)
        self.yamnet = Yamnet(folder)
        self.class_names = read_class_names(folder / "mn04_class_labels.csv")
        self.finder = ClassFinder(self.class_names)
        self._yamnet_share = YAMNET_SHARE * torch.from_numpy(self.yamnet.known).float().to(device)

    @torch.no_grad()
    def hear(self, waveform: Waveform) -> tuple[Tensor, Tensor]:
        """One window (N,) -> embedding (384,), logits (527,)."""
        repeated = torch.from_numpy(np.resize(waveform, TEACHER_SAMPLES)).to(self.device)
        embedding, logits = self.mn04(self.mn04.mel(repeated[None]))
        second = torch.from_numpy(self.yamnet.logits(waveform)).to(self.device)
        return embedding[0], torch.lerp(logits[0], second, self._yamnet_share)

    def answer(self, mixture: Mixture) -> Answered:
        """What the student is to say of a mixture."""
        embedding, logits = self.hear(mixture.waveform)
        if mixture.main is not None:
            logits = correct(logits, self.finder, mixture.main, alone=mixture.alone)
        return Answered(torch.from_numpy(mixture.waveform).half(), embedding, logits)


def correct(logits: Tensor, finder: ClassFinder, clip: Clip, *, alone: bool) -> Tensor:
    """Let a clip's label overrule the teachers' logits (527,); what is not named stays.

    Classes are denied only where the clip is alone, since in a mixture they may be heard.
    """
    corrected = logits.clone()
    likeliest = set(logits.topk(HINTED_RANKS).indices.tolist())
    hinted = [column for column in finder.hinted(clip) if column in likeliest]
    corrected[hinted] = corrected[hinted].clamp_min(_logit(HINTED_PROBABILITY))
    true = finder.true(clip)
    corrected[true] = corrected[true].clamp_min(_logit(TRUE_PROBABILITY))
    if alone:
        untrue = finder.untrue(clip)
        corrected[untrue] = corrected[untrue].clamp_max(_logit(UNTRUE_PROBABILITY))
    return corrected


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


# --- loss ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TeacherStatistics:
    """Spread of the teachers' logits (527,) and of the embedding (dim,) over mixtures."""

    logits_std: Tensor
    embedding_std: Tensor

    @classmethod
    def of(cls, rows: Sequence[Answered]) -> "TeacherStatistics":
        """Measure over windows that the teachers have answered."""
        embedding = torch.stack([row.embedding for row in rows])
        logits = torch.stack([row.logits for row in rows])
        return cls(
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
    classes that are rarely heard. embedding: squared error in units of each dimension's spread,
    which keeps the geometry that the student starts with.
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


LOSS_WEIGHTS = {"tags": 0.5, "ranking": 0.5, "logits": 1.0, "embedding": 0.3}


# --- validation ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Validation:
    """Held-out windows, clean and degraded, with the teachers' logits of the clean ones.

    mel: (2, N, 1, 128, T), clean first. logits: (N, 527). groups, labels: (N,).
    """

    mel: Tensor
    logits: Tensor
    groups: NDArray[np.str_]
    labels: NDArray[np.str_]


@torch.no_grad()
def build_validation(clips: Sequence[Clip], teachers: Teachers, window_samples: int) -> Validation:
    """Cut or pad each held-out clip to its first window and let the teachers hear it.

    Berklee's clips are labelled by their street names, those without one by "".
    """
    held_out = [clip for clip in clips if clip.held_out]
    rng = np.random.default_rng(0)
    mels: tuple[list[Tensor], list[Tensor]] = ([], [])
    logits = []
    for clip in held_out:
        waveform = np.zeros(window_samples, np.float32)
        kept = clip.samples[:window_samples]
        waveform[: kept.size] = kept.astype(np.float32) / 32768.0
        logits.append(teachers.hear(waveform)[1])
        for mel, heard in zip(mels, (waveform, degrade(rng, waveform)), strict=True):
            mel.append(teachers.mn04.mel(torch.from_numpy(heard)[None].to(teachers.device)))
    labels = [
        (street_name(clip.label) or "") if clip.group == "berklee" else clip.label
        for clip in held_out
    ]
    return Validation(
        mel=torch.stack([torch.cat(mel) for mel in mels]),
        logits=torch.stack(logits),
        groups=np.array([clip.group for clip in held_out]),
        labels=np.array(labels),
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
    network: CompactAudioNetwork, validation: Validation, finder: ClassFinder
) -> dict[str, float]:
    """Accuracy by AudioSet names on held-out windows, clean and degraded, and the teachers'.

    `street` ranks `STREET_NAMES` on Berklee. `class_correlation` is the correlation with the
    teachers within a class over clean windows, averaged over classes.
    """
    clean, degraded = (
        torch.cat([network(batch)[1] for batch in torch.split(mel, 16)]).cpu().numpy()
        for mel in validation.mel
    )
    teachers = validation.logits.cpu().numpy()
    sets = {
        "esc10": (validation.groups == "esc10", finder.folders("esc10")),
        "animals": (validation.groups == "animals", finder.folders("animals")),
        "street": ((validation.groups == "berklee") & (validation.labels != ""), finder.street()),
    }
    figures = {}
    for who, logits in (("", clean), ("_degraded", degraded), ("_teachers", teachers)):
        for name, (rows, columns) in sets.items():
            figures[name + who] = mean_class_accuracy(
                logits[rows], validation.labels[rows], columns
            )
    centred = [logits - logits.mean(axis=0) for logits in (clean, teachers)]
    products = (centred[0] * centred[1]).mean(axis=0)
    spreads = centred[0].std(axis=0) * centred[1].std(axis=0)
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
    """Exponential moving average of weights, shorter at the start."""
    decay = min(0.998, (1 + step) / (10 + step))
    for kept, current in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)


@torch.no_grad()
def interpolate(
    start: CompactAudioNetwork, trained: CompactAudioNetwork, share: float
) -> CompactAudioNetwork:
    """A network whose weights lie `share` of the way from one network's to another's."""
    between = copy.deepcopy(start)
    for weight, goal in zip(between.parameters(), trained.parameters(), strict=True):
        weight.lerp_(goal, share)
    return between


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
        self.teachers = Teachers(data / "teachers", device)
        clips = load_clips(data, out / "clips.npz")
        training = [clip for clip in clips if not clip.held_out]
        self.rng = np.random.default_rng(time.time_ns())
        self.mixer = Mixer(training, self.config.window_samples, seed=time.time_ns())
        self.validation = build_validation(clips, self.teachers, self.config.window_samples)
        # Batch norm keeps the statistics of millions of AudioSet's clips: the network stays in
        # evaluation mode, and only the weights move.
        self.network = copy.deepcopy(self.teachers.mn04).requires_grad_(True)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-3
        )
        # A deque, so that the oldest leave by themselves.
        self.replay = deque(
            (self.teachers.answer(self.mixer.mix()) for _ in range(FIRST_MIXTURES)),
            maxlen=REPLAY_MIXTURES,
        )
        self.statistics = TeacherStatistics.of(list(self.replay))
        self.elapsed_seconds = 0.0
        self.step = 0

    @torch.no_grad()
    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Log-mel (B, 1, 128, T) of degraded windows, target embedding and logits.

        A quarter of the windows are new, the rest were heard by the teachers earlier; each is
        degraded anew. Log-mel one window at a time, because the spectra of a batch do not fit a
        CPU's cache.
        """
        fresh = [self.teachers.answer(self.mixer.mix()) for _ in range(self.batch_size // 4)]
        self.replay.extend(fresh)
        chosen = self.rng.integers(len(self.replay), size=self.batch_size - len(fresh))
        rows = fresh + [self.replay[index] for index in chosen]
        mels = []
        for row in rows:
            heard = torch.from_numpy(degrade(self.rng, row.waveform.float().numpy()))
            mels.append(self.network.mel(heard[None].to(self.device)))
        mel = torch.cat(mels).contiguous(memory_format=torch.channels_last)
        return (
            mel,
            torch.stack([row.embedding for row in rows]),
            torch.stack([row.logits for row in rows]),
        )

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

    def kept(self) -> CompactAudioNetwork:
        """Return the network that the run would leave behind if it ended now."""
        return interpolate(self.teachers.mn04, self.average, TRAINED_SHARE)

    def save(self) -> None:
        """Write the backbone, and the state that `resume` reads, each by a rename."""
        CompactAudio(self.config, self.kept()).save(self.out)
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
        if self.step == 0:
            self.report([])
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
        figures = validate(self.kept(), self.validation, self.teachers.finder)
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
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="peak of the schedule")
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
