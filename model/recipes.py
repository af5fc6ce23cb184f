"""Recipes: how AVGZSLNet is trained on a feature set, by name.

`paper` is the authors' own (Mazumder et al., WACV 2021, section 4); `strong` is the same network
made to win on features of today. `avca` is the re-implementation that the AVCA-GZSL benchmark
reports (Mercea et al., CVPR 2022), by the code and the commands of its repository (ExplainableML/
AVCA-GZSL). It differs from those in four things. The rate is divided by ten at fixed epochs, there
where HM on validation has not risen for four. A sample's negative is its neighbour in the batch,
there any sample of another class. The text network is normalised over all labels, there over those
of a batch. Beta is chosen for each evidence, there their mean is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from model.config import NetworkConfig
from model.errors import ConfigError

Optimiser = Literal["sgd", "adam"]

POSITIVE = (
    *("hidden_dim", "decoder_dim", "batch_size", "epochs", "validate_every"),
    *("temperature", "members"),
)
NOT_NEGATIVE = (
    *("embedding_dim", "text_hidden_dim", "learning_rate", "weight_decay", "balanced_batches"),
    *("patience", "triplet", "decoder", "kl", "cross_entropy", "margin", "mixup"),
)
PROBABILITIES = ("dropout", "decoder_dropout", "modality_dropout", "neighbours")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about a training but the data and the seed; a weight of 0 leaves its term out.

    Attributes:
        hidden_dim, decoder_dim, dropout, batch_norm, text_hidden_dim, decoder_dropout,
            unit_decoder: see `NetworkConfig`.
        embedding_dim: width of the shared space; 0 for that of the text vectors.
        pretrained_text: the text network keeps the pretrained geometry: it is not trained, and only
            centred and whitened (`model.folding`); embeddings are then of unit length.
        descriptions: label vectors are made of names and descriptions, else of names alone.
        standardise: features are scaled to zero mean and unit variance.
        unit_features: those that are not standardised are scaled to unit length, else left alone.
        optimiser: `sgd` with momentum, or `adam` (decoupled weight decay).
        learning_rate, weight_decay, batch_size: of the optimiser.
        balanced_batches: batches of an epoch, drawn with replacement so that all classes are as
            frequent; 0: an epoch has every row once.
        epochs: length of the schedule; the epoch that is kept is chosen on validation.
        milestones: epochs after which the rate is divided by ten, at a momentum of 0.9; empty for
            torch's `OneCycleLR`: along cosines the rate rises over the first tenth and falls to
            zero, and momentum (Adam's beta 1) falls from 0.95 to 0.85 and rises again.
        validate_every: epochs between two validations.
        patience: validations without a better HM before training stops; 0 for never.
        triplet: weight of the composite triplet loss.
        mirrored_triplets: whether it has the terms with p and q exchanged.
        decoder: weight of the cross-modal decoder loss.
        squared_reconstruction: whether that has squared errors, else distances.
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
        relative_penalty: whether beta is in units of a sample's confidence, which only embeddings
            of unit length have (`model.scoring.penalty_unit`).
    """

    hidden_dim: int = 256
    embedding_dim: int = 64
    decoder_dim: int = 128
    dropout: float = 0.5
    batch_norm: bool = False
    text_hidden_dim: int = 0
    decoder_dropout: float = 0.0
    unit_decoder: bool = False
    pretrained_text: bool = False
    descriptions: bool = False
    standardise: bool = False
    unit_features: bool = True

    optimiser: Optimiser = "sgd"
    learning_rate: float = 0.3
    weight_decay: float = 0.0
    batch_size: int = 4096
    balanced_batches: int = 0
    epochs: int = 200
    milestones: tuple[int, ...] = (75, 125, 175)
    validate_every: int = 5
    patience: int = 0

    triplet: float = 1.0
    mirrored_triplets: bool = True
    decoder: float = 1.0
    squared_reconstruction: bool = True
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
    relative_penalty: bool = False

    def __post_init__(self) -> None:
        for name in ("whiten", "relative_penalty"):
            if getattr(self, name) and not self.pretrained_text:
                raise ConfigError(
                    f"{name} needs pretrained_text: only its embeddings are of unit length"
                )
        if self.members > 1 and not self.pretrained_text:
            raise ConfigError(
                f"members is {self.members}, which needs pretrained_text: networks that learn a "
                "text network each have no space in common to be averaged in"
            )
        if self.members > 1 and self.batch_norm:
            raise ConfigError(f"members is {self.members}: batch_norm cannot be averaged; use 1")
        if self.optimiser not in get_args(Optimiser):
            raise ConfigError(
                f"optimiser is {self.optimiser!r}; one of {', '.join(get_args(Optimiser))} is known"
            )
        for name in (*POSITIVE, *NOT_NEGATIVE, *PROBABILITIES):
            value = getattr(self, name)
            if value < 0 or (name in POSITIVE and value == 0):
                bound = "greater than 0" if name in POSITIVE else "at least 0"
                raise ConfigError(f"{name} is {value}; it must be {bound}")
            if name in PROBABILITIES and value >= 1:
                raise ConfigError(f"{name} is {value}; it must be less than 1")
        if not all(type(epoch) is int and epoch > 0 for epoch in self.milestones):
            raise ConfigError(f"milestones are {list(self.milestones)}; they must be epochs from 1")

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
            unit_features=self.unit_features and not self.standardise,
            batch_norm=self.batch_norm,
            text_hidden_dim=self.text_hidden_dim,
            decoder_dropout=self.decoder_dropout,
            unit_decoder=self.unit_decoder,
        )


RECIPES: Mapping[str, Recipe] = {
    "paper": Recipe(),
    "avca": Recipe(
        hidden_dim=1024,
        decoder_dim=64,
        dropout=0.8,
        batch_norm=True,
        text_hidden_dim=300,
        decoder_dropout=0.5,
        unit_decoder=True,
        unit_features=False,
        optimiser="adam",
        learning_rate=1e-3,
        batch_size=256,
        balanced_batches=500,
        epochs=50,
        milestones=(20, 35),
        validate_every=1,
        mirrored_triplets=False,
        squared_reconstruction=False,
        kl=0.0,
    ),
    "strong": Recipe(
        hidden_dim=1024,
        decoder_dim=512,
        pretrained_text=True,
        descriptions=True,
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
        relative_penalty=True,
    ),
}
