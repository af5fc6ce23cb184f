"""CLIP behind the protocols gives what transformers' own processor and model give."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from model.backbones.clip import ClipVideo, load_text_tower
from tests.model.tiny_pretrained import DIM, FRAME_SIZE, save_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def video(folder: Path) -> ClipVideo:
    return ClipVideo.load(str(folder))


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def unit(features: torch.Tensor) -> NDArray[np.float32]:
    return torch.nn.functional.normalize(features, dim=-1).numpy()


def by_transformers(folder: Path, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    inputs = processor(images=Image.fromarray(frame), return_tensors="pt")
    with torch.inference_mode():
        features = CLIPModel.from_pretrained(folder).eval().get_image_features(**inputs)
    return unit(features.pooler_output)


def embedded(video: ClipVideo, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    return video.features(torch.from_numpy(video.prepare(frame)[None])).numpy()


def test_it_says_what_it_takes_and_gives(video: ClipVideo) -> None:
    assert (video.name, video.dim, video.frame_size) == ("clip", DIM, FRAME_SIZE)


@pytest.mark.parametrize(
    ("height", "width"),
    [
        pytest.param(FRAME_SIZE, FRAME_SIZE, id="as the network takes it"),
        pytest.param(FRAME_SIZE, 57, id="wide, as the decoder hands it on"),
        pytest.param(128, FRAME_SIZE, id="tall"),
        pytest.param(45, 101, id="of another size"),
        pytest.param(3, 3, id="no wider than its channels are many"),
    ],
)
def test_pictures_embed_as_transformers_embeds_them(
    folder: Path, video: ClipVideo, height: int, width: int
) -> None:
    frame = picture(height, width)

    prepared = video.prepare(frame)

    assert (prepared.shape, prepared.dtype) == ((3, FRAME_SIZE, FRAME_SIZE), np.uint8)
    np.testing.assert_allclose(embedded(video, frame), by_transformers(folder, frame), atol=1e-5)


def test_a_frame_of_the_right_size_keeps_its_pixels(video: ClipVideo) -> None:
    frame = picture(FRAME_SIZE, FRAME_SIZE + 8)

    np.testing.assert_array_equal(video.prepare(frame), frame[:, 4:-4].transpose(2, 0, 1))


def test_weights_stored_as_float16_compute_in_float32(tmp_path: Path) -> None:
    video = ClipVideo.load(str(save_clip(tmp_path, dtype=torch.float16)))

    assert embedded(video, picture(FRAME_SIZE, FRAME_SIZE)).dtype == np.float32


def test_texts_embed_as_transformers_embeds_them(folder: Path) -> None:
    tower = load_text_tower(str(folder))
    texts = ["a photo of a dog.", "rain"]
    inputs = CLIPTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = unit(model.get_text_features(**inputs).pooler_output)

    np.testing.assert_allclose(tower.encode(texts), expected, atol=1e-5)
    assert (tower.name, tower.dim) == ("clip", DIM)
    assert tower.logit_scale == pytest.approx(model.logit_scale.exp().item())


def test_a_text_too_long_for_the_model_is_cut(folder: Path) -> None:
    tower = load_text_tower(str(folder))

    long, longer = tower.encode(["dog " * 40, "dog " * 80])

    np.testing.assert_allclose(long, longer, atol=1e-5)
