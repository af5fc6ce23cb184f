"""CJME: Coordinated Joint Multimodal Embeddings (Parida et al., WACV 2020), to compare with.

Network, losses and training are those of AVCA-GZSL's repository (`CJME`, `CJMELoss` in
ExplainableML/AVCA-GZSL, with the options of its run scripts), with these differences:

- a sample's two triplets are weighted by its own attention; there, by a slip of shapes, by the mean
  attention of the batch;
- the rate is divided by ten at fixed epochs, and pairs are neighbours in a batch, as in the recipe
  `avca` (`model.recipes`);
- samples that lack a modality are not trained on, as both losses of attention couple the two.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import Calibration
from model.device import to_numpy
from model.embedded_samples import EmbeddedSamples, LabelEmbeddings
from model.errors import FeatureSetError
from model.features import FeatureSet
from model.losses import euclidean_distance
from model.methods import Stage, betas_on
from model.network import BatchNorm
from model.protocol import VALIDATION_STAGES, Progress, Run, Validation
from model.recipes import RECIPES, Recipe
from model.stacking import best_harmonic_mean, with_betas
from model.training import Batch, TrainingData, batches

RECIPE = replace(RECIPES["avca"], dropout=0.2)
"""Its run scripts' options for two of three datasets. Of a recipe CJME reads the widths, dropout,
learning rate, milestones, batches, epochs and margin; its optimiser is Adam, and features are taken
as they are."""

ENTROPY_MARGIN = 0.1
"""How much surer one modality must be of its label than the other, in nats, to be the dominant."""

Terms = dict[str, Tensor]


# --- the network ---------------------------------------------------------------------------------


class EmbeddingNetwork(nn.Sequential):
    """Linear, batch norm, ReLU, dropout, Linear, ReLU: (B, in_dim) -> (B, E), not negative."""

    def __init__(self, in_dim: int, hidden_dim: int, recipe: Recipe) -> None:
        super().__init__(
            nn.Linear(in_dim, hidden_dim),
            BatchNorm(hidden_dim),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
            nn.Linear(hidden_dim, recipe.embedding_dim),
            nn.ReLU(),
        )


class CJME(nn.Module):
    """Networks for audio, video and text, and one that says how far a sample goes by its video."""

    def __init__(self, audio_dim: int, video_dim: int, text_dim: int, recipe: Recipe) -> None:
        super().__init__()
        self.audio = EmbeddingNetwork(audio_dim, recipe.hidden_dim, recipe)
        self.video = EmbeddingNetwork(video_dim, recipe.hidden_dim, recipe)
        self.text = EmbeddingNetwork(text_dim, recipe.text_hidden_dim, recipe)
        self.attention = nn.Sequential(
            BatchNorm(audio_dim + video_dim), nn.Linear(audio_dim + video_dim, 1), nn.Sigmoid()
        )

    def attend(self, audio: Tensor, video: Tensor) -> Tensor:
        """Share (B,) of the video, from the features (B, Da), (B, Dv) of both."""
        share: Tensor = self.attention(torch.cat([audio, video], dim=1))  # (B, 1)
        return share[:, 0]


# --- losses --------------------------------------------------------------------------------------


def loss_terms(network: CJME, batch: Batch, text: Tensor, margin: float) -> Terms:
    """Terms of a batch of samples with both modalities, each a scalar.

    The triplets pull samples to their labels; `agreement` pulls a sample's two embeddings together;
    `attention` teaches which modality is dominant.
    """
    labels = network.text(text)  # (C, E)
    audio, video = network.audio(batch.audio), network.video(batch.video)  # (B, E)
    share = network.attend(batch.audio, batch.video)  # (B,)
    p = torch.arange(len(batch.labels), device=text.device)
    q = p.roll(1)
    differ = batch.labels[p] != batch.labels[q]
    p, q = p[differ], q[differ]
    anchor = labels[batch.labels[p]]
    triplets = attended_triplets(
        _triplets(anchor, audio[p], audio[q], margin),
        _triplets(anchor, video[p], video[q], margin),
        share[p],
    )
    dominance = dominant_modality(audio.detach(), video.detach(), labels.detach())
    return {
        "triplets": triplets,
        "agreement": F.mse_loss(audio, video),
        "attention": F.mse_loss(share, dominance),
    }


def _triplets(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """max(0, |x - p| - |x - n| + margin) of each row, (P, E) -> (P,)."""
    gap = euclidean_distance(anchor, positive) - euclidean_distance(anchor, negative)
    return F.relu(gap + margin)


def attended_triplets(audio: Tensor, video: Tensor, share: Tensor) -> Tensor:
    """Mean of (1 - share) audio + share video over P pairs, all (P,) -> scalar; 0 of none."""
    if share.shape[0] == 0:
        return share.new_zeros(())
    return ((1 - share) * audio + share * video).mean()


def dominant_modality(audio: Tensor, video: Tensor, labels: Tensor) -> Tensor:
    """What attention is taught, (B,): 1 where video is surer of its label, 0 audio, 0.5 neither.

    Sureness is the entropy of the softmax over the products of an embedding (B, E) with all labels
    (C, E).
    """
    surplus = _entropy(audio @ labels.T) - _entropy(video @ labels.T)  # (B,)
    taught = torch.full_like(surplus, 0.5)
    taught[surplus > ENTROPY_MARGIN] = 1.0
    taught[surplus < -ENTROPY_MARGIN] = 0.0
    return taught


def _entropy(logits: Tensor) -> Tensor:
    """Entropy (B,) in nats of the softmax of (B, C)."""
    log_probability = F.log_softmax(logits, dim=1)
    return -(log_probability.exp() * log_probability).sum(dim=1)


# --- the method ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class CJMEModel:
    """A trained network, on the CPU; "both" is the embedding of the dominant modality."""

    network: CJME

    @torch.inference_mode()
    def embed_samples(self, features: FeatureSet, labels: NDArray[np.int64]) -> EmbeddedSamples:
        """Embed all rows of a feature set."""
        network = self.network.eval()
        audio, video = torch.from_numpy(features.audio), torch.from_numpy(features.video)
        by_audio, by_video = network.audio(audio), network.video(video)
        goes_by_video = network.attend(audio, video)[:, None] >= 0.5
        return EmbeddedSamples(
            audio=to_numpy(by_audio),
            video=to_numpy(by_video),
            both=to_numpy(torch.where(goes_by_video, by_video, by_audio)),
            has_audio=features.has_audio,
            has_video=features.has_video,
            labels=labels,
        )

    @torch.inference_mode()
    def embed_labels(self, text: NDArray[np.float32], seen: NDArray[np.bool_]) -> LabelEmbeddings:
        """Embed C candidates."""
        return LabelEmbeddings(to_numpy(self.network.eval().text(torch.from_numpy(text))), seen)


class CJMEMethod:
    """CJME by the run's recipe, of which `RECIPE` is the published one."""

    def select(self, run: Run) -> Stage:
        """Choose the epoch by HM of both, and the betas.

        Raises:
            FeatureSetError: no sample has both modalities.
        """
        data, trained = _training_data(run, "stage_1_train")
        validation = Validation.of(run, trained)
        every, epochs = run.recipe.validate_every, run.recipe.epochs
        best_epoch, best_score, best_model = 0, -1.0, None
        score: float | None = None
        for epoch, network, losses in _train(run, data, epochs):
            if epoch % every == 0 or epoch == epochs:
                model = CJMEModel(copy.deepcopy(network).cpu())
                score = best_harmonic_mean(betas_on(model, validation), "both")
                if score > best_score:
                    best_epoch, best_score, best_model = epoch, score, model
            run.report(Progress(1, 1, 1, epoch, epochs, losses, score))
        assert best_model is not None
        calibration = with_betas(Calibration(), betas_on(best_model, validation))
        return Stage(best_model, trained, calibration, {"epochs": best_epoch})

    def retrain(self, run: Run, choice: Stage) -> Stage:
        """Train for as many epochs."""
        data, trained = _training_data(run, "stage_1_train", *VALIDATION_STAGES)
        epochs = choice.chosen["epochs"]
        for epoch, last, losses in _train(run, data, epochs):
            network = last
            run.report(Progress(2, 1, 1, epoch, epochs, losses, None))
        return replace(choice, model=CJMEModel(network.cpu()), trained=trained)


