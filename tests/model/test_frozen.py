"""The frozen head answers as CLAP and CLIP do by themselves, in one space for both."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.backbones.protocol import TextTower
from model.backbones.registry import load_text_tower
from model.embedding import ClassText, ClipEmbedder, PreparedChunk, WindowEmbedding
from model.errors import BackboneError
from model.frozen import FrozenEmbedder
from model.media.limits import MediaLimits
from model.media.types import ClipChunk
from model.scoring import LabelRanking, rank_labels, softmax
from tests.model.tiny_pretrained import CLAP_SECONDS, DIM, FRAME_SIZE, save_clap, save_clip

SAMPLES = Path(__file__).parents[2] / "samples"
NAMES = ("dog", "rain", "church bell", "a man who speaks", "umbrella", "fire")
PROMPTS = {
    "audio": ["This is a sound of {}."],
    "video": ["a photo of a {}.", "a photo of {}.", "a video of {}."],
}

# The temperature gives a model's own softmax back to first order only.
FIRST_ORDER = 0.02

Floats = NDArray[np.floating]


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def embedder(clap: Path, clip: Path) -> FrozenEmbedder:
    return FrozenEmbedder.load(
        device="cpu", audio_backbone=f"clap:{clap}", video_backbone=f"clip:{clip}"
    )


@pytest.fixture(scope="module")
def window(embedder: FrozenEmbedder) -> WindowEmbedding:
    """A window of noise and three frames of noise."""
    [forwarded] = embedder.forward([embedder.prepare(chunk())])
    [window] = embedder.finish(forwarded)
    return window


def chunk() -> ClipChunk:
    random = np.random.default_rng(0)
    return ClipChunk(
        windows=((0.0, 10.0),),
        waveforms=random.uniform(-0.5, 0.5, (1, 48_000 * CLAP_SECONDS)).astype(np.float32),
        has_audio=np.ones(1, np.bool_),
        frames=random.integers(0, 256, (3, FRAME_SIZE, FRAME_SIZE, 3), np.uint8),
        frame_times=np.array([0.5, 1.5, 2.5]),
        has_video=np.ones(1, np.bool_),
    )


def features(embedder: FrozenEmbedder, modality: str) -> NDArray[np.float32]:
    """Unit feature of `chunk()` in its own model's space, without the head."""
    prepared: PreparedChunk = embedder.prepare(chunk())
    backbone = embedder._backbones.audio if modality == "audio" else embedder._backbones.video
    inputs = prepared.audio if modality == "audio" else prepared.frames
    mean = backbone.features(torch.from_numpy(inputs)).numpy().mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def class_text(tower: TextTower, name: str, modality: str) -> NDArray[np.float32]:
    mean = tower.encode([p.format(name) for p in PROMPTS[modality]]).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def logits(
    embedder: FrozenEmbedder, tower: TextTower, modality: str, names: tuple[str, ...]
) -> Floats:
    texts = np.stack([class_text(tower, name, modality) for name in names])
    return np.asarray(tower.logit_scale * (texts @ features(embedder, modality)), np.float64)


def own_logits(
    embedder: FrozenEmbedder, clap: Path, clip: Path, names: tuple[str, ...] = NAMES
) -> dict[str, Floats]:
    return {
        "audio": logits(embedder, load_text_tower(f"clap:{clap}"), "audio", names),
        "video": logits(embedder, load_text_tower(f"clip:{clip}"), "video", names),
    }


def ranked(embedder: FrozenEmbedder, window: WindowEmbedding, *modalities: str) -> LabelRanking:
    labels = embedder.embed_classes([ClassText(name) for name in NAMES])
    present = {"audio": window.audio, "video": window.video}
    similarity = {m: labels @ present[m] for m in modalities}
    return rank_labels(similarity, np.zeros(len(NAMES), np.bool_), embedder.calibration)


def test_it_is_an_embedder_like_any_other(embedder: FrozenEmbedder) -> None:
    as_service_sees_it: ClipEmbedder = embedder

    assert as_service_sees_it.card.head == "frozen"
    assert as_service_sees_it.vocabulary() == ()


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_one_modality_is_answered_as_its_own_model_answers(
    embedder: FrozenEmbedder, window: WindowEmbedding, clap: Path, clip: Path, modality: str
) -> None:
    expected = own_logits(embedder, clap, clip)[modality]

    ranking = ranked(embedder, window, modality)

    assert np.ptp(softmax(expected)) > 0.1
    np.testing.assert_array_equal(np.argsort(-ranking.score), np.argsort(-expected))
    np.testing.assert_allclose(ranking.probability, softmax(expected), atol=FIRST_ORDER)


