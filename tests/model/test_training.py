"""One training: gradients go where they should, seeds and resumption repeat it to the bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.config import NetworkConfig
from model.errors import ConfigError
from model.network import AVGZSLNet
from model.recipes import RECIPES, Recipe
from model.training import (
    Batch,
    Trainer,
    TrainingData,
    batches,
    drop_modalities,
    label_targets,
    loss_terms,
    mix_up,
    save_state,
)

CONFIG = NetworkConfig(
    audio_dim=4, video_dim=6, text_dim=5, hidden_dim=8, embedding_dim=5, decoder_dim=7, dropout=0.1
)
EVERY_TERM = Recipe(
    triplet=1.0,
    decoder=1.0,
    kl=1.0,
    cross_entropy=1.0,
    learning_rate=0.01,
    batch_size=16,
    epochs=6,
    milestones=(4,),
)
TEXT = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))


def data(*, audio: bool = True, video: bool = True, rows: int = 40) -> TrainingData:
    generator = torch.Generator().manual_seed(1)
    return TrainingData(
        torch.randn(rows, 4, generator=generator),
        torch.randn(rows, 6, generator=generator),
        torch.full((rows,), audio),
        torch.full((rows,), video),
        torch.arange(rows) % 3,
        TEXT,
        None,
        None,
    )


def one_batch(**modalities: bool) -> Batch:
    return next(batches(data(**modalities), EVERY_TERM, torch.Generator().manual_seed(0)))


def touched(network: AVGZSLNet) -> set[str]:
    """Parts whose parameters have a gradient other than zero."""
    return {
        name.split(".")[0]
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"triplet": 1.0}, {"audio", "video", "text"}),
        ({"decoder": 1.0}, {"audio", "video", "text", "decoder"}),
        ({"kl": 1.0}, {"audio", "video"}),
        ({"cross_entropy": 1.0}, {"audio", "video", "text"}),
    ],
)
def test_each_term_reaches_its_own_parts(change: dict[str, float], parts: set[str]) -> None:
    recipe = Recipe(**{"triplet": 0.0, "decoder": 0.0, "kl": 0.0, "cross_entropy": 0.0, **change})
    network = AVGZSLNet(CONFIG).train()

    terms = loss_terms(network, one_batch(), TEXT, recipe)
    torch.stack(list(terms.values())).sum().backward()

    assert touched(network) == parts


@pytest.mark.parametrize(("missing", "branch"), [("audio", "audio"), ("video", "video")])
def test_a_missing_modality_leaves_its_network_without_gradient(missing: str, branch: str) -> None:
    network = AVGZSLNet(CONFIG).train()

    terms = loss_terms(network, one_batch(**{missing: False}), TEXT, EVERY_TERM)
    torch.stack(list(terms.values())).sum().backward()

    assert all(p.grad is None for p in getattr(network, branch).parameters())
    assert branch not in touched(network)
    assert len(touched(network)) == 3


def test_the_sum_of_the_paper_is_the_sum_of_its_terms() -> None:
    """Against the formulas of the paper, written out for one batch of known pairs."""
    network = AVGZSLNet(replace(CONFIG, dropout=0.0)).eval()
    batch = one_batch()
    terms = loss_terms(network, batch, TEXT, Recipe())
    rows = torch.arange(len(batch.labels))
    others = rows.roll(1)
    keep = batch.labels[rows] != batch.labels[others]
    p, q = rows[keep], others[keep]

    def triplet(x: torch.Tensor, near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        return ((x - near).norm(dim=1) - (x - far).norm(dim=1) + 1).clamp(min=0).mean()

    t = network.embed_text(TEXT)
    t_p, t_q, w_p = t[batch.labels[p]], t[batch.labels[q]], TEXT[batch.labels[p]]
    expected = torch.zeros(())
    for features, embed in ((batch.audio, network.embed_audio), (batch.video, network.embed_video)):
        m_p, m_q = embed(features[p]), embed(features[q])
        expected = expected + triplet(t_p, m_p, m_q) + triplet(t_q, m_q, m_p)
        expected = expected + triplet(m_p, t_p, t_q) + triplet(m_q, t_q, t_p)
        d_p, d_q, d_t = network.decode(m_p), network.decode(m_q), network.decode(t_p)
        expected = expected + (d_p - w_p).square().mean() + triplet(d_t, d_p, d_q)
    a, v = network.embed_audio(batch.audio), network.embed_video(batch.video)
    kl = (a.softmax(1) * (a.log_softmax(1) - v.log_softmax(1))).sum(dim=1).mean()
    reconstruction = (network.decode(t) - TEXT).square().mean()  # all three labels are in the batch

    total = torch.stack(list(terms.values())).sum()
    torch.testing.assert_close(total, expected + kl + reconstruction)


def weights_after(epochs: int, seed: int) -> dict[str, torch.Tensor]:
    trainer = Trainer(data(), CONFIG, EVERY_TERM, seed=seed, device="cpu")
    for _ in range(epochs):
        trainer.train_epoch()
    return {name: weight.clone() for name, weight in trainer.network.state_dict().items()}


def test_the_same_seed_gives_the_same_weights() -> None:
    first, again, other = weights_after(3, 0), weights_after(3, 0), weights_after(3, 1)

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("milestones", [(4,), ()])
def test_a_resumed_training_ends_where_an_unbroken_one_does(
    milestones: tuple[int, ...], tmp_path: Path
) -> None:
    recipe = replace(EVERY_TERM, optimiser="adam", milestones=milestones, mixup=1.0)
    unbroken = Trainer(data(), CONFIG, recipe, seed=0, device="cpu")
    for _ in range(2):
        unbroken.train_epoch()
    save_state(tmp_path / "state.pt", unbroken.state())
    expected = unbroken.train_epoch()

    resumed = Trainer(data(), CONFIG, recipe, seed=99, device="cpu")
    resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))

    assert resumed.train_epoch() == expected
    weights = resumed.network.state_dict()
    for name, weight in unbroken.network.state_dict().items():
        assert torch.equal(weights[name], weight), name


def test_training_lowers_the_loss() -> None:
    trainer = Trainer(data(), CONFIG, replace(EVERY_TERM, epochs=40), seed=0, device="cpu")
    totals = [sum(trainer.train_epoch().values()) for _ in range(40)]

    assert np.mean(totals[-5:]) < 0.9 * np.mean(totals[:5])


def test_the_strong_recipe_does_not_train_the_text_network() -> None:
    recipe = replace(RECIPES["strong"], batch_size=16)
    config = recipe.network(4, 6, 5)
    trainer = Trainer(data(), config, recipe, seed=0, device="cpu")
    before = {name: weight.clone() for name, weight in trainer.network.text.state_dict().items()}
    trainer.train_epoch()

    after = trainer.network.text.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_mixing_keeps_targets_probabilities_and_the_larger_share() -> None:
    batch = one_batch()
    mixed = mix_up(batch, 1.0, torch.Generator().manual_seed(0))

    torch.testing.assert_close(mixed.targets.sum(dim=1), torch.ones(len(mixed.labels)))
    own = mixed.targets[torch.arange(len(mixed.labels)), mixed.labels]
    assert own.min() >= 0.5
    assert (own < 1).any()


def test_samples_of_different_modalities_are_not_mixed() -> None:
    batch = one_batch()
    has_audio = torch.arange(len(batch.labels)) == 0
    batch = replace(batch, has_audio=has_audio)

    mixed = mix_up(batch, 1.0, torch.Generator().manual_seed(0))

    assert torch.equal(mixed.audio[0], batch.audio[0])


def test_dropping_takes_at_most_one_modality_and_only_from_samples_with_both() -> None:
    batch = replace(one_batch(), has_video=torch.arange(16) % 2 == 0)

    dropped = drop_modalities(batch, 1.0, torch.Generator().manual_seed(0))

    assert (dropped.has_audio | dropped.has_video).all()
    alone = ~batch.has_video
    assert torch.equal(dropped.has_audio[alone], batch.has_audio[alone])
    assert not (dropped.has_audio & dropped.has_video).any()


def test_neighbours_share_a_target_by_their_nearness() -> None:
    text = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0]])
    targets = label_targets(text, 0.4)

    torch.testing.assert_close(targets.sum(dim=1), torch.ones(3))
    assert targets[0, 0] >= 0.6
    assert targets[0, 1] > targets[0, 2]
    assert torch.equal(label_targets(text, 0.0), torch.eye(3))


def test_what_needs_embeddings_of_unit_length_is_refused_elsewhere() -> None:
    with pytest.raises(ConfigError, match="relative_penalty needs pretrained_text"):
        Recipe(relative_penalty=True)


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": "SGD"},
        {"members": 0},
        {"members": 2},
        {"members": 2, "pretrained_text": True, "batch_norm": True},
        {"epochs": 0},
        {"validate_every": 0},
        {"batch_size": 0},
        {"learning_rate": -1.0},
        {"temperature": 0.0},
        {"dropout": 1.0},
        {"milestones": ("a",)},
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused_before_it_is(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        Recipe(**change)