def _training_data(run: Run, *stages: str) -> tuple[TrainingData, NDArray[np.int64]]:
    """Rows of these stages that have both modalities, and the sorted classes of all of them."""
    as_they_are = replace(run, recipe=replace(run.recipe, standardise=False))
    data, trained = as_they_are.training_data(*stages)
    rows = data.has_audio & data.has_video
    if not rows.any():
        raise FeatureSetError(
            f"{run.features.name} has no sample with both audio and video to train CJME on; leave "
            "that method out"
        )
    data = replace(
        data,
        audio=data.audio[rows],
        video=data.video[rows],
        has_audio=data.has_audio[rows],
        has_video=data.has_video[rows],
        labels=data.labels[rows],
    )
    return data.to(run.device), trained


def _train(
    run: Run, data: TrainingData, epochs: int
) -> Iterator[tuple[int, CJME, dict[str, float]]]:
    """Train; gives the number of each epoch, the network, and the means of its losses."""
    recipe = run.recipe
    torch.manual_seed(run.seed)
    generator = torch.Generator().manual_seed(run.seed)
    network = CJME(data.audio.shape[1], data.video.shape[1], data.text.shape[1], recipe)
    network.to(run.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, recipe.milestones, gamma=0.1)
    for epoch in range(1, epochs + 1):
        network.train()
        epoch_terms = []
        for batch in batches(data, recipe, generator):
            terms = loss_terms(network, batch, data.text, recipe.margin)
            optimiser.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            epoch_terms.append({name: term.item() for name, term in terms.items()})
        schedule.step()
        yield (
            epoch,
            network,
            {name: float(np.mean([t[name] for t in epoch_terms])) for name in epoch_terms[0]},
        )
