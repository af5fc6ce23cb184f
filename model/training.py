"""Training of one AVGZSLNet on the features of samples: batches in, named losses out.

What is trained, validated and kept, stage by stage, is `model.protocol`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model import losses
from model.config import NetworkConfig
from model.features import FeatureSet
from model.folding import Standardisation, centre_text
from model.network import AVGZSLNet
from model.recipes import Recipe

NEIGHBOUR_TEMPERATURE = 0.1
"""Of the softmax that spreads a target over its label's neighbours in text space."""

# --- samples -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingData:
    """Rows to train on, on one device.

    Attributes:
        audio, video: (N, Da), (N, Dv) float32, scaled as the recipe says.
        has_audio, has_video: (N,) bool.
        labels: (N,) int64 into the C trained classes.
        text: (C, Dt) float32 label vectors.
        audio_scale, video_scale: how the features were scaled; None for not at all.
    """

    audio: Tensor
    video: Tensor
    has_audio: Tensor
    has_video: Tensor
    labels: Tensor
    text: Tensor
    audio_scale: Standardisation | None
    video_scale: Standardisation | None

    @classmethod
    def of(
        cls,
        features: FeatureSet,
        trained: NDArray[np.int64],
        text: NDArray[np.float32],
        recipe: Recipe,
    ) -> "TrainingData":
        """Take all rows of a feature set.

        Args:
            features: rows of the trained classes only.
            trained: (C,) sorted positions of the trained classes among the set's.
            text: (C, Dt) label vectors of the trained classes.
            recipe: says whether features are standardised.
        """
        audio, video = torch.from_numpy(features.audio), torch.from_numpy(features.video)
        has_audio = torch.from_numpy(features.has_audio)
        has_video = torch.from_numpy(features.has_video)
        audio_scale = video_scale = None
        if recipe.standardise:
            audio_scale = Standardisation.of(audio[has_audio])
            video_scale = Standardisation.of(video[has_video])
            audio, video = audio_scale.apply(audio), video_scale.apply(video)
        return cls(
            audio,
            video,
            has_audio,
            has_video,
            torch.from_numpy(np.searchsorted(trained, features.labels)),
            torch.from_numpy(text),
            audio_scale,
            video_scale,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str) -> "TrainingData":
        """Copy to a device."""
        return replace(
            self,
            audio=self.audio.to(device),
            video=self.video.to(device),
            has_audio=self.has_audio.to(device),
            has_video=self.has_video.to(device),
            labels=self.labels.to(device),
            text=self.text.to(device),
        )


@dataclass(frozen=True)
class Batch:
    """B samples with B others of other classes.

    Attributes:
        audio, video: (B, Da), (B, Dv).
        has_audio, has_video: (B,) bool.
        labels: (B,) int64.
        targets: (B, C) probabilities over the trained classes, after mixing.
    """

    audio: Tensor
    video: Tensor
    has_audio: Tensor
    has_video: Tensor
    labels: Tensor
    targets: Tensor


def label_targets(text: Tensor, neighbours: float) -> Tensor:
    """Target of each class, (C, C): itself, with a share for its neighbours in text space."""
    own = torch.eye(len(text), device=text.device)
    if neighbours == 0:
        return own
    centred = F.normalize(text - text.mean(dim=0), dim=1)
    near = F.softmax(centred @ centred.T / NEIGHBOUR_TEMPERATURE, dim=1)
    return (1 - neighbours) * own + neighbours * near


def batches(data: TrainingData, recipe: Recipe, generator: torch.Generator) -> Iterator[Batch]:
    """One epoch: all rows in random order, the last batch smaller; or balanced draws."""
    targets = label_targets(data.text, recipe.neighbours)
    order = _draw_rows(data, recipe, generator).to(data.labels.device)
    for rows in torch.split(order, recipe.batch_size):
        batch = Batch(
            data.audio[rows],
            data.video[rows],
            data.has_audio[rows],
            data.has_video[rows],
            data.labels[rows],
            targets[data.labels[rows]],
        )
        if recipe.modality_dropout:
            batch = drop_modalities(batch, recipe.modality_dropout, generator)
        if recipe.mixup:
            batch = mix_up(batch, recipe.mixup, generator)
        yield batch


