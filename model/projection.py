"""Feature sets through AVGZSLNet: samples and candidate classes in the shared space."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.backbones.protocol import TextEncoder
from model.backbones.registry import load_text_encoder
from model.candidates import Candidates, candidate_classes
from model.checkpoint import Checkpoint
from model.device import to_numpy
from model.embedded_samples import EmbeddedSamples, LabelEmbeddings
from model.embedder import class_text_vectors
from model.embedding import ClassText
from model.errors import FeatureSetError
from model.features import FeatureSet
from model.network import AVGZSLNet

GIVEN_VECTORS = "given"
"""Name of the text encoder where a feature set brings its own label vectors."""

ROWS_AT_ONCE = 4096


def label_text(
    features: FeatureSet, classes: Sequence[int], encoder: TextEncoder | None, *, descriptions: bool
) -> NDArray[np.float32]:
    """Text vectors (len(classes), Dt) float32 of some of a set's classes.

    Args:
        features: brings the vectors where there is no encoder.
        classes: positions in `features.classes`.
        encoder: encodes the classes' words; None for the set's own vectors.
        descriptions: whether descriptions are encoded beside names.

    Raises:
        FeatureSetError: vectors were to be given and are not.
    """
    if encoder is not None:
        words = [features.classes[i] for i in classes]
        if not descriptions:
            words = [ClassText(c.name, c.synonyms) for c in words]
        return class_text_vectors(encoder, words)
    if features.text_vectors is None:
        raise FeatureSetError(
            f"{features.name} has no text_vectors, and the checkpoint was trained on label vectors "
            "that came with the features; add them, or train with a text encoder"
        )
    return features.text_vectors[np.asarray(classes, np.intp)].astype(np.float32)


@torch.inference_mode()
def embed_samples(
    network: AVGZSLNet, features: FeatureSet, labels: NDArray[np.int64]
) -> EmbeddedSamples:
    """Embed all rows of a feature set; `labels` (N,) are theirs among the candidates."""
    network.eval()
    audio = _in_parts(network.embed_audio, features.audio)
    video = _in_parts(network.embed_video, features.video)
    return EmbeddedSamples(
        audio=audio,
        video=video,
        both=None,
        has_audio=features.has_audio,
        has_video=features.has_video,
        labels=labels,
    )


def _in_parts(embed: Callable[[Tensor], Tensor], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = [to_numpy(embed(part)) for part in torch.split(torch.from_numpy(rows), ROWS_AT_ONCE)]
    return np.concatenate(parts)


@torch.inference_mode()
def embed_labels(
    network: AVGZSLNet, text: NDArray[np.float32], seen: NDArray[np.bool_]
) -> LabelEmbeddings:
    """Embed candidate classes from their text vectors (C, Dt)."""
    network.eval()
    return LabelEmbeddings(to_numpy(network.embed_text(torch.from_numpy(text))), seen)


def embed_features(
    checkpoint: Checkpoint, features: FeatureSet
) -> tuple[EmbeddedSamples, LabelEmbeddings]:
    """Embed rows and their candidates: the trained classes, then the set's others.

    Raises:
        FeatureSetError: the set lacks label vectors that the checkpoint needs, or has others.
        BackboneError: the checkpoint's text encoder cannot be had.
    """
    candidates = candidate_classes(checkpoint.classes, features)
    config = checkpoint.config
    text = checkpoint.text_vectors
    if config.text_encoder == GIVEN_VECTORS:
        _require_same_text(checkpoint, features, candidates)
    if candidates.added:
        given = config.text_encoder == GIVEN_VECTORS
        encoder = None if given else load_text_encoder(config.text_encoder)
        added = label_text(features, candidates.added, encoder, descriptions=config.descriptions)
        text = np.concatenate([text, added])
    samples = embed_samples(checkpoint.network, features, candidates.of_features[features.labels])
    return samples, embed_labels(checkpoint.network, text, candidates.seen)


def _require_same_text(
    checkpoint: Checkpoint, features: FeatureSet, candidates: Candidates
) -> None:
    """Check that trained classes have the vectors that they were trained with.

    Raises:
        FeatureSetError: one has another vector, as by another alignment.
    """
    if features.text_vectors is None:
        return
    ours = candidates.of_features
    known = np.flatnonzero((ours >= 0) & (ours < len(checkpoint.classes)))
    theirs = features.text_vectors[known].astype(np.float32)
    differs = ~np.isclose(theirs, checkpoint.text_vectors[ours[known]], rtol=1e-2, atol=1e-3)
    wrong = known[differs.any(axis=1)]
    if wrong.size:
        raise FeatureSetError(
            f"{features.name} has another label vector for {features.classes[wrong[0]].name!r} "
            f"than the checkpoint was trained with ({wrong.size} of {known.size} classes differ); "
            "give the --alignment that it was trained with, or the same label vectors"
        )
