"""Train the bundled AVGZSLNet on top of the two distilled backbones.

    python -m model.distillation.space --data PATH --backbones FOLDER --out FOLDER

BACKBONES holds audio.* and video.* as the two other distillations write them; OUT receives the
checkpoint's own files, and `*_features.npz`, so that a second run starts at once. The label space
is both teachers' names; each modality learns from its teacher's soft labels and from true ones.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from model import losses
from model.backbones.protocol import TextEncoder
from model.backbones.registry import DEFAULT_TEXT_ENCODER, load_text_encoder
from model.calibration import Pairs, fit_audio_weight, fit_probabilities
from model.checkpoint import CheckpointConfig, save_checkpoint
from model.config import Calibration, NetworkConfig
from model.distillation.label_space import HEARD_OF_PHOTOGRAPHS, HEARD_OF_THUMBNAILS
from model.distillation.tables import Table, load_or_build_tables
from model.embedder import class_text_vectors
from model.embedding import ClassText
from model.folding import RawEmbeddings, whiten
from model.media.types import Modality
from model.network import AVGZSLNet
from model.scoring import distance_from_similarity

PAIRS_PER_CLASS = 200
"""Random pairs of a held-out sound and a held-out picture, on which the weights are chosen."""

# --- text ----------------------------------------------------------------------------------------


def text_variants(encoder: TextEncoder, classes: Sequence[ClassText]) -> NDArray[np.float32]:
    """Ways to say each class, (V, C, Dt): the served vector first, then the name in sentences.

    Training on all of them lets a query in other words than the name land in the same place.
    """
    templates = ("{}", "the sound of {}", "a photo of {}")
    said = [encoder.encode([t.format(c.name.lower()) for c in classes]) for t in templates]
    return np.stack([class_text_vectors(encoder, classes), *said])


# --- training ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpaceRecipe:
    """How the bundled AVGZSLNet is trained.

    Attributes:
        steps, batch_size, learning_rate: Adam with a half cosine.
        decoder_steps: steps in which the decoder alone learns the whitened space.
        temperature: of the cross-entropy over labels.
        geometry_weight: pull of an embedding to its labels' weighted mean text vector (ConSE).
        triplet_weight, decoder_weight: of AVGZSLNet's own terms.
        text_penalty: pull of the text network's correction to zero, which keeps the pretrained
            geometry for names never trained.
        conse_labels: how many of a sample's best labels make its mean text vector.
    """

    steps: int = 1_500
    decoder_steps: int = 200
    batch_size: int = 384
    learning_rate: float = 1e-3
    temperature: float = 0.05
    geometry_weight: float = 1.0
    triplet_weight: float = 0.3
    decoder_weight: float = 0.3
    text_penalty: float = 3.0
    conse_labels: int = 10


def train_space(
    audio: Table,
    video: Table,
    variants: NDArray[np.float32],
    network_config: NetworkConfig,
    recipe: SpaceRecipe,
    *,
    seed: int,
) -> AVGZSLNet:
    """Train AVGZSLNet on both tables' training rows and whiten it; same seed, same weights."""
    torch.manual_seed(seed)
    network = AVGZSLNet(network_config)
    tables: dict[Modality, Table] = {"audio": audio, "video": video}
    texts = torch.from_numpy(variants)
    samplers: dict[Modality, _Sampler] = {
        modality: _Sampler(table, texts[0], recipe, seed + i)
        for i, (modality, table) in enumerate(tables.items())
    }
    _fit(network, network, samplers, texts, recipe, steps=recipe.steps)
    whiten(network.eval(), _raw_embeddings(network, tables))
    _fit(network, network.decoder, samplers, texts, recipe, steps=recipe.decoder_steps)
    return network.eval()