def _draw_rows(data: TrainingData, recipe: Recipe, generator: torch.Generator) -> Tensor:
    if not recipe.balanced_batches:
        return torch.randperm(len(data), generator=generator)
    labels = data.labels.cpu()
    weights = 1.0 / torch.bincount(labels)[labels]
    size = recipe.balanced_batches * recipe.batch_size
    return torch.multinomial(weights, size, replacement=True, generator=generator)


def drop_modalities(batch: Batch, probability: float, generator: torch.Generator) -> Batch:
    """Take one modality from a random part of the samples that have both."""
    draw = torch.rand(len(batch.labels), generator=generator).to(batch.labels.device)
    both = batch.has_audio & batch.has_video
    return replace(
        batch,
        has_audio=batch.has_audio & ~(both & (draw < probability / 2)),
        has_video=batch.has_video & ~(both & (draw > 1 - probability / 2)),
    )


def mix_up(batch: Batch, alpha: float, generator: torch.Generator) -> Batch:
    """Mix each sample with another that has the same modalities (Zhang et al., ICLR 2018).

    The larger share stays with the sample itself, so that its label remains its label.
    """
    size = len(batch.labels)
    device = batch.labels.device
    share = _beta(alpha, size, generator).to(device)[:, None]
    share = torch.maximum(share, 1 - share)
    other = torch.randperm(size, generator=generator).to(device)
    alike = (batch.has_audio == batch.has_audio[other]) & (
        batch.has_video == batch.has_video[other]
    )
    share = torch.where(alike[:, None], share, 1.0)

    def mix(x: Tensor) -> Tensor:
        return share * x + (1 - share) * x[other]

    return replace(
        batch, audio=mix(batch.audio), video=mix(batch.video), targets=mix(batch.targets)
    )


def _beta(alpha: float, size: int, generator: torch.Generator) -> Tensor:
    """Draw (size,) from Beta(alpha, alpha); torch's own takes no generator."""
    rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    return torch.from_numpy(rng.beta(alpha, alpha, size).astype(np.float32))


# --- losses --------------------------------------------------------------------------------------


