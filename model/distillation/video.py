"""Trains the compact video backbone, which starts at its teacher's weights, further.

    python -m model.distillation.video --data PATH --out FOLDER --minutes N [--resume]

PATH holds `images/` (tiny_imagenet.zip, imagenet_samples.zip, caltech101.zip) and `teachers/`.
The student is MobileNetV2, as the teacher is, and starts with the teacher's weights. It learns true
labels of thumbnails and objects, and is held to what the untrained copy says of sharp pictures
while it sees them degraded.

FOLDER receives `teacher_targets.npz` (computed once), `state.pt` (to resume from) and the exported
backbone, `video.json` and `video.safetensors`, which is replaced whole at every checkpoint.
"""

import argparse
import copy
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from model.backbones.compact_video import CompactVideo, CompactVideoConfig, CompactVideoNetwork
from model.distillation.augmentation import (
    colour_jitter,
    cut,
    degrade_frame,
    random_box,
    random_crop,
)
from model.distillation.mobilenet import CLASS_COUNT, MobileNetTeacher
from model.distillation.pictures import (
    CALTECH,
    THUMBNAIL,
    Pictures,
    Targets,
    correct_teacher,
    load_pictures,
    teacher_targets,
)
from model.distillation.video_report import Report, evaluate, evaluate_teacher

# --- batches --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """How the student is trained; the time for it is given apart.

    Attributes:
        batch_size: pictures a step.
        learning_rate: peak of the schedule, of Adam, relative: each tensor's steps are this share
            of the root mean square of its first weights (as in Adafactor, Shazeer & Stern 2018).
            With normalisations folded in, the scales of the tensors differ a hundredfold.
        smoothing: label smoothing of the cross-entropies.
        temperature: of both softmaxes in the distillation term.
        ema_decay: a step, of the averaged weights that are exported.
        copies: how often a picture of each source comes in an epoch.
        teacher_weight: of the distillation term for each source: of thumbnails, enlarged 3.5 times
            for it, the teacher knows little.
        embedding_weight: of the embedding term, on sharp pictures.
        reference_size: side at which the untrained copy sees a sharp picture.
        stages: (progress, thumbnails' side, sharp pictures' side, frozen): from this share of the
            budget on, pictures have these sides and the stem and so many blocks rest. The first
            layers cost half of a step, and have least to learn.
        start_share: of the weights of the start in what is exported, the rest being the averaged
            ones: the straight line between both keeps what only the start knew and is as good on
            what was learned (WiSE-FT, Wortsman et al. 2022).
        seed: of every draw.
    """

    batch_size: int = 64
    learning_rate: float = 3e-3
    smoothing: float = 0.1
    temperature: float = 2.0
    ema_decay: float = 0.995
    copies: tuple[int, int, int] = (1, 3, 2)
    teacher_weight: tuple[float, float, float] = (0.25, 1.0, 1.0)
    embedding_weight: float = 2.0
    reference_size: int = 160
    stages: tuple[tuple[float, int, int, int], ...] = (
        (0.0, 112, 128, 0),
        (0.15, 128, 160, 4),
        (0.9, 160, 160, 4),
    )
    start_share: float = 0.3
    seed: int = 0

    def stage(self, progress: float) -> tuple[int, int, int]:
        """Sides of thumbnails and sharp pictures, resting blocks, at a progress in [0, 1]."""
        return [stage[1:] for stage in self.stages if stage[0] <= progress][-1]

    def rate(self, progress: float) -> float:
        """Learning rate: linear warm-up over 3 % of the budget, then a half cosine to zero."""
        warm_up = 0.03
        if progress < warm_up:
            return self.learning_rate * (progress / warm_up)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / 0.97))


def epochs(pictures: Pictures, recipe: Recipe, rng: np.random.Generator) -> Iterator[int]:
    """Rows of training pictures, reshuffled each epoch, for ever."""
    copies = np.array(recipe.copies)[pictures.source]
    rows = np.repeat(np.arange(len(copies)), np.where(pictures.held_out, 0, copies))
    while True:
        yield from rng.permutation(rows).tolist()


# --- losses ---------------------------------------------------------------------------------------


def label_loss(
    scores: Tensor,
    labels: Tensor,
    source: Tensor,
    candidates: Mapping[int, Tensor],
    smoothing: float,
) -> Tensor:
    """Cross-entropy among the names of a picture's own source; other sources add nothing.

    A thumbnail's label says which of 200 names it has, so the other 800 are not pushed away.

    Args:
        scores: (B, 1097) logits.
        labels: (B,) index into the classes.
        source: (B,).
        candidates: source -> sorted classes that its labels are among.
        smoothing: label smoothing.
    """
    total = scores.new_zeros(())
    for kind, classes in candidates.items():
        rows = source == kind
        total = total + F.cross_entropy(
            scores[rows][:, classes],
            torch.searchsorted(classes, labels[rows]),
            label_smoothing=smoothing,
            reduction="sum",
        )
    return total / len(labels)


def distillation_loss(
    scores: Tensor, teacher: Tensor, weight: Tensor, temperature: float
) -> Tensor:
    """T^2 KL(teacher || student) at temperature T (Hinton et al. 2015), weighted by row.

    Args:
        scores: (B, 1000) student's logits.
        teacher: (B, 1000) teacher's logits.
        weight: (B,).
        temperature: T.
    """
    target = F.softmax(teacher / temperature, dim=1)
    student = F.log_softmax(scores / temperature, dim=1)
    divergence = F.kl_div(student, target, reduction="none").sum(dim=1)
    return temperature**2 * (weight * divergence).mean()


def embedding_loss(features: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine of centred features and centred embeddings, both (B, 1280)."""
    return (1 - F.cosine_similarity(features, teacher, dim=1)).mean()