def _fit(
    network: AVGZSLNet,
    part: nn.Module,
    samplers: Mapping[Modality, "_Sampler"],
    texts: Tensor,
    recipe: SpaceRecipe,
    *,
    steps: int,
) -> None:
    """Train a part of the network, in place, on all terms that reach it."""
    optimiser = torch.optim.Adam(part.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    network.train()
    progress = tqdm(range(steps), desc=type(part).__name__, mininterval=5)
    for _ in progress:
        choice = torch.randint(texts.shape[0], (texts.shape[1],))
        text = texts[choice, torch.arange(texts.shape[1])]  # (C, Dt), each class said one way
        labels = network.embed_text(text)  # (C, E)
        terms = {"text_penalty": recipe.text_penalty * (1 - (labels * text).sum(-1)).mean()}
        for modality, sampler in samplers.items():
            modality_terms = _modality_terms(
                network, modality, sampler.draw(), labels=labels, text=text, recipe=recipe
            )
            terms |= {f"{modality}_{name}": term for name, term in modality_terms.items()}
        total = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        progress.set_postfix({k: f"{v.item():.2f}" for k, v in terms.items()}, refresh=False)


@torch.no_grad()
def _raw_embeddings(network: AVGZSLNet, tables: Mapping[Modality, Table]) -> RawEmbeddings:
    """Training samples of both tables before they are scaled; either modality weighs a half."""
    rows = {m: torch.from_numpy(t.features[~t.held_out]) for m, t in tables.items()}
    audio, video = network.audio(rows["audio"]), network.video(rows["video"])
    has_audio = torch.arange(len(audio) + len(video)) < len(audio)
    return RawEmbeddings(
        audio=torch.cat([audio, torch.zeros(len(video), audio.shape[1])]),
        video=torch.cat([torch.zeros(len(audio), video.shape[1]), video]),
        has_audio=has_audio,
        has_video=~has_audio,
        weights=torch.where(has_audio, 1 / len(audio), 1 / len(video)),
    )


@dataclass(frozen=True)
class Batch:
    """Training samples of one modality.

    Attributes:
        features: (B, D).
        targets: (B, K) probabilities over `columns`.
        mean_text: (B, Dt) mean text vector of each sample's best labels, weighted (ConSE).
        sampled: (B,) int64 one class drawn from each sample's targets.
        columns: (K,) int64 classes.
    """

    features: Tensor
    targets: Tensor
    mean_text: Tensor
    sampled: Tensor
    columns: Tensor


class _Sampler:
    """Random batches of one table's training rows."""

    def __init__(self, table: Table, text: Tensor, recipe: SpaceRecipe, seed: int) -> None:
        rows = ~table.held_out
        self.features = torch.from_numpy(table.features[rows])
        self.targets = torch.from_numpy(table.targets[rows])
        self.columns = torch.from_numpy(table.columns)
        best, where = self.targets.topk(recipe.conse_labels, dim=1)
        self.mean_text = torch.einsum("nk,nkd->nd", best, text[self.columns[where]])
        self.batch_size = recipe.batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> Batch:
        """Draw rows with replacement."""
        rows = torch.randint(len(self.features), (self.batch_size,), generator=self.generator)
        targets = self.targets[rows]
        sampled = torch.multinomial(targets, 1, generator=self.generator)[:, 0]
        return Batch(
            self.features[rows],
            targets,
            self.mean_text[rows],
            self.columns[sampled],
            self.columns,
        )


def _modality_terms(
    network: AVGZSLNet,
    modality: Modality,
    batch: Batch,
    *,
    labels: Tensor,
    text: Tensor,
    recipe: SpaceRecipe,
) -> dict[str, Tensor]:
    """Weighted loss terms, scalars, of one modality's batch, given label embeddings (C, E)."""
    embed = network.embed_audio if modality == "audio" else network.embed_video
    embedding = embed(batch.features)
    other = batch.sampled.roll(1)
    differ = batch.sampled != other
    p, q = embedding[differ], embedding.roll(1, dims=0)[differ]
    text_p, text_q = labels[batch.sampled[differ]], labels[other[differ]]
    word_p = text[batch.sampled[differ]]
    decoded_p, decoded_q, decoded_text = (network.decode(x) for x in (p, q, text_p))
    decoder = (
        losses.reconstruction_loss(decoded_text, word_p)
        + losses.reconstruction_loss(decoded_p, word_p)
        + losses.decoder_triplet_loss(decoded_text, decoded_p, decoded_q)
    )
    return {
        "labels": losses.label_cross_entropy(
            embedding, labels[batch.columns], batch.targets, recipe.temperature
        ),
        "geometry": recipe.geometry_weight * losses.cosine_loss(embedding, batch.mean_text),
        "triplet": recipe.triplet_weight * losses.composite_triplet_loss(text_p, text_q, p, q),
        "decoder": recipe.decoder_weight * decoder,
    }


# --- validation ----------------------------------------------------------------------------------


@torch.inference_mode()
def zero_shot_accuracy(
    embedding: Tensor, labels: Tensor, table: Table, rows: NDArray[np.bool_]
) -> tuple[float, float]:
    """Top-1 and top-5 of rows with a true label, among this modality's classes."""
    similarity = embedding[torch.from_numpy(rows)] @ labels[torch.from_numpy(table.columns)].T
    ranked = similarity.argsort(dim=1, descending=True)[:, :5].numpy()
    right = np.take_along_axis(table.targets[rows] > 0, ranked, axis=1)
    return float(right[:, 0].mean()), float(right.any(axis=1).mean())


def fit_calibration(
    embeddings: Mapping[Modality, NDArray[np.float32]],
    names: NDArray[np.float32],
    tables: Mapping[Modality, Table],
    pairs: Sequence[NDArray[np.int64]],
) -> Calibration:
    """Fit probabilities and weights on the held-out, truly labelled rows of both modalities.

    Args:
        embeddings: modality -> (N, E), unit length.
        names: (C, E), unit length, of the classes' names alone: what a caller sends as candidates.
        tables: modality -> targets of the same N rows.
        pairs: sets of (P, 2): a class of pictures, and that of what one hears of the same thing.
    """
    distances, right = [], []
    for modality, table in tables.items():
        rows = table.held_out & table.labelled
        similarity = embeddings[modality][rows] @ names[table.columns].T
        distances.append(distance_from_similarity(similarity))
        right.append(table.targets[rows] > 0)
    heard = np.unique(np.concatenate(pairs)[:, 1])
    audio_weight = fit_audio_weight(
        [_draw_pairs(embeddings, names, tables, of_set, heard) for of_set in pairs]
    )
    weighted = Calibration(audio_weight=audio_weight, video_weight=round(1 - audio_weight, 2))
    return fit_probabilities(weighted, distances, right)


def _draw_pairs(
    embeddings: Mapping[Modality, NDArray[np.float32]],
    names: NDArray[np.float32],
    tables: Mapping[Modality, Table],
    pairs: NDArray[np.int64],
    heard: NDArray[np.int64],
) -> Pairs:
    """Pair held-out pictures and sounds of one thing at random; candidates are what is `heard`."""
    rng = np.random.default_rng(0)

    def draw(modality: Modality, class_: np.int64) -> NDArray[np.float64]:
        table = tables[modality]
        of_class = table.targets[:, np.searchsorted(table.columns, class_)] > 0
        rows = rng.choice(
            np.flatnonzero(of_class & table.held_out & table.labelled), PAIRS_PER_CLASS
        )
        return distance_from_similarity(embeddings[modality][rows] @ names[heard].T)

    return Pairs(
        audio=np.concatenate([draw("audio", sound) for _, sound in pairs]),
        video=np.concatenate([draw("video", picture) for picture, _ in pairs]),
        true=np.repeat(np.searchsorted(heard, pairs[:, 1]), PAIRS_PER_CLASS),
    )


# --- command line --------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the tables, train, calibrate, and write the checkpoint's own files."""
    parser = argparse.ArgumentParser(description="Train the bundled AVGZSLNet.")
    parser.add_argument("--data", type=Path, required=True, help="folder of teachers/, images/ ...")
    parser.add_argument("--backbones", type=Path, required=True, help="folder of audio.*, video.*")
    parser.add_argument("--out", type=Path, required=True, help="where the checkpoint is written")
    parser.add_argument("--steps", type=int, default=SpaceRecipe.steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)

    audio, video, space = load_or_build_tables(options.data, options.backbones, options.out)
    variants = text_variants(load_text_encoder(DEFAULT_TEXT_ENCODER), space.classes)
    network_config = NetworkConfig(
        audio_dim=audio.features.shape[1],
        video_dim=video.features.shape[1],
        text_dim=variants.shape[2],
        hidden_dim=1024,
        embedding_dim=variants.shape[2],
        decoder_dim=512,
        dropout=0.2,
        normalise=True,
        residual_text=True,
    )
    recipe = SpaceRecipe(steps=options.steps)
    network = train_space(audio, video, variants, network_config, recipe, seed=options.seed)
    with torch.inference_mode():
        labels = network.embed_text(torch.from_numpy(variants[0]))
        names = network.embed_text(torch.from_numpy(variants[1]))
        embeddings: dict[Modality, Tensor] = {
            "audio": network.embed_audio(torch.from_numpy(audio.features)),
            "video": network.embed_video(torch.from_numpy(video.features)),
        }
    tables: dict[Modality, Table] = {"audio": audio, "video": video}
    for modality, table in tables.items():
        rows = table.held_out & table.labelled
        top1, top5 = zero_shot_accuracy(embeddings[modality], labels, table, rows)
        print(
            f"{modality}: {rows.sum()} held out, {len(table.columns)} names: {top1:.3f} {top5:.3f}"
        )
    calibration = fit_calibration(
        {modality: embedding.numpy() for modality, embedding in embeddings.items()},
        names.numpy(),
        tables,
        [space.places(HEARD_OF_THUMBNAILS), space.places(HEARD_OF_PHOTOGRAPHS)],
    )
    print(calibration)
    config = CheckpointConfig(
        audio_backbone="compact-audio",
        video_backbone="compact-video",
        text_encoder=DEFAULT_TEXT_ENCODER,
        network=network_config,
        calibration=calibration,
    )
    save_checkpoint(options.out, config, network, space.classes, variants[0])


if __name__ == "__main__":
    main()
