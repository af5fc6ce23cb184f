"""The embedder puts the right vector at the right window, and refuses what does not fit."""

import dataclasses
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from model.backbones.registry import DEFAULT_TEXT_ENCODER, load_audio_backbone
from model.checkpoint import load_checkpoint, save_checkpoint
from model.config import NetworkConfig
from model.device import typed_out_of_memory
from model.embedder import Embedder, class_text_vectors, pool_frames
from model.embedding import ClassText
from model.errors import BackboneError, CheckpointError, OutOfMemory
from model.media.limits import MediaLimits
from model.media.types import ClipChunk
from model.network import AVGZSLNet
from tests.model.conftest import (
    CLASSES,
    CONFIG,
    SAMPLE_RATE,
    ColourBackbone,
    LetterEncoder,
    LoudnessBackbone,
)
from tests.model.tiny_pretrained import DIM, save_clap, save_clip

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture
def embedder(checkpoint_dir: Path) -> Embedder:
    return Embedder(
        load_checkpoint(checkpoint_dir),
        LoudnessBackbone(),
        ColourBackbone(),
        LetterEncoder(),
        "cpu",
    )


def chunk() -> ClipChunk:
    """Three windows: sound and pictures, pictures only, sound only."""
    waveforms = np.zeros((3, 2 * SAMPLE_RATE), np.float32)
    waveforms[0], waveforms[2] = 0.5, 0.25
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    frames[:, ..., 0] = np.array([0, 100, 200, 50])[:, None, None]
    return ClipChunk(
        windows=((0.0, 2.0), (1.0, 3.0), (2.0, 4.0)),
        waveforms=waveforms,
        has_audio=np.array([True, False, True]),
        frames=frames,
        frame_times=np.array([0.25, 1.25, 1.75, 2.25]),
        has_video=np.array([True, True, False]),
    )


def test_each_window_gets_the_embedding_of_its_own_sound_and_pictures(embedder: Embedder) -> None:
    network = embedder._network
    [forwarded] = embedder.forward([embedder.prepare(chunk())])
    windows = embedder.finish(forwarded)

    assert [(w.start_seconds, w.end_seconds) for w in windows] == [(0, 2), (1, 3), (2, 4)]
    assert [w.audio is not None for w in windows] == [True, False, True]
    assert [w.video is not None for w in windows] == [True, True, False]
    with torch.inference_mode():
        quiet = network.embed_audio(torch.tensor([[0.25, 1.0]]))[0].numpy()
        reds = torch.tensor([100.0, 200.0, 50.0]) / 255  # frames at 1.25, 1.75 and 2.25 s
        pooled = torch.tensor([[reds.mean(), 0, 0, reds.std(correction=0), 0, 0]])
        reddish = network.embed_video(pooled)[0].numpy()
    np.testing.assert_allclose(windows[2].audio, quiet / np.linalg.norm(quiet), atol=1e-6)
    np.testing.assert_allclose(windows[1].video, reddish / np.linalg.norm(reddish), atol=1e-6)


def test_pooling_is_mean_and_spread_and_one_frame_spreads_by_nothing() -> None:
    features = torch.tensor([[1.0, 4.0], [3.0, 4.0]])

    assert pool_frames(features).tolist() == [2.0, 4.0, 1.0, 0.0]
    assert pool_frames(features[:1]).tolist() == [1.0, 4.0, 0.0, 0.0]


def write_wav(path: Path, levels: list[float], seconds_each: float) -> None:
    samples = np.repeat(levels, round(seconds_each * SAMPLE_RATE))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def test_a_clip_vector_is_the_normalised_mean_of_its_windows(
    embedder: Embedder, tmp_path: Path
) -> None:
    path = tmp_path / "steps.wav"
    write_wav(path, [0.1, 0.9, 0.3], seconds_each=1.0)

    clip = embedder.embed_clip(path, limits=MediaLimits())

    assert [(w.start_seconds, w.end_seconds) for w in clip.windows] == [(0, 2), (1, 3)]
    mean = np.mean([w.audio for w in clip.windows if w.audio is not None], axis=0)
    np.testing.assert_allclose(clip.audio, mean / np.linalg.norm(mean), atol=1e-6)
    assert clip.video is None
    assert clip.summary.audio.used
    assert not clip.summary.video.used
    assert clip.summary.video.reason


def test_the_vocabulary_comes_as_embeddings_of_unit_length(embedder: Embedder) -> None:
    vocabulary = embedder.vocabulary()

    assert [(v.name, v.synonyms, v.description) for v in vocabulary] == [
        (c.name, c.synonyms, c.description) for c in CLASSES
    ]
    assert [float(np.linalg.norm(v.vector)) for v in vocabulary] == pytest.approx([1.0, 1.0])


def test_synonyms_pull_a_class_but_never_outvote_its_name() -> None:
    encoder = LetterEncoder()
    name, synonym = encoder.encode(["aaa", "bbb"])

    with_synonyms, alone = class_text_vectors(
        encoder, [ClassText("aaa", ("bbb",) * 9), ClassText("aaa")]
    )

    expected = (name + synonym) / np.linalg.norm(name + synonym)
    np.testing.assert_allclose(with_synonyms, expected, atol=1e-6)
    np.testing.assert_allclose(alone, name, atol=1e-6)


def test_embedding_no_texts_gives_no_rows(embedder: Embedder) -> None:
    assert embedder.embed_texts([]).shape == (0, 5)


