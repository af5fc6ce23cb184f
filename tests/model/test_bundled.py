"""The shipped checkpoint: small, whole, described, and right about what is easy."""

from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import BUNDLED, checkpoint_folder, load_checkpoint
from model.embedder import Embedder
from model.embedding import ClassText, ClipEmbedder
from model.media.limits import MediaLimits
from model.media.types import Modality
from model.scoring import rank_labels

SAMPLES = Path(__file__).parents[2] / "samples"
LARGEST_MEGABYTES = 25.0


@pytest.fixture(scope="module")
def bundled() -> ClipEmbedder:
    return Embedder.load(BUNDLED)


def test_the_bundle_is_small_enough_for_a_repository() -> None:
    size = sum(p.stat().st_size for p in checkpoint_folder(BUNDLED).iterdir())

    assert size / 1e6 < LARGEST_MEGABYTES


def test_the_bundle_has_a_card_and_a_broad_vocabulary() -> None:
    checkpoint = load_checkpoint(checkpoint_folder(BUNDLED))
    names = [c.name.casefold() for c in checkpoint.classes]

    assert len(set(names)) == len(names) > 1500
    assert {"dog", "rain", "siren", "candle", "umbrella"} <= set(names)
    card = (checkpoint.folder / "MODEL_CARD.md").read_text("utf-8")
    assert f"{len(names)} names" in card


def test_every_vector_of_the_vocabulary_is_a_finite_unit_vector(bundled: ClipEmbedder) -> None:
    vectors = np.stack([entry.vector for entry in bundled.vocabulary()])

    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)


@pytest.mark.parametrize(
    ("filename", "modality", "right", "wrong"),
    [
        ("dog_bark.wav", "audio", "a dog barks", ["a cat meows", "rain on a roof", "an engine"]),
        ("birdsong.ogg", "audio", "a bird sings", ["a car engine", "thunder", "a dog barks"]),
        ("siren.mp4", "audio", "a siren wails", ["rain on a roof", "a baby cries", "a piano"]),
        ("speech.m4a", "audio", "somebody speaks", ["an engine", "a dog barks", "waves"]),
        ("clock.mp4", "video", "a clock", ["a dog", "a guitar", "a bridge"]),
    ],
)
def test_a_clear_sample_is_named_among_four_sentences_never_trained_on(
    bundled: ClipEmbedder, filename: str, modality: Modality, right: str, wrong: list[str]
) -> None:
    clip = bundled.embed_clip(SAMPLES / filename, limits=MediaLimits(), modality=modality)
    vector = clip.audio if modality == "audio" else clip.video
    assert vector is not None
    labels = bundled.embed_classes([ClassText(name) for name in [right, *wrong]])

    ranking = rank_labels({modality: labels @ vector}, np.zeros(4, np.bool_), bundled.calibration)

    assert ranking.probability.argmax() == 0
