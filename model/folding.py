"""Exact re-parametrisations of a trained AVGZSLNet: scaling, averaging and whitening as weights.

Each returns a network of the same class whose answers are those of the described computation, so
that a checkpoint needs no step beside the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.errors import FeatureSetError
from model.network import AVGZSLNet, ModalityNetwork

SHRINKAGE = 0.3
"""Share of the mean variance that is added to every direction before whitening."""


@dataclass(frozen=True)
class Standardisation:
    """Mean and deviation of one modality's features over the rows that have it, both (D,)."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Standardisation":
        """Measure (N, D) features; a feature that never varies is only centred."""
        if not len(features):
            return cls(torch.zeros(features.shape[1]), torch.ones(features.shape[1]))
        deviation = features.std(dim=0, correction=0)
        return cls(features.mean(dim=0), torch.where(deviation > 1e-6, deviation, 1.0))

    def apply(self, features: Tensor) -> Tensor:
        """Scale (N, D) features."""
        return (features - self.mean) / self.deviation

    @torch.no_grad()
    def fold_into(self, network: ModalityNetwork) -> None:
        """Make a network that was trained on scaled features take them as they are, in place."""
        network.hidden.weight /= self.deviation
        network.hidden.bias.sub_(network.hidden.weight @ self.mean)


@torch.no_grad()
def merge(members: Sequence[AVGZSLNet]) -> AVGZSLNet:
    """Average the raw embeddings of K networks of one text network in one network.

    Hidden layers lie side by side and the output layer averages over them, so the merged network
    has K times the hidden units. The decoder is the first member's and has to be trained again.

    Raises:
        ValueError: there is no member, or they normalise over the batch.
    """
    if not members:
        raise ValueError("merge needs at least one network")
    config = members[0].config
    if config.batch_norm:
        raise ValueError("networks with batch_norm cannot be merged")
    k = len(members)
    merged = AVGZSLNet(replace(config, hidden_dim=k * config.hidden_dim)).eval()
    for name in ("audio", "video"):
        parts: list[ModalityNetwork] = [getattr(m, name) for m in members]
        target: ModalityNetwork = getattr(merged, name)
        target.hidden.weight.copy_(torch.cat([p.hidden.weight for p in parts]))
        target.hidden.bias.copy_(torch.cat([p.hidden.bias for p in parts]))
        target.out.weight.copy_(torch.cat([p.out.weight for p in parts], dim=1) / k)
        target.out.bias.copy_(torch.stack([p.out.bias for p in parts]).mean(dim=0))
    merged.text.load_state_dict(members[0].text.state_dict())
    merged.decoder.load_state_dict(members[0].decoder.state_dict())
    return merged


@torch.no_grad()
def centre_text(network: AVGZSLNet, mean: Tensor) -> None:
    """Let a residual text network take `mean` (Dt,) off every text vector, in place.

    What all labels have in common tells none of them apart.
    """
    network.text.projection.bias.sub_(mean)


@dataclass(frozen=True)
class RawEmbeddings:
    """Embeddings of N training samples before they are scaled to unit length.

    Attributes:
        audio, video: (N, E); rows of a modality that a sample lacks are zero.
        has_audio, has_video: (N,) bool.
        weights: (N,) weights of the samples, such as one over the size of their class.
    """

    audio: Tensor
    video: Tensor
    has_audio: Tensor
    has_video: Tensor
    weights: Tensor


@torch.no_grad()
def whiten(network: AVGZSLNet, samples: RawEmbeddings) -> None:
    """Measure similarity in units of the spread of training samples, in place.

    With m and S the mean and the covariance of the samples' embeddings (a sample's being the sum of
    its modalities'), labels become S^(1/2) t and samples S^(-1/2) (x - m). Their product is the
    same but for the centring, and a label that is near to everything, a hub, is divided by how much
    it is so: the normalisation by impostors of speaker verification (Auckenthaler et al. 2000,
    "Z-norm") as two linear maps, which the last layers absorb. Needs a residual text network.

    Raises:
        FeatureSetError: an embedding is not finite.
    """
    covariance = _covariance(samples.audio + samples.video, samples.weights)
    if not covariance.isfinite().all():
        raise FeatureSetError(
            "the embeddings of training samples hold NaN or infinity; the training diverged: lower "
            "its learning rate"
        )
    dim = len(covariance)
    identity = torch.eye(dim)
    covariance += SHRINKAGE * covariance.trace() / dim * identity
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.sqrt()) @ vectors.T
    inverse = (vectors * values.rsqrt()) @ vectors.T
    for branch, embedding, has in (
        (network.audio, samples.audio, samples.has_audio),
        (network.video, samples.video, samples.has_video),
    ):
        if has.any():
            mean = _mean(embedding[has], samples.weights[has])
            branch.out.weight.copy_(inverse @ branch.out.weight)
            branch.out.bias.copy_(inverse @ (branch.out.bias - mean))
    text = network.text.projection
    text.weight.copy_(root @ (identity + text.weight) - identity)
    text.bias.copy_(root @ text.bias)


def _mean(x: Tensor, weights: Tensor) -> Tensor:
    return (weights[:, None] * x).sum(dim=0) / weights.sum()


def _covariance(x: Tensor, weights: Tensor) -> Tensor:
    centred = x - _mean(x, weights)
    return (weights[:, None] * centred).T @ centred / weights.sum()