def loss_terms(network: AVGZSLNet, batch: Batch, text: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """Weighted terms of one batch, each a scalar; a term of weight 0 is left out.

    A modality that no sample of the batch has is not run, so its network gets no gradient. What the
    decoder makes of labels is averaged over the batch's labels, each once, not over its samples.
    """
    labels = network.embed_text(text)  # (C, E)
    raw = {
        "audio": _raw_embedding(network.audio, batch.audio, batch.has_audio, labels),
        "video": _raw_embedding(network.video, batch.video, batch.has_video, labels),
    }
    terms: dict[str, Tensor] = {}
    if recipe.triplet or recipe.decoder:
        for name, has in (("audio", batch.has_audio), ("video", batch.has_video)):
            pair_terms = _pair_terms(
                network,
                batch,
                recipe,
                embedding=network.scaled(raw[name]),
                has=has,
                labels=labels,
                text=text,
            )
            terms |= {f"{name}_{term}": loss for term, loss in pair_terms.items()}
    if recipe.decoder:
        used = torch.unique(batch.labels)
        decoded = network.decode(labels[used])
        terms["text_decoder"] = recipe.decoder * _reconstruction(decoded, text[used], recipe)
    if recipe.kl:
        both = batch.has_audio & batch.has_video
        terms["kl"] = recipe.kl * losses.kl_term(raw["audio"][both], raw["video"][both])
    if recipe.cross_entropy:
        joint = network.scaled(raw["audio"] + raw["video"])
        present = batch.has_audio | batch.has_video
        terms["cross_entropy"] = recipe.cross_entropy * losses.label_cross_entropy(
            joint[present], labels, batch.targets[present], recipe.temperature
        )
    return terms


def _raw_embedding(
    branch: torch.nn.Module, features: Tensor, has: Tensor, labels: Tensor
) -> Tensor:
    """Embeddings (B, E) before scaling, zero in rows without the modality."""
    embedding = labels.new_zeros(len(features), labels.shape[1])
    if has.any():
        embedding[has] = branch(features[has]).to(embedding.dtype)
    return embedding


def _pair_terms(
    network: AVGZSLNet,
    batch: Batch,
    recipe: Recipe,
    *,
    embedding: Tensor,
    has: Tensor,
    labels: Tensor,
    text: Tensor,
) -> dict[str, Tensor]:
    """Terms over pairs (p, q) of samples of different classes that have one modality.

    q is the sample before it in the batch, which is in random order.
    """
    rows = has.nonzero()[:, 0]
    others = rows.roll(1)
    differ = batch.labels[rows] != batch.labels[others]
    p, q = rows[differ], others[differ]
    label_p, label_q = batch.labels[p], batch.labels[q]
    terms: dict[str, Tensor] = {}
    if recipe.triplet:
        terms["triplet"] = recipe.triplet * losses.composite_triplet_loss(
            labels[label_p],
            labels[label_q],
            embedding[p],
            embedding[q],
            recipe.margin,
            mirrored=recipe.mirrored_triplets,
        )
    if recipe.decoder:
        decoded_p, decoded_q = network.decode(embedding[p]), network.decode(embedding[q])
        terms["decoder"] = recipe.decoder * (
            _reconstruction(decoded_p, text[label_p], recipe)
            + losses.decoder_triplet_loss(
                network.decode(labels[label_p]), decoded_p, decoded_q, recipe.margin
            )
        )
    return terms


def _reconstruction(decoded: Tensor, text_vector: Tensor, recipe: Recipe) -> Tensor:
    if recipe.squared_reconstruction:
        return losses.reconstruction_loss(decoded, text_vector)
    return losses.reconstruction_distance(decoded, text_vector)


# --- the loop ------------------------------------------------------------------------------------


class Trainer:
    """One network, its optimiser and its random numbers; saved and resumed whole, by epochs.

    Args:
        data: rows to train on; moved to `device`.
        config: shape of the network.
        recipe: how to train.
        seed: same seed, same weights (on one device).
        device: `cpu` or `cuda`; on the latter, products are computed in bfloat16.
    """

    def __init__(
        self, data: TrainingData, config: NetworkConfig, recipe: Recipe, *, seed: int, device: str
    ) -> None:
        torch.manual_seed(seed)
        self.recipe, self.device = recipe, device
        self._kind = torch.device(device).type
        self.data = data.to(device)
        self.network = AVGZSLNet(config)
        if recipe.pretrained_text:
            centre_text(self.network, data.text.mean(dim=0))
            self.network.text.requires_grad_(False)
        self.network.to(device)
        self.epoch = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._optimiser = _optimiser(self.network, recipe)
        steps = recipe.balanced_batches or -(-len(data) // recipe.batch_size)
        self._schedule = _schedule(self._optimiser, recipe, steps)

    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch; returns the mean of each term of the loss."""
        self.network.train()
        sums: dict[str, float] = {}
        count = 0
        for batch in batches(self.data, self.recipe, self._generator):
            with torch.autocast(self._kind, torch.bfloat16, enabled=self._kind == "cuda"):
                terms = loss_terms(self.network, batch, self.data.text, self.recipe)
            total = torch.stack(list(terms.values())).sum()
            self._optimiser.zero_grad(set_to_none=True)
            if total.requires_grad:
                total.backward()  # type: ignore[no-untyped-call]
                self._optimiser.step()
            self._schedule.step()
            count += 1
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.item()
        self.epoch += 1
        return {name: value / count for name, value in sums.items()}

    def state(self) -> dict[str, Any]:
        """Everything that `load_state` needs to go on as if nothing had happened."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "generator": self._generator.get_state(),
            "torch_generator": torch.get_rng_state(),
            "cuda_generator": (
                torch.cuda.get_rng_state(self.device) if self._kind == "cuda" else None
            ),
            "epoch": self.epoch,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_generator"])
        if self._kind == "cuda":
            torch.cuda.set_rng_state(state["cuda_generator"], self.device)
        self.epoch = state["epoch"]


def _optimiser(network: AVGZSLNet, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [p for p in network.parameters() if p.requires_grad]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=recipe.learning_rate,
            momentum=0.9,
            weight_decay=recipe.weight_decay,
        )
    return torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def _schedule(
    optimiser: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if recipe.milestones:
        milestones = [epoch * steps_per_epoch for epoch in recipe.milestones]
        return torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.1)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        recipe.learning_rate,
        # One step more than there are: the schedule is stepped after the last batch too.
        total_steps=recipe.epochs * steps_per_epoch + 1,
        pct_start=0.1,
    )


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state whole: a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(dict(state), partial)
    partial.replace(path)