def test_both_modalities_share_the_answer_by_their_mean_logit(
    embedder: FrozenEmbedder, window: WindowEmbedding, clap: Path, clip: Path
) -> None:
    own = own_logits(embedder, clap, clip)
    expected = softmax((own["audio"] + own["video"]) / 2)

    ranking = ranked(embedder, window, "audio", "video")

    np.testing.assert_allclose(ranking.probability, expected, atol=FIRST_ORDER)
    np.testing.assert_allclose(
        ranking.by_modality["audio"], softmax(own["audio"]), atol=FIRST_ORDER
    )
    np.testing.assert_allclose(
        ranking.by_modality["video"], softmax(own["video"]), atol=FIRST_ORDER
    )


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_none_of_these_is_the_softmax_between_the_best_class_and_something(
    embedder: FrozenEmbedder, window: WindowEmbedding, clap: Path, clip: Path, modality: str
) -> None:
    *of_names, of_something = own_logits(embedder, clap, clip, (*NAMES, "something"))[modality]
    expected = softmax(np.array([max(of_names), of_something]))[1]

    assert ranked(embedder, window, modality).unknown_probability == pytest.approx(
        expected, abs=FIRST_ORDER
    )


def test_each_vector_is_of_unit_length(embedder: FrozenEmbedder, window: WindowEmbedding) -> None:
    vectors = np.stack(
        [
            window.audio,
            window.video,
            *embedder.embed_classes([ClassText("dog", ("hound",), "A pet."), ClassText("{}")]),
            *embedder.embed_texts(["a dog barks", ""]),
        ]
    )

    assert vectors.shape == (6, 2 * DIM + 1)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_words_meet_a_clip_by_the_cosine_of_its_model(
    embedder: FrozenEmbedder, window: WindowEmbedding, clap: Path
) -> None:
    tower = load_text_tower(f"clap:{clap}")
    words = ["a dog barks", "rain"]

    similarity = embedder.embed_texts(words) @ window.audio

    cosines = tower.encode(words) @ features(embedder, "audio")
    # Tiny CLAP and CLIP have the same logit scale, so each block weighs 1 / sqrt(2).
    np.testing.assert_allclose(similarity, cosines / np.sqrt(2), atol=1e-4)


def test_a_sound_and_a_picture_have_nothing_in_common(window: WindowEmbedding) -> None:
    assert window.audio @ window.video == 0.0


def test_a_description_is_read_as_an_apposition_to_the_name(embedder: FrozenEmbedder) -> None:
    described, named_so, plain = embedder.embed_classes(
        [
            ClassText("kettle", (), " a vessel for boiling water. "),
            ClassText("kettle", ("kettle, a vessel for boiling water",)),
            ClassText("kettle"),
        ]
    )

    np.testing.assert_allclose(described, named_so, atol=1e-6)
    assert np.abs(described - plain).max() > 1e-3


def test_no_texts_and_no_classes_give_no_rows(embedder: FrozenEmbedder) -> None:
    assert embedder.embed_texts([]).shape == (0, 2 * DIM + 1)
    assert embedder.embed_classes([]).shape == (0, 2 * DIM + 1)


def test_a_real_clip_is_embedded_window_by_window(embedder: FrozenEmbedder) -> None:
    embedder.warm_up()

    clip = embedder.embed_clip(SAMPLES / "bell_then_rain.mp4", limits=MediaLimits())

    assert clip.summary.audio.used
    assert clip.summary.video.used
    assert clip.audio is not None
    assert clip.audio[DIM:].tolist() == [0.0] * (DIM + 1)
    assert clip.video is not None
    assert clip.video[:DIM].tolist() == [0.0] * DIM


def test_the_model_id_tells_weights_and_not_places(
    embedder: FrozenEmbedder, tmp_path: Path, clip: Path
) -> None:
    def loaded(seed: int) -> FrozenEmbedder:
        clap = save_clap(tmp_path / str(seed), seed=seed)
        return FrozenEmbedder.load(
            device="cpu", audio_backbone=f"clap:{clap}", video_backbone=f"clip:{clip}"
        )

    same, other = loaded(seed=0), loaded(seed=1)

    assert embedder.card.model_id == same.card.model_id != other.card.model_id
    assert embedder.card.model_id.startswith("frozen-")
    assert len(embedder.card.model_id) == len("frozen-") + 12


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"video_backbone": "compact-video"}, r"'compact-video' has no text tower.*clap, clip"),
        ({"audio_backbone": "compact-audio"}, r"'compact-audio' has no text tower"),
        ({"audio_backbone": "clip"}, r"unknown audio backbone 'clip'; known: clap"),
        ({"model": "/some/checkpoint"}, r"no use for the checkpoint '/some/checkpoint'"),
        ({"text_encoder": "minilm"}, r"no use for the text encoder 'minilm'"),
    ],
)
def test_what_the_frozen_head_cannot_use_is_refused(options: dict[str, str], reason: str) -> None:
    with pytest.raises(BackboneError, match=reason):
        FrozenEmbedder.load(**options)