# --- training -------------------------------------------------------------------------------------


class Trainer:
    """The student, its averaged copy, the optimiser and the time spent; saved and resumed whole.

    Args:
        pictures: all pictures; the held-out ones are for `evaluate` only.
        targets: the teacher's answers, a row a picture.
        recipe: how to train.
        config: sizes of the student.
        network: the weights to start from, which sharp pictures are also held to.
    """

    def __init__(
        self,
        pictures: Pictures,
        targets: Targets,
        recipe: Recipe,
        config: CompactVideoConfig,
        network: CompactVideoNetwork,
    ) -> None:
        self.pictures, self.recipe, self.config = pictures, recipe, config
        self.student = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.reference = copy.deepcopy(self.student).eval().requires_grad_(False)
        averaging = get_ema_multi_avg_fn(recipe.ema_decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.student, multi_avg_fn=averaging)
        self.optimizer = torch.optim.Adam(
            [
                {"params": [weight], "scale": weight.detach().square().mean().sqrt().item()}
                for weight in self.student.parameters()
            ]
        )
        self.elapsed_seconds = 0.0
        self.steps = 0
        thumbnails = pictures.labels[pictures.source == THUMBNAIL]
        self._candidates = {
            THUMBNAIL: torch.from_numpy(np.unique(thumbnails)),
            CALTECH: torch.arange(CLASS_COUNT, config.classes),
        }
        self._logits = correct_teacher(targets.logits, pictures.labels)
        self._centre = torch.from_numpy(targets.embedding.mean(axis=0, dtype=np.float32))

    def run(self, budget_seconds: float) -> Iterator[dict[str, float]]:
        """Train until the budget is spent, over all resumptions; yields each step's losses.

        What the caller does between two steps (checkpoints, validation) counts as time spent, so
        that the schedule ends when the budget does.
        """
        seed = (self.recipe.seed, self.steps)  # a resumed run draws anew
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        rows = epochs(self.pictures, self.recipe, rng)
        counted = time.monotonic()
        while self.elapsed_seconds < budget_seconds:
            progress = self.elapsed_seconds / budget_seconds
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.rate(progress) * group["scale"]
            *sides, frozen = self.recipe.stage(progress)
            self._rest(frozen)
            batch = np.fromiter(islice(rows, self.recipe.batch_size), np.int64)
            yield self._step(batch, sides, rng, generator)
            now = time.monotonic()
            self.elapsed_seconds += now - counted
            counted = now

    def _rest(self, frozen: int) -> None:
        """Train all layers but, where `frozen` is positive, the stem and as many blocks."""
        self.student.requires_grad_(True)
        for part in [self.student.stem, *self.student.blocks[:frozen]] if frozen else []:
            part.requires_grad_(False)

    def _step(
        self,
        rows: NDArray[np.int64],
        sides: Sequence[int],
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> dict[str, float]:
        """One update on the pictures of `rows`; returns the terms of the loss."""
        recipe, kinds = self.recipe, self.pictures.source[rows]
        thumbnails, sharp = rows[kinds == THUMBNAIL], rows[kinds != THUMBNAIL]
        rows = np.concatenate([thumbnails, sharp])
        source = torch.from_numpy(self.pictures.source[rows])
        teacher = torch.from_numpy(self._logits[rows].astype(np.float32))

        parts = []
        if len(thumbnails):
            crops = self._thumbnails(thumbnails, sides[0], rng)
            parts.append(self.student.features(colour_jitter(crops, generator)))
        if len(sharp):
            clean, degraded = self._sharp(sharp, sides[1], rng)
            parts.append(self.student.features(colour_jitter(degraded, generator)))
            with torch.no_grad():
                embedding, said = self.reference(clean)
            teacher[len(thumbnails) :] = said[:, :CLASS_COUNT]
        features = torch.cat(parts)  # (B, dim)
        scores = self.student.head(features)  # (B, classes)

        losses = {
            "label": label_loss(
                scores,
                torch.from_numpy(self.pictures.labels[rows]),
                source,
                self._candidates,
                recipe.smoothing,
            ),
            "distillation": distillation_loss(
                scores[:, :CLASS_COUNT],
                teacher,
                torch.tensor(recipe.teacher_weight)[source],
                recipe.temperature,
            ),
        }
        if len(sharp):
            losses["embedding"] = (
                recipe.embedding_weight
                * len(sharp)
                / len(rows)
                * embedding_loss(parts[-1] - self._centre, embedding - self._centre)
            )
        self.optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
        # A rare batch with a huge gradient would stay in Adam's second moments for long.
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), max_norm=10.0)
        self.optimizer.step()
        self.average.update_parameters(self.student)
        self.steps += 1
        return {name: loss.item() for name, loss in losses.items()}

    def _thumbnails(self, rows: NDArray[np.int64], side: int, rng: np.random.Generator) -> Tensor:
        """Random crops (B, 3, side, side)."""
        pixels = (self.pictures.pixels[row] for row in rows)
        return _to_batch([random_crop(picture, side, degrade=False, rng=rng) for picture in pixels])

    def _sharp(
        self, rows: NDArray[np.int64], side: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Random crops: clean (B, 3, R, R) for the untrained copy, degraded (B, 3, side, side)."""
        clean, degraded = [], []
        for row in rows:
            pixels = self.pictures.pixels[row]
            if rng.random() < 0.5:
                pixels = np.ascontiguousarray(pixels[:, ::-1])
            box = random_box(pixels, rng)
            clean.append(cut(pixels, box, self.recipe.reference_size))
            degraded.append(degrade_frame(cut(pixels, box, side), rng))
        return _to_batch(clean), _to_batch(degraded)

    @torch.no_grad()
    def backbone(self) -> CompactVideo:
        """A copy of what is exported: the start's and the averaged weights, mixed."""
        network = copy.deepcopy(self.reference)
        averaged = self.average.module.parameters()
        for weight, average in zip(network.parameters(), averaged, strict=True):
            weight.lerp_(average, 1 - self.recipe.start_share)
        return CompactVideo(self.config, network)

    def save(self, path: Path) -> None:
        """Write the whole state to `path`, which is never half-written."""
        unfinished = path.with_suffix(".partial")
        torch.save(
            {
                "student": self.student.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "elapsed_seconds": self.elapsed_seconds,
                "steps": self.steps,
            },
            unfinished,
        )
        unfinished.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from the state that `save` wrote."""
        state = torch.load(path, weights_only=True)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.elapsed_seconds, self.steps = state["elapsed_seconds"], state["steps"]


def _to_batch(crops: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Stack (S, S, 3) uint8 to (B, 3, S, S) floats of 0 to 255, channels last in memory."""
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()


# --- command line ---------------------------------------------------------------------------------

CHECKPOINT_SECONDS = 180.0
VALIDATION_SECONDS = 1800.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, train, and leave the backbone in `--out`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of images/ and teachers/")
    parser.add_argument("--out", type=Path, required=True, help="where the backbone is written")
    parser.add_argument("--minutes", type=float, required=True, help="training time in all")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    parser.add_argument("--threads", type=int, default=1, help="processor cores (default 1)")
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    teacher = MobileNetTeacher(options.data / "teachers")
    pictures = load_pictures(options.data / "images", teacher.labels)
    targets = teacher_targets(pictures, teacher, options.out / "teacher_targets.npz")
    config = CompactVideoConfig()
    network = CompactVideoNetwork(config)
    teacher.copy_weights(network)
    trainer = Trainer(pictures, targets, Recipe(), config, network)
    if options.resume:
        trainer.resume(options.out / "state.pt")
    _log(f"teacher: {evaluate_teacher(pictures, targets)}")
    fit(trainer, pictures, targets, budget_seconds=60 * options.minutes, out=options.out)


def fit(
    trainer: Trainer, pictures: Pictures, targets: Targets, *, budget_seconds: float, out: Path
) -> Report:
    """Run the trainer to the end of its budget with checkpoints in `out`; validate now and then."""
    checkpoint_due = trainer.elapsed_seconds + CHECKPOINT_SECONDS
    validation_due = trainer.elapsed_seconds + VALIDATION_SECONDS
    with tqdm(
        total=round(budget_seconds),
        initial=round(trainer.elapsed_seconds),
        unit="s",
        mininterval=10,
    ) as bar:
        for losses in trainer.run(budget_seconds):
            bar.set_postfix(
                {name: f"{loss:.2f}" for name, loss in losses.items()} | {"step": trainer.steps},
                refresh=False,
            )
            bar.update(round(trainer.elapsed_seconds) - bar.n)
            if trainer.elapsed_seconds >= checkpoint_due:
                checkpoint_due += CHECKPOINT_SECONDS
                trainer.save(out / "state.pt")
                trainer.backbone().save(out)
            if trainer.elapsed_seconds >= validation_due:
                validation_due += VALIDATION_SECONDS
                _log(f"step {trainer.steps}: {evaluate(trainer.backbone(), pictures, targets)}")
    trainer.save(out / "state.pt")
    trainer.backbone().save(out)
    # What is measured is what is stored: the weights as read back from float16.
    final = evaluate(CompactVideo.load(out), pictures, targets)
    _log(f"step {trainer.steps}, the end: {final}")
    return final


def _log(line: str) -> None:
    """Write a line above the progress bar; to the same stream, so a log file shows it at once."""
    tqdm.write(line, file=sys.stderr)


if __name__ == "__main__":
    main()
