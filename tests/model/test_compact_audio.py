"""The compact audio backbone and its files."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.backbones.compact_audio import (
    CompactAudio,
    CompactAudioConfig,
    CompactAudioNetwork,
    LogMel,
    SqueezeExcite,
    fold_batch_norms,
)
from model.config import from_mapping
from model.distillation.audio import mean_class_accuracy
from model.distillation.mn04 import read_class_names
from model.distillation.sounds import ClassFinder, Clip, decode_mono, list_recordings
from model.errors import CheckpointError, ConfigError

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "model" / "bundled"
DATA = ROOT / ".." / "shared" / "data"
needs_weights = pytest.mark.skipif(
    not (BUNDLED / "audio.safetensors").is_file(),
    reason="model/bundled/audio.safetensors is absent",
)
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent")

SMALL = CompactAudioConfig(
    window_seconds=0.5,
    stem_channels=8,
    blocks=((8, 8, 3, 2, False, False), (16, 8, 5, 1, True, True), (24, 16, 3, 1, True, False)),
    dim=24,
)


@pytest.fixture
def backbone() -> CompactAudio:
    torch.manual_seed(0)
    return CompactAudio(SMALL, CompactAudioNetwork(SMALL))


def sounds(count: int, length: int = SMALL.window_samples) -> torch.Tensor:
    return 0.1 * torch.randn(count, length, generator=torch.Generator().manual_seed(1))


# --- preparing and embedding ---------------------------------------------------------------------


def test_a_short_window_is_padded_with_silence_at_its_end(backbone: CompactAudio) -> None:
    prepared = backbone.prepare(np.ones(100, dtype=np.float32))
    assert prepared.shape == (16_000,)
    assert prepared.dtype == np.float32
    assert prepared[:100].all()
    assert not prepared[100:].any()


def test_a_long_window_is_cut_at_its_end(backbone: CompactAudio) -> None:
    waveform = np.arange(20_000, dtype=np.float32)
    np.testing.assert_array_equal(backbone.prepare(waveform), waveform[:16_000])


def test_an_empty_window_is_silence(backbone: CompactAudio) -> None:
    assert not backbone.prepare(np.zeros(0, dtype=np.float32)).any()


def test_preparing_leaves_the_callers_array_alone(backbone: CompactAudio) -> None:
    waveform = np.ones(16_000, dtype=np.float32)
    backbone.prepare(waveform)[:] = 0
    assert waveform.all()


def test_features_are_finite_rows_of_the_declared_length(backbone: CompactAudio) -> None:
    features = backbone.features(sounds(3))
    assert features.shape == (3, backbone.dim)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert torch.isfinite(features).all()


def test_silence_and_full_scale_have_finite_features(backbone: CompactAudio) -> None:
    extremes = torch.stack([torch.zeros(16_000), torch.ones(16_000), sounds(1)[0].sign()])
    assert torch.isfinite(backbone.features(extremes)).all()


def test_a_window_embeds_the_same_alone_and_in_a_batch(backbone: CompactAudio) -> None:
    batch = sounds(4)
    alone = torch.cat([backbone.features(row[None]) for row in batch])
    torch.testing.assert_close(backbone.features(batch), alone, rtol=1e-4, atol=1e-5)


def test_scores_are_logits_over_the_classes(backbone: CompactAudio) -> None:
    scores = backbone.scores(sounds(2))
    assert scores.shape == (2, 527)
    expected = backbone.network.head(backbone.features(sounds(2)))
    torch.testing.assert_close(scores, expected)


def test_a_block_adds_its_input_only_where_nothing_changes_shape() -> None:
    torch.manual_seed(0)
    kept, strided, wider = (
        CompactAudioNetwork(
            replace(
                SMALL,
                blocks=(
                    (8, 8, 3, 1, False, True),
                    (8, 8, 3, 2, False, True),
                    (8, 16, 3, 1, False, True),
                ),
            )
        )
        .eval()
        .blocks
    )
    x = torch.randn(2, 8, 16, 10)
    torch.testing.assert_close(kept(x), x + kept.narrow(kept.depthwise(x)))
    torch.testing.assert_close(strided(x), strided.narrow(strided.depthwise(x)))
    assert strided(x).shape == (2, 8, 8, 5)
    assert wider(x).shape == (2, 16, 16, 10)


def test_a_gate_scales_channels_by_what_all_of_them_hold() -> None:
    torch.manual_seed(0)
    gate = SqueezeExcite(16)
    x = torch.randn(2, 16, 4, 3)
    hidden = (x.mean((2, 3)) @ gate.reduce.weight.T + gate.reduce.bias).clamp_min(0)
    scale = 1 / (1 + torch.exp(-(hidden @ gate.expand.weight.T + gate.expand.bias)))
    torch.testing.assert_close(gate(x), x * scale[:, :, None, None])


def test_folded_batch_norms_answer_as_the_network_does() -> None:
    torch.manual_seed(0)
    network = CompactAudioNetwork(SMALL)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.normal_(module.bias)
    backbone = CompactAudio(SMALL, network)
    with torch.inference_mode():
        embedding, logits = network(network.mel(sounds(3)))
    torch.testing.assert_close(backbone.features(sounds(3)), embedding, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(backbone.scores(sounds(3)), logits, rtol=1e-4, atol=1e-5)
    assert not any(
        isinstance(module, torch.nn.BatchNorm2d) for module in fold_batch_norms(network).modules()
    )


def test_log_mel_equals_the_slow_definition() -> None:
    waveform = sounds(1, 4000)[0].double().numpy()
    emphasised = waveform[1:] - 0.97 * waveform[:-1]
    padded = np.pad(emphasised, 512, mode="reflect")
    window = np.zeros(1024)
    window[112:912] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799)
    top = 1127 * np.log(1 + 15_000 / 700)
    edges = np.linspace(0, top, 130)
    mel = 1127 * np.log(1 + np.arange(512) * 31.25 / 700)
    expected = np.zeros((128, 1 + emphasised.size // 320))
    for frame in range(expected.shape[1]):
        spectrum = np.fft.rfft(padded[frame * 320 : frame * 320 + 1024] * window)[:512]
        for band in range(128):
            left, centre, right = edges[band : band + 3]
            weights = np.minimum((mel - left) / (centre - left), (right - mel) / (right - centre))
            power = np.sum(weights.clip(0) * np.abs(spectrum) ** 2)
            expected[band, frame] = (np.log(power + 1e-5) + 4.5) / 5
    computed = LogMel(CompactAudioConfig())(torch.from_numpy(waveform).float()[None])[0, 0]
    np.testing.assert_allclose(computed.numpy(), expected, atol=2e-4)


# --- files ---------------------------------------------------------------------------------------


def test_a_saved_backbone_loads_with_the_same_features(
    backbone: CompactAudio, tmp_path: Path
) -> None:
    backbone.save(tmp_path)
    loaded = CompactAudio.load(tmp_path)
    assert loaded.config == SMALL
    torch.testing.assert_close(loaded.features(sounds(2)), backbone.features(sounds(2)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio.json", "audio.safetensors"]


def test_an_unknown_key_is_refused_by_name(backbone: CompactAudio, tmp_path: Path) -> None:
    backbone.save(tmp_path)
    values = json.loads((tmp_path / "audio.json").read_text())
    (tmp_path / "audio.json").write_text(json.dumps(values | {"hop": 160}))
    with pytest.raises(ConfigError, match="hop"):
        CompactAudio.load(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"window_seconds": 0},
        {"window_seconds": "4"},
        {"mel_bands": 64.5},
        {"max_frequency": 20_000.0},
        {"frame_length": 2048},
        {"stem_channels": [8]},
        {"blocks": 5},
        {"blocks": [72, 40]},
        {"blocks": [[72, 40, 5, 1]]},
        {"blocks": [[72, 40, 5, 0, True, True]]},
        {"blocks": [[72, 40, 5, 1, 1, 0]]},
        {"dim": True},
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        from_mapping(CompactAudioConfig, values)


@pytest.mark.parametrize("name", ["audio.json", "audio.safetensors"])
def test_a_missing_file_is_named(backbone: CompactAudio, tmp_path: Path, name: str) -> None:
    backbone.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        CompactAudio.load(tmp_path)


@pytest.mark.parametrize("name", ["audio.json", "audio.safetensors"])
def test_a_truncated_file_is_named(backbone: CompactAudio, tmp_path: Path, name: str) -> None:
    backbone.save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=name):
        CompactAudio.load(tmp_path)


def test_a_configuration_that_is_no_object_is_refused(
    backbone: CompactAudio, tmp_path: Path
) -> None:
    backbone.save(tmp_path)
    (tmp_path / "audio.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"audio\.json"):
        CompactAudio.load(tmp_path)


def test_weights_of_other_sizes_are_refused(backbone: CompactAudio, tmp_path: Path) -> None:
    backbone.save(tmp_path)
    other = replace(SMALL, dim=32)
    CompactAudio(other, CompactAudioNetwork(other)).save(tmp_path / "other")
    (tmp_path / "other" / "audio.json").replace(tmp_path / "audio.json")
    with pytest.raises(CheckpointError, match="does not fit"):
        CompactAudio.load(tmp_path)


# --- the bundled weights -------------------------------------------------------------------------


@needs_weights
def test_the_bundled_backbone_is_small_and_hears_four_seconds() -> None:
    bundled = CompactAudio.load(BUNDLED)
    assert (BUNDLED / "audio.safetensors").stat().st_size < 8_000_000
    assert (bundled.name, bundled.sample_rate, bundled.dim) == ("compact-audio", 32_000, 384)
    prepared = bundled.prepare(sounds(1, 50_000)[0].numpy())
    assert prepared.shape == (128_000,)
    assert torch.isfinite(bundled.features(torch.from_numpy(prepared)[None])).all()


@needs_weights
@needs_data
def test_the_bundled_backbone_names_clips_of_a_fold_it_never_heard() -> None:
    bundled = CompactAudio.load(BUNDLED)
    names = read_class_names(DATA / "teachers" / "mn04_class_labels.csv")
    columns = ClassFinder(names).folders("esc10")
    scores, labels = [], []
    for clip in held_out_clips_of_esc10(per_class=2):
        waveform = bundled.prepare(clip.samples.astype(np.float32) / 32768)
        scores.append(bundled.scores(torch.from_numpy(waveform)[None])[0].numpy())
        labels.append(clip.label)
    # A ninth is chance.
    assert mean_class_accuracy(np.stack(scores), np.array(labels), columns) >= 0.8


def held_out_clips_of_esc10(per_class: int) -> Iterator[Clip]:
    seen: dict[str, int] = {}
    for group, label, held_out, path in list_recordings(DATA):
        if group == "esc10" and held_out and seen.get(label, 0) < per_class:
            seen[label] = seen.get(label, 0) + 1
            yield Clip(group, label, held_out, decode_mono(path))
