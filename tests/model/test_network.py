"""AVGZSLNet: published sizes, what each branch touches, and what its options promise."""

from dataclasses import replace

import pytest
import torch

from model.config import NetworkConfig
from model.errors import ConfigError
from model.network import AVGZSLNet
from model.recipes import RECIPES

SMALL = NetworkConfig(
    audio_dim=6, video_dim=8, text_dim=5, hidden_dim=7, embedding_dim=5, decoder_dim=9, dropout=0.0
)


def test_the_default_network_has_the_published_shapes() -> None:
    shapes = {name: tuple(p.shape) for name, p in AVGZSLNet(NetworkConfig()).named_parameters()}

    assert shapes == {
        "audio.hidden.weight": (256, 1024),
        "audio.hidden.bias": (256,),
        "audio.out.weight": (64, 256),
        "audio.out.bias": (64,),
        "video.hidden.weight": (256, 1024),
        "video.hidden.bias": (256,),
        "video.out.weight": (64, 256),
        "video.out.bias": (64,),
        "text.projection.weight": (64, 300),
        "text.projection.bias": (64,),
        "decoder.hidden.weight": (128, 64),
        "decoder.hidden.bias": (128,),
        "decoder.out.weight": (300, 128),
        "decoder.out.bias": (300,),
    }


def test_audio_network_is_linear_relu_linear() -> None:
    network = AVGZSLNet(SMALL).eval()
    features = torch.randn(3, 6)
    audio = network.audio
    hidden = features @ audio.hidden.weight.T + audio.hidden.bias
    expected = hidden.clamp_min(0) @ audio.out.weight.T + audio.out.bias

    torch.testing.assert_close(network.embed_audio(features), expected)


@pytest.mark.parametrize(
    ("branch", "width"), [("audio", 6), ("video", 8), ("text", 5)], ids=["audio", "video", "text"]
)
def test_gradients_of_a_branch_reach_that_branch_and_no_other(branch: str, width: int) -> None:
    network = AVGZSLNet(SMALL)
    embed = getattr(network, f"embed_{branch}")

    embed(torch.randn(4, width)).square().sum().backward()

    touched = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert touched == {branch}


def test_decoder_gradients_reach_the_decoder_and_the_embedding_that_it_decodes() -> None:
    network = AVGZSLNet(SMALL)

    network.decode(network.embed_video(torch.randn(4, 8))).square().sum().backward()

    touched = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert touched == {"video", "decoder"}


def test_normalised_embeddings_are_of_unit_length() -> None:
    network = AVGZSLNet(NetworkConfig(audio_dim=6, text_dim=5, normalise=True)).eval()

    assert network.embed_audio(torch.randn(9, 6)).norm(dim=1).tolist() == pytest.approx([1.0] * 9)


def test_a_residual_text_network_starts_from_the_pretrained_geometry() -> None:
    text = torch.randn(4, 5)
    config = NetworkConfig(text_dim=5, embedding_dim=5, residual_text=True)

    torch.testing.assert_close(AVGZSLNet(config).embed_text(text), text)


def test_the_avca_recipe_has_the_shapes_of_its_repository() -> None:
    network = AVGZSLNet(RECIPES["avca"].network(audio_dim=128, video_dim=4096, text_dim=300))
    shapes = {n: tuple(p.shape) for n, p in network.named_parameters() if n.endswith("weight")}

    assert shapes == {
        "audio.hidden.weight": (1024, 128),
        "audio.hidden_norm.weight": (1024,),
        "audio.out.weight": (64, 1024),
        "video.hidden.weight": (1024, 4096),
        "video.hidden_norm.weight": (1024,),
        "video.out.weight": (64, 1024),
        "text.hidden.0.weight": (300, 300),
        "text.hidden.1.weight": (300,),
        "text.projection.weight": (64, 300),
        "decoder.hidden.weight": (64, 64),
        "decoder.hidden_norm.weight": (64,),
        "decoder.out.weight": (300, 64),
    }


def test_a_unit_decoder_gives_vectors_of_unit_length() -> None:
    network = AVGZSLNet(replace(SMALL, unit_decoder=True))

    assert network.decode(torch.randn(9, 5)).norm(dim=1).tolist() == pytest.approx([1.0] * 9)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_batch_too_small_for_statistics_is_normalised_by_the_past_ones(rows: int) -> None:
    network = AVGZSLNet(replace(SMALL, batch_norm=True)).train()
    network.embed_audio(torch.randn(50, 6))  # something to have statistics of
    features = torch.randn(rows, 6)
    in_training = network.embed_audio(features)
    by_the_past = network.eval().embed_audio(features)

    assert in_training.shape == (rows, 5)
    assert torch.equal(in_training, by_the_past) == (rows < 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embedding_dim": 0}, "embedding_dim is 0; it must be a whole number of at least 1"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must lie in \[0, 1\)"),
        ({"residual_text": True}, "residual_text needs embedding_dim 64 == text_dim 300"),
        ({"decoder_dropout": -0.5}, "decoder_dropout is -0.5"),
        (
            {"residual_text": True, "embedding_dim": 300, "text_hidden_dim": 8},
            "residual_text needs a linear text network; text_hidden_dim is 8",
        ),
    ],
)
def test_impossible_shapes_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NetworkConfig(**values)  # type: ignore[arg-type]
