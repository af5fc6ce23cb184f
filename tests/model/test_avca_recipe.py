"""The recipe `avca` against the loss and the sampling of its repository, written out."""

from dataclasses import replace

import numpy as np
import torch

from model.network import AVGZSLNet
from model.recipes import RECIPES
from model.training import Trainer, TrainingData, batches, loss_terms

RECIPE = replace(
    RECIPES["avca"], hidden_dim=8, text_hidden_dim=6, decoder_dim=7, embedding_dim=4, batch_size=32
)
TEXT = torch.nn.functional.normalize(
    torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), dim=1
)


def data(labels: list[int]) -> TrainingData:
    generator = torch.Generator().manual_seed(1)
    rows = len(labels)
    return TrainingData(
        torch.randn(rows, 4, generator=generator),
        torch.randn(rows, 6, generator=generator),
        torch.ones(rows, dtype=torch.bool),
        torch.ones(rows, dtype=torch.bool),
        torch.tensor(labels),
        TEXT,
        None,
        None,
    )


def test_its_loss_is_the_sum_of_the_terms_of_its_repository() -> None:
    """In evaluation mode, so that neither dropout nor the batch's own statistics have a part."""
    network = AVGZSLNet(RECIPE.network(4, 6, 5)).eval()
    batch = next(batches(data([0, 1, 2] * 20), RECIPE, torch.Generator().manual_seed(0)))
    p = torch.arange(len(batch.labels))
    q = p.roll(1)
    differ = batch.labels[p] != batch.labels[q]
    p, q = p[differ], q[differ]
    triplet = torch.nn.TripletMarginLoss(margin=1.0, eps=0.0)
    t, w = network.embed_text(TEXT), TEXT
    t_p, t_q, w_p = t[batch.labels[p]], t[batch.labels[q]], w[batch.labels[p]]
    x_tt = network.decode(t_p)
    expected = (network.decode(t) - w).norm(dim=1).mean()  # all three labels are in the batch
    for features, embed in ((batch.audio, network.embed_audio), (batch.video, network.embed_video)):
        m_p, m_q = embed(features[p]), embed(features[q])
        x_tm_p, x_tm_q = network.decode(m_p), network.decode(m_q)
        expected = expected + triplet(t_p, m_p, m_q) + triplet(m_p, t_p, t_q)
        expected = expected + (x_tm_p - w_p).norm(dim=1).mean() + triplet(x_tt, x_tm_p, x_tm_q)

    terms = loss_terms(network, batch, TEXT, RECIPE)

    torch.testing.assert_close(torch.stack(list(terms.values())).sum(), expected)


def test_balanced_batches_have_every_class_alike_and_as_many_as_were_asked_for() -> None:
    rows = data([0] * 900 + [1] * 90 + [2] * 10)
    recipe = replace(RECIPE, balanced_batches=50, batch_size=64)

    epoch = list(batches(rows, recipe, torch.Generator().manual_seed(0)))

    assert [len(batch.labels) for batch in epoch] == [64] * 50
    counts = np.bincount(torch.cat([batch.labels for batch in epoch]).numpy())
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.03)


def test_it_trains_where_a_batch_has_a_modality_once_or_never() -> None:
    rows = data([0, 1, 2] * 20)
    rows = replace(rows, has_audio=torch.arange(60) == 7)
    recipe = replace(RECIPE, balanced_batches=8, epochs=2)
    trainer = Trainer(rows, recipe.network(4, 6, 5), recipe, seed=0, device="cpu")

    losses = [sum(trainer.train_epoch().values()) for _ in range(2)]

    assert np.isfinite(losses).all()
    assert all(torch.isfinite(p).all() for p in trainer.network.parameters())
