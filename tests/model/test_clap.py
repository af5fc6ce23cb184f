"""CLAP behind the protocols gives what transformers' own processor and model give."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import ClapModel, ClapProcessor

from model.backbones.clap import ClapAudio, load_text_tower
from tests.model.tiny_pretrained import CLAP_SECONDS, DIM, save_clap

RATE = 48_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="module")
def audio(folder: Path) -> ClapAudio:
    return ClapAudio.load(str(folder))


def sound(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))
    return noise.astype(np.float32)


def embedded(audio: ClapAudio, *waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    batch = torch.from_numpy(np.stack([audio.prepare(w) for w in waveforms]))
    return audio.features(batch).numpy()


def by_transformers(folder: Path, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    processor = ClapProcessor.from_pretrained(folder)
    inputs = processor(audio=waveform, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        features = ClapModel.from_pretrained(folder).eval().get_audio_features(**inputs)
    return features.pooler_output.numpy()


def test_it_says_what_it_takes_and_gives(audio: ClapAudio) -> None:
    assert (audio.name, audio.dim, audio.sample_rate) == ("clap", DIM, RATE)
    prepared = audio.prepare(sound(CLAP_SECONDS))
    assert (prepared.shape, prepared.dtype) == ((1, 201, 16), np.float32)


def test_sounds_embed_as_transformers_embeds_them(folder: Path, audio: ClapAudio) -> None:
    first, second = sound(CLAP_SECONDS, seed=1), sound(CLAP_SECONDS, seed=2)

    ours = embedded(audio, first, second)

    np.testing.assert_allclose(ours[:1], by_transformers(folder, first), atol=1e-5)
    np.testing.assert_allclose(ours[1:], by_transformers(folder, second), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-5)
    assert np.abs(ours[0] - ours[1]).max() > 1e-3


def test_the_padding_of_a_short_sound_is_taken_for_none(folder: Path, audio: ClapAudio) -> None:
    short = sound(0.7)
    padded = np.concatenate([short, np.zeros(3 * RATE, np.float32)])

    ours = embedded(audio, padded)

    np.testing.assert_allclose(ours, by_transformers(folder, short), atol=1e-5)


def test_a_window_longer_than_the_model_takes_is_cut_at_its_end(audio: ClapAudio) -> None:
    long = sound(2.5 * CLAP_SECONDS)

    ours = embedded(audio, long, long[: CLAP_SECONDS * RATE])

    np.testing.assert_array_equal(ours[0], ours[1])


def test_silence_has_finite_features(audio: ClapAudio) -> None:
    assert np.isfinite(embedded(audio, np.zeros(CLAP_SECONDS * RATE, np.float32))).all()


def test_in_the_fused_variant_no_sound_depends_on_its_neighbours(tmp_path: Path) -> None:
    audio = ClapAudio.load(str(save_clap(tmp_path, fused=True)))
    first, second = sound(0.5, seed=1), sound(1.5, seed=2)

    together = embedded(audio, first, second)

    np.testing.assert_allclose(together[:1], embedded(audio, first), atol=1e-5)
    np.testing.assert_allclose(together[1:], embedded(audio, second), atol=1e-5)


def test_texts_embed_as_transformers_embeds_them(folder: Path) -> None:
    tower = load_text_tower(str(folder), name="clap:here")
    texts = ["a dog barks", "Rain"]
    inputs = ClapProcessor.from_pretrained(folder)(text=texts, padding=True, return_tensors="pt")
    model = ClapModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = model.get_text_features(**inputs).pooler_output.numpy()

    ours = tower.encode(texts)

    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert (tower.name, tower.dim) == ("clap:here", DIM)
    assert tower.logit_scale == pytest.approx(1 / 0.07, rel=1e-4)


def test_texts_of_any_number_and_length_are_embedded_one_by_one(folder: Path) -> None:
    tower = load_text_tower(str(folder))
    texts = [f"sound {i}" for i in range(70)] + ["a long tale " * 100]

    ours = tower.encode(texts)

    np.testing.assert_allclose(ours[66], tower.encode(["sound 66"])[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-5)
    assert tower.encode([]).shape == (0, DIM)
