"""Folding is exact: the folded network says what the described computation says."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from model.config import NetworkConfig
from model.folding import RawEmbeddings, Standardisation, centre_text, merge, whiten
from model.network import AVGZSLNet

CONFIG = NetworkConfig(
    audio_dim=6,
    video_dim=9,
    text_dim=5,
    hidden_dim=16,
    embedding_dim=5,
    decoder_dim=8,
    dropout=0.0,
    normalise=True,
    residual_text=True,
)


def network(seed: int) -> AVGZSLNet:
    torch.manual_seed(seed)
    return AVGZSLNet(CONFIG).eval()


def test_a_folded_scale_takes_features_as_they_are() -> None:
    features = torch.randn(50, 6) * 7 + 3
    scale = Standardisation.of(features)
    net = network(0)
    expected = net.audio(scale.apply(features))

    scale.fold_into(net.audio)

    torch.testing.assert_close(net.audio(features), expected, rtol=1e-4, atol=1e-5)


def test_scaled_features_have_zero_mean_and_unit_deviation_but_for_constant_ones() -> None:
    features = torch.randn(200, 3) * torch.tensor([5.0, 0.1, 0.0]) + 2

    scaled = Standardisation.of(features).apply(features)

    assert scaled.mean(dim=0).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert scaled.std(dim=0, correction=0).tolist() == pytest.approx([1, 1, 0], abs=1e-4)


def test_a_merged_network_is_the_mean_of_its_members() -> None:
    members = [network(seed) for seed in range(3)]
    audio, video = torch.randn(4, 6), torch.randn(4, 9)

    merged = merge(members)

    assert merged.config == replace(CONFIG, hidden_dim=48)
    for name, features in (("audio", audio), ("video", video)):
        mean = torch.stack([getattr(m, name)(features) for m in members]).mean(dim=0)
        torch.testing.assert_close(getattr(merged, name)(features), mean)


def test_networks_that_normalise_over_the_batch_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="batch_norm"):
        merge([AVGZSLNet(replace(CONFIG, batch_norm=True))])


def test_centred_text_lacks_what_all_labels_share() -> None:
    text = torch.randn(7, 5) + 4
    net = network(0)

    centre_text(net, text.mean(dim=0))

    expected = F.normalize(text - text.mean(dim=0), dim=1)
    torch.testing.assert_close(net.embed_text(text), expected)


def samples(net: AVGZSLNet, audio: torch.Tensor, video: torch.Tensor) -> RawEmbeddings:
    everything = torch.ones(len(audio), dtype=torch.bool)
    with torch.no_grad():
        return RawEmbeddings(
            net.audio(audio), net.video(video), everything, everything, torch.ones(len(audio))
        )


def test_whitening_keeps_products_but_for_the_mean() -> None:
    net = network(0)
    audio, video, text = torch.randn(60, 6), torch.randn(60, 9), torch.randn(4, 5)
    raw = samples(net, audio, video)
    expected = (raw.audio - raw.audio.mean(dim=0)) @ text.T

    whiten(net, raw)

    with torch.no_grad():
        products = net.audio(audio) @ net.text(text).T
    torch.testing.assert_close(products, expected, rtol=1e-4, atol=1e-5)


def test_whitening_divides_a_label_by_the_spread_of_its_similarities() -> None:
    """A label along a direction in which all samples vary much loses its lead over the others."""
    net = network(0)
    audio, video = torch.randn(400, 6), torch.randn(400, 9)
    raw = samples(net, audio, video)
    total = raw.audio + raw.video
    covariance = torch.cov(total.T, correction=0)
    text = F.normalize(torch.randn(3, 5), dim=1)

    whiten(net, raw)

    with torch.no_grad():
        lengths = net.text(text).norm(dim=1)
    shrunk = covariance + 0.3 * covariance.trace() / 5 * torch.eye(5)
    expected = torch.einsum("cd,de,ce->c", text, shrunk, text).sqrt()
    torch.testing.assert_close(lengths, expected, rtol=1e-4, atol=1e-5)


def test_whitening_leaves_a_branch_without_samples_alone() -> None:
    net = network(0)
    before = net.video.out.weight.clone()
    audio = torch.randn(20, 6)
    nothing = torch.zeros(20, dtype=torch.bool)
    with torch.no_grad():
        raw = RawEmbeddings(net.audio(audio), torch.zeros(20, 5), ~nothing, nothing, torch.ones(20))

    whiten(net, raw)

    assert torch.equal(net.video.out.weight, before)
