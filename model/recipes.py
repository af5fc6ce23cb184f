"""Recipes: how AVGZSLNet is trained on a feature set, by name.

`paper` is the authors' own (Mazumder et al., WACV 2021, section 4); `avca` is the re-implementation
that the AVCA-GZSL benchmark reports (Mercea et al., CVPR 2022); `strong` is the same network made
to win on features of today.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from model.config import NetworkConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about a training but the data and the seed; a weight of 0 leaves its term out.

    Attributes:
        hidden_dim, decoder_dim, dropout, batch_norm: see `NetworkConfig`.
        embedding_dim: width of the shared space; 0 for that of the text vectors.
        pretrained_text: the text network keeps the pretrained geometry: it is not trained, and only
            centred and whitened (`model.folding`); embeddings are then of unit length.
        descriptions: label vectors are made of names and descriptions, else of names alone.
        standardise: features are scaled to zero mean and unit variance, else to unit length.
        optimiser: `sgd` with momentum 0.9, or `adam` (decoupled weight decay).
        learning_rate, weight_decay, batch_size: of the optimiser.
        epochs: length of the schedule; the epoch that is kept is chosen on validation.
        milestones: epochs after which the rate is divided by ten; empty for one cycle with a linear
            warm-up over a tenth and a cosine to zero.
        validate_every: epochs between two validations.
        patience: validations without a better HM before training stops; 0 for never.
        triplet: weight of the composite triplet loss.
        decoder: weight of the cross-modal decoder loss.
        kl: weight of the KL term.
        cross_entropy: weight of the cross-entropy over all trained labels in the embedding space.
        margin: of the triplets.
        temperature: of the cross-entropy.
        mixup: alpha of the Beta distribution by which two samples are mixed; 0 for none.
        modality_dropout: probability with which a sample that has both loses one of them.
        neighbours: share of a target that goes to the label's neighbours in text space.
        whiten: whether embeddings are whitened after training (`model.folding.whiten`).
        members: networks of different seeds that are averaged into one (`model.folding.merge`).
        weigh_modalities: whether the share of each modality's distance is chosen on validation.
    """

    hidden_dim: int = 256
    embedding_dim: int = 64
    decoder_dim: int = 128
    dropout: float = 0.5
    batch_norm: bool = False
    pretrained_text: bool = False
    descriptions: bool = False
    standardise: bool = False

    optimiser: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.3
    weight_decay: float = 0.0
    batch_size: int = 4096
    epochs: int = 200
    milestones: tuple[int, ...] = (75, 125, 175)
    validate_every: int = 5
    patience: int = 0

    triplet: float = 1.0
    decoder: float = 1.0
    kl: float = 1.0
    cross_entropy: float = 0.0
    margin: float = 1.0
    temperature: float = 0.1
    mixup: float = 0.0
    modality_dropout: float = 0.0
    neighbours: float = 0.0

    whiten: bool = False
    members: int = 1
    weigh_modalities: bool = False

    def network(self, audio_dim: int, video_dim: int, text_dim: int) -> NetworkConfig:
        """Shape of one member's network for features and text vectors of these widths."""
        return NetworkConfig(
            audio_dim=audio_dim,
            video_dim=video_dim,
            text_dim=text_dim,
            hidden_dim=self.hidden_dim,
            embedding_dim=text_dim if self.pretrained_text else self.embedding_dim or text_dim,
            decoder_dim=self.decoder_dim,
            dropout=self.dropout,
            normalise=self.pretrained_text,
            residual_text=self.pretrained_text,
            unit_features=not self.standardise,
            batch_norm=self.batch_norm,
        )


RECIPES: Mapping[str, Recipe] = {
    "paper": Recipe(),
    "avca": Recipe(
        hidden_dim=512,
        dropout=0.1,
        batch_norm=True,
        optimiser="adam",
        learning_rate=1e-3,
        batch_size=256,
        epochs=50,
        milestones=(),
        validate_every=1,
        kl=0.0,
    ),
    "strong": Recipe(
        hidden_dim=1024,
        decoder_dim=512,
        pretrained_text=True,
        descriptions=True,
        standardise=True,
        optimiser="adam",
        learning_rate=1e-3,
        weight_decay=1e-2,
        batch_size=512,
        epochs=20,
        milestones=(),
        validate_every=5,
        triplet=0.1,
        decoder=0.1,
        kl=0.0,
        cross_entropy=1.0,
        mixup=1.0,
        modality_dropout=0.2,
        neighbours=0.0,
        whiten=True,
        members=4,
        weigh_modalities=True,
    ),
}
