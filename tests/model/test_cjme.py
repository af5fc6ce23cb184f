"""CJME: its shapes, its losses against its repository's formulas, and whom attention follows."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.cjme import (
    CJME,
    RECIPE,
    CJMEModel,
    attended_triplets,
    dominant_modality,
    loss_terms,
)
from model.training import Batch
from tests.model.separable import AUDIO_DIM, VIDEO_DIM, separable_features

SMALL = replace(RECIPE, hidden_dim=8, text_hidden_dim=7, embedding_dim=4)


def test_the_networks_have_the_shapes_of_the_repository() -> None:
    network = CJME(audio_dim=128, video_dim=4096, text_dim=300, recipe=RECIPE)
    shapes = {n: tuple(p.shape) for n, p in network.named_parameters() if p.ndim == 2}

    assert shapes == {
        "audio.0.weight": (1024, 128),
        "audio.4.weight": (64, 1024),
        "video.0.weight": (1024, 4096),
        "video.4.weight": (64, 1024),
        "text.0.weight": (300, 300),
        "text.4.weight": (64, 300),
        "attention.1.weight": (1, 128 + 4096),
    }
    assert (network.eval().audio(torch.randn(5, 128)) >= 0).all()


def test_triplets_are_weighted_by_each_samples_own_attention() -> None:
    loss = attended_triplets(
        torch.tensor([1.0, 10.0]), torch.tensor([3.0, 30.0]), torch.tensor([0.0, 0.75])
    )

    # (1 * 1 + 0 * 3) and (0.25 * 10 + 0.75 * 30), averaged
    assert loss.item() == pytest.approx((1.0 + 25.0) / 2)


def test_the_modality_of_the_smaller_entropy_is_dominant() -> None:
    labels = torch.eye(2)
    sure, unsure = [5.0, 0.0], [1.0, 1.0]
    audio = torch.tensor([unsure, sure, sure, unsure])
    video = torch.tensor([sure, unsure, sure, unsure])

    assert dominant_modality(audio, video, labels).tolist() == [1.0, 0.0, 0.5, 0.5]


def test_entropies_within_the_margin_leave_attention_undecided() -> None:
    """Softmax of (x, 0) with entropies ln 2 = 0.693, 0.690 and 0.582."""
    labels = torch.eye(2)
    audio = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    video = torch.tensor([[math.log(1.2), 0.0], [math.log(2.7), 0.0]])

    assert dominant_modality(audio, video, labels).tolist() == [0.5, 1.0]


def test_its_loss_is_that_of_its_repository() -> None:
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(3, 5, generator=generator)
    labels = torch.tensor([0, 1, 1, 2, 0])
    has = torch.ones(5, dtype=torch.bool)
    batch = Batch(
        torch.randn(5, 6, generator=generator),
        torch.randn(5, 7, generator=generator),
        has,
        has,
        labels,
        torch.eye(3)[labels],
    )
    network = CJME(6, 7, 5, SMALL).eval()
    with torch.no_grad():
        terms = loss_terms(network, batch, text, margin=1.0)
        a, v, t = network.audio(batch.audio), network.video(batch.video), network.text(text)
        w = network.attention(torch.cat([batch.audio, batch.video], dim=1))[:, 0]

    triplet = 0.0
    pairs = [(p, (p - 1) % 5) for p in range(5) if labels[p] != labels[(p - 1) % 5]]
    for p, q in pairs:
        for m, weight in ((a, 1 - w[p]), (v, w[p])):
            anchor = t[labels[p]].tolist()
            gap = math.dist(anchor, m[p].tolist()) - math.dist(anchor, m[q].tolist())
            triplet += float(weight) * max(0.0, gap + 1.0)
    taught = dominant_modality(a, v, t)
    assert len(pairs) == 3
    assert terms["triplets"].item() == pytest.approx(triplet / len(pairs), rel=1e-5)
    assert terms["agreement"].item() == pytest.approx(float(((a - v) ** 2).mean()))
    assert terms["attention"].item() == pytest.approx(float(((w - taught) ** 2).mean()))


def test_what_teaches_attention_has_no_gradient_of_its_own() -> None:
    network = CJME(6, 7, 5, SMALL).train()
    labels = torch.tensor([0, 1, 0, 1])
    has = torch.ones(4, dtype=torch.bool)
    batch = Batch(torch.randn(4, 6), torch.randn(4, 7), has, has, labels, torch.eye(2)[labels])

    loss_terms(network, batch, torch.randn(2, 5), margin=1.0)["attention"].backward()

    touched = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert touched == {"attention"}


def test_both_is_the_embedding_of_the_modality_that_attention_follows() -> None:
    features = separable_features(["stage_1_val_unseen"])
    network = CJME(AUDIO_DIM, VIDEO_DIM, 6, SMALL)
    with torch.no_grad():
        network.attention[1].weight *= 20  # no attention near one half
    samples = CJMEModel(network).embed_samples(features, features.labels)
    with torch.no_grad():
        share = network.attend(torch.from_numpy(features.audio), torch.from_numpy(features.video))
    by_video = share.numpy() >= 0.5

    assert by_video.any()
    assert not by_video.all()
    assert samples.audio is not None
    assert samples.video is not None
    np.testing.assert_array_equal(
        samples.both, np.where(by_video[:, None], samples.video, samples.audio)
    )
