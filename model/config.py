"""Frozen configurations of the network and its use; what does not fit raises ConfigError."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from model.errors import ConfigError

C = TypeVar("C")


def from_mapping(config_class: type[C], values: Mapping[str, Any]) -> C:
    """Build a frozen dataclass from parsed JSON.

    Raises:
        ConfigError: `values` is no mapping, a key is unknown or missing, or the class refuses a
            value.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{config_class.__name__} is {values!r}; an object with keys is needed")
    fields = {f.name: f for f in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(
            f"unknown key {unknown[0]!r} for {config_class.__name__}; known: {', '.join(fields)}"
        )
    try:
        return config_class(**{key: _as_tuple(value) for key, value in values.items()})
    except TypeError as error:
        raise ConfigError(
            f"a key of {config_class.__name__} is missing or of the wrong type: {error}"
        ) from error


def _as_tuple(value: Any) -> Any:
    """Lists of JSON are tuples in a frozen configuration, at every depth."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ConfigError(what)


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Shape of AVGZSLNet (WACV 2021, section 3.2); the defaults are the published sizes.

    Attributes:
        audio_dim, video_dim: widths Da, Dv of the backbone features.
        text_dim: width Dt of a label's text vector.
        hidden_dim: width of the modality networks' hidden layer.
        embedding_dim: width of the shared space.
        decoder_dim: width of the cross-modal decoder's hidden layer.
        dropout: probability, in the modality networks.
        normalise: whether embeddings are scaled to unit length (the paper leaves them as they are).
        residual_text: whether the text network adds its projection to the text vector itself, which
            keeps the pretrained geometry; needs embedding_dim == text_dim.
        unit_features: whether features are scaled to unit length first, as published.

    What AVCA-GZSL's re-implementation adds, and the paper does not have:

    Attributes:
        batch_norm: whether hidden layers are normalised over the batch.
        text_hidden_dim: width of a hidden layer in the text network; 0 for none.
        decoder_dropout: probability, in the decoder.
        unit_decoder: whether decoded text vectors are scaled to unit length.
    """

    audio_dim: int = 1024
    video_dim: int = 1024
    text_dim: int = 300
    hidden_dim: int = 256
    embedding_dim: int = 64
    decoder_dim: int = 128
    dropout: float = 0.5
    normalise: bool = False
    residual_text: bool = False
    unit_features: bool = False
    batch_norm: bool = False
    text_hidden_dim: int = 0
    decoder_dropout: float = 0.0
    unit_decoder: bool = False

    def __post_init__(self) -> None:
        for name in (
            "audio_dim",
            "video_dim",
            "text_dim",
            "hidden_dim",
            "embedding_dim",
            "decoder_dim",
            "text_hidden_dim",
        ):
            least = 0 if name == "text_hidden_dim" else 1
            width = getattr(self, name)
            _require(
                type(width) is int and width >= least,
                f"{name} is {width!r}; it must be a whole number of at least {least}",
            )
        for name in ("dropout", "decoder_dropout"):
            _require(
                0 <= getattr(self, name) < 1,
                f"{name} is {getattr(self, name)}; it must lie in [0, 1)",
            )
        _require(
            not self.residual_text or self.embedding_dim == self.text_dim,
            f"residual_text needs embedding_dim {self.embedding_dim} == text_dim {self.text_dim}",
        )
        _require(
            self.text_hidden_dim == 0 or not self.residual_text,
            f"residual_text needs a linear text network; text_hidden_dim is {self.text_hidden_dim}",
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """Constants of `model.scoring`, fitted on validation data.

    Attributes:
        temperature: distances are divided by it before the softmax.
        seen_penalty: beta of calibrated stacking, added to seen classes' distances, where both
            modalities are present.
        audio_seen_penalty, video_seen_penalty: the same where one modality is alone.
        relative_penalty: whether these penalties are in units of the sample's confidence
            (`model.scoring.penalty_unit`) instead of the same distance for every sample.
        unknown_offset, unknown_slope: logistic model of "none of these" on the best similarity.
        unknown_contrast: how much of the other candidates' mean similarity is taken from the best
            first (`model.scoring.standing_out`).
        audio_weight, video_weight: share of each modality's distance where both are present.
    """

    temperature: float = 0.1
    seen_penalty: float = 0.0
    audio_seen_penalty: float = 0.0
    video_seen_penalty: float = 0.0
    relative_penalty: bool = False
    unknown_offset: float = 4.0
    unknown_slope: float = 10.0
    unknown_contrast: float = 0.0
    audio_weight: float = 0.5
    video_weight: float = 0.5

    def __post_init__(self) -> None:
        _require(self.temperature > 0, f"temperature is {self.temperature}; it must be positive")
        _require(
            self.audio_weight > 0 and self.video_weight > 0,
            f"modality weights are {self.audio_weight}, {self.video_weight}; both must be positive",
        )
