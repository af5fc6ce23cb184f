"""Training the label space on toy tables: it learns both modalities, and the seed decides."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.config import NetworkConfig
from model.distillation.space import SpaceRecipe, train_space, zero_shot_accuracy
from model.distillation.tables import Table

CLASSES, TEXT_DIM, PER_CLASS = 6, 8, 40
CONFIG = NetworkConfig(
    audio_dim=10,
    video_dim=12,
    text_dim=TEXT_DIM,
    hidden_dim=32,
    embedding_dim=TEXT_DIM,
    decoder_dim=16,
    dropout=0.0,
    normalise=True,
    residual_text=True,
)
RECIPE = SpaceRecipe(steps=150, decoder_steps=20, batch_size=64, conse_labels=1)


def toy_table(dim: int, columns: NDArray[np.int64], seed: int) -> Table:
    """Noisy samples around one centre a class; every fourth is held out."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((len(columns), dim)).astype(np.float32)
    labels = np.repeat(np.arange(len(columns)), PER_CLASS)
    noise = 0.3 * rng.standard_normal((len(labels), dim)).astype(np.float32)
    held_out = np.arange(len(labels)) % 4 == 0
    return Table(
        features=centres[labels] + noise,
        targets=np.eye(len(columns), dtype=np.float32)[labels],
        columns=columns,
        held_out=held_out,
        labelled=np.ones_like(held_out),
    )


@pytest.fixture(scope="module")
def tables() -> tuple[Table, Table]:
    # Each modality speaks of some of the classes only.
    return toy_table(10, np.arange(4), seed=1), toy_table(12, np.arange(2, 6), seed=2)


@pytest.fixture(scope="module")
def variants() -> NDArray[np.float32]:
    vectors = np.random.default_rng(3).standard_normal((2, CLASSES, TEXT_DIM)).astype(np.float32)
    vectors[1] = vectors[0] + 0.1 * vectors[1]
    return np.asarray(vectors / np.linalg.norm(vectors, axis=2, keepdims=True))


def test_both_modalities_find_their_held_out_samples_names(
    tables: tuple[Table, Table], variants: NDArray[np.float32]
) -> None:
    audio, video = tables
    network = train_space(audio, video, variants, CONFIG, RECIPE, seed=0)

    with torch.inference_mode():
        labels = network.embed_text(torch.from_numpy(variants[0]))
        for table, embed in ((audio, network.embed_audio), (video, network.embed_video)):
            embedding = embed(torch.from_numpy(table.features))
            top1, _ = zero_shot_accuracy(embedding, labels, table, table.held_out)
            assert top1 > 0.9


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    tables: tuple[Table, Table], variants: NDArray[np.float32]
) -> None:
    recipe = SpaceRecipe(steps=5, decoder_steps=5, batch_size=16, conse_labels=1)
    first, same, other = (
        train_space(*tables, variants, CONFIG, recipe, seed=seed).state_dict() for seed in (0, 0, 1)
    )

    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["audio.hidden.weight"], other["audio.hidden.weight"])