def test_chunks_of_several_clips_share_a_forward_pass_and_each_gets_its_own(
    embedder: Embedder,
) -> None:
    whole = chunk()
    silent = dataclasses.replace(whole, waveforms=None, has_audio=np.zeros(3, np.bool_))
    blind = dataclasses.replace(whole, frames=None, has_video=np.zeros(3, np.bool_))
    prepared = [embedder.prepare(c) for c in (silent, whole, blind)]

    together = embedder.forward(prepared)

    for one, of_batch in zip(prepared, together, strict=True):
        [alone] = embedder.forward([one])
        assert of_batch.chunk is one.chunk
        np.testing.assert_allclose(of_batch.audio, alone.audio, atol=1e-6)
        np.testing.assert_allclose(of_batch.video, alone.video, atol=1e-6)
    assert [len(f.audio) for f in together] == [0, 2, 2]
    assert [len(f.video) for f in together] == [2, 2, 0]


def test_the_device_sees_few_shapes_however_many_rows_come(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = embedder._backbones.audio
    features, shapes = backbone.features, set[int]()
    monkeypatch.setattr(backbone, "features", lambda b: shapes.add(len(b)) or features(b))
    prepared = embedder.prepare(chunk())

    for chunks in range(1, 50):
        embedder.forward([prepared] * chunks)

    assert max(shapes) == 8
    assert shapes <= {1, 2, 4, 8}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"),
        MemoryError(),
    ],
)
def test_a_full_device_is_an_error_of_its_own(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(embedder._backbones.audio, "features", full)
    monkeypatch.setattr(embedder._text, "encode", full)
    with pytest.raises(OutOfMemory, match="not enough memory"):
        embedder.forward([embedder.prepare(chunk())])
    with pytest.raises(OutOfMemory):
        embedder.embed_texts(["dog"])
    with pytest.raises(OutOfMemory):
        embedder.embed_classes([ClassText("dog")])


def test_another_fault_of_the_device_stays_what_it_is(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(embedder._backbones.audio, "features", broken)
    with pytest.raises(RuntimeError, match="lost"):
        embedder.forward([embedder.prepare(chunk())])


def test_an_allocation_that_no_machine_can_serve_is_a_full_device() -> None:
    with pytest.raises(OutOfMemory), typed_out_of_memory():
        torch.empty(2**58, dtype=torch.uint8)


def test_warm_up_runs_every_path(embedder: Embedder) -> None:
    embedder.warm_up()


def test_a_backbone_of_another_width_is_refused(checkpoint_dir: Path) -> None:
    audio = LoudnessBackbone()
    audio.dim = 3

    with pytest.raises(CheckpointError, match=r"audio backbone gives 3 numbers.*takes 2"):
        Embedder(load_checkpoint(checkpoint_dir), audio, ColourBackbone(), LetterEncoder(), "cpu")


def test_a_checkpoint_without_a_calibration_of_directions_is_not_served(
    checkpoint_dir: Path,
) -> None:
    checkpoint = load_checkpoint(checkpoint_dir)
    network = dataclasses.replace(checkpoint.config.network, normalise=False)
    older = dataclasses.replace(
        checkpoint, config=dataclasses.replace(checkpoint.config, network=network)
    )

    with pytest.raises(CheckpointError, match="train it again"):
        Embedder(older, LoudnessBackbone(), ColourBackbone(), LetterEncoder(), "cpu")


def test_asking_for_another_backbone_than_the_trained_one_says_how_to_train(
    checkpoint_dir: Path,
) -> None:
    with pytest.raises(BackboneError) as caught:
        Embedder.load(str(checkpoint_dir), audio_backbone="clap")

    message = str(caught.value)
    assert "trained on the audio backbone 'loudness', not 'clap'" in message
    assert "python -m model.train --features PATH --audio-backbone clap --out DIR" in message
    assert "frozen" not in message


def test_asking_for_clap_and_clip_names_both_ways_to_have_them(checkpoint_dir: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        Embedder.load(
            str(checkpoint_dir), audio_backbone="clap:/models/clap", video_backbone="clip"
        )

    message = str(caught.value)
    assert "--audio-backbone clap:/models/clap --video-backbone clip --out DIR" in message
    assert "AVGZSL_HEAD=frozen" in message


def test_a_head_on_clap_and_clip_takes_their_weights_from_where_the_setting_says(
    tmp_path: Path,
) -> None:
    network = NetworkConfig(
        audio_dim=DIM, video_dim=2 * DIM, text_dim=384, embedding_dim=7, normalise=True
    )
    config = dataclasses.replace(
        CONFIG,
        audio_backbone="clap",
        video_backbone="clip",
        text_encoder=DEFAULT_TEXT_ENCODER,
        network=network,
    )
    folder = tmp_path / "checkpoint"
    vectors = np.eye(2, 384, dtype=np.float32)
    save_checkpoint(folder, config, AVGZSLNet(network), CLASSES, vectors)
    clap, clip = save_clap(tmp_path / "clap"), save_clip(tmp_path / "clip")

    embedder = Embedder.load(
        str(folder), device="cpu", audio_backbone=f"clap:{clap}", video_backbone=f"clip:{clip}"
    )
    embedded = embedder.embed_clip(SAMPLES / "clock.mp4", limits=MediaLimits())

    assert embedder.card.audio_backbone == f"clap:{clap}"
    assert embedded.audio is not None
    assert embedded.audio.shape == (7,)
    assert embedded.video is not None
    assert embedded.video.shape == (7,)


def test_an_unknown_backbone_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="unknown audio backbone 'ear'; known: clap,"):
        load_audio_backbone("ear", tmp_path)
