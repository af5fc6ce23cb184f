"""Random views of a picture for training: crops, and what cameras and codecs do to frames."""

import io
import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Box = tuple[float, float, float, float]


def random_crop(
    pixels: NDArray[np.uint8], size: int, *, degrade: bool, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Cut 50 to 100 % of a picture at an aspect of 3:4 to 16:9, stretch it to a square, flip half.

    Args:
        pixels: (H, W, 3) uint8.
        size: side of the result in pixels.
        degrade: half the time lose detail on the way, down to a third of `size`, so that the net
            sees one picture as a thumbnail and as a frame.
        rng: source of the draws.

    Returns:
        (size, size, 3) uint8.
    """
    crop = cut(pixels, random_box(pixels, rng), size)
    if degrade and rng.random() < 0.5:
        crop = lose_detail(crop, rng)
    return mirror_half(crop, rng)


def random_box(pixels: NDArray[np.uint8], rng: np.random.Generator) -> Box:
    """Draw (left, top, right, bottom) of 50 to 100 % of a picture, at an aspect of 3:4 to 16:9."""
    height, width, _ = pixels.shape
    area = height * width * rng.uniform(0.5, 1.0)
    aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(16 / 9)))
    crop_width = min(width, math.sqrt(area * aspect))
    crop_height = min(height, math.sqrt(area / aspect))
    left, top = rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height)
    return left, top, left + crop_width, top + crop_height


def cut(pixels: NDArray[np.uint8], box: Box, size: int) -> NDArray[np.uint8]:
    """Stretch a box of a picture (H, W, 3) uint8 to (size, size, 3)."""
    picture = Image.fromarray(pixels)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box))


def mirror_half(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror a picture (H, W, 3) half the time."""
    return picture[:, ::-1] if rng.random() < 0.5 else picture


# --- what happens to frames -----------------------------------------------------------------------


def degrade_frame(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Do to a sharp picture (S, S, 3) uint8 what video does to frames; a third stays as it is."""
    if rng.random() < 0.33:
        return picture
    if rng.random() < 0.4:
        picture = lose_detail(picture, rng)
    if rng.random() < 0.25:
        picture = blur_motion(picture, rng)
    if rng.random() < 0.35:
        picture = compress(picture, rng)
    if rng.random() < 0.12:
        picture = letterbox(picture, rng)
    return picture


def lose_detail(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shrink a picture (S, S, 3) to between a third of its side and all of it, and enlarge it."""
    size = len(picture)
    small = max(1, int(rng.uniform(size / 3, size)))
    whole = (0, 0, size, size)
    return cut(cut(picture, whole, small), (0, 0, small, small), size)


def blur_motion(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Average a picture (S, S, 3) over a straight move of up to a twelfth of its side."""
    length = rng.uniform(2, max(2.0, len(picture) / 12))
    angle = rng.uniform(0, math.pi)
    steps = np.linspace(-length / 2, length / 2, math.ceil(length) + 1)
    places = np.arange(len(picture))
    total = np.zeros(picture.shape, np.float32)
    for step in steps:
        rows = (places + round(step * math.sin(angle))).clip(0, len(picture) - 1)
        columns = (places + round(step * math.cos(angle))).clip(0, len(picture) - 1)
        total += picture[rows][:, columns]
    return np.rint(total / len(steps)).astype(np.uint8)


def compress(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Write and read a picture as a JPEG of quality 12 to 60: blocks, as in low bit rates."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=int(rng.integers(12, 61)))
    return np.asarray(Image.open(file))


def letterbox(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Black bars over 8 to 20 % of a picture (S, S, 3) at each of two opposite sides."""
    size = len(picture)
    bar = max(1, int(size * rng.uniform(0.08, 0.2)))
    upright = picture.transpose(1, 0, 2) if rng.random() < 0.3 else picture
    boxed = np.zeros_like(upright)
    boxed[bar : size - bar] = upright[bar : size - bar]
    return boxed.transpose(1, 0, 2) if upright is not picture else boxed


# --- colour ---------------------------------------------------------------------------------------


def colour_jitter(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Vary brightness, contrast and white balance of (B, 3, S, S) floats of 0 to 255."""

    def uniform(channels: int, low: float, high: float) -> Tensor:
        draw = torch.rand(len(batch), channels, 1, 1, generator=generator)
        return low + (high - low) * draw

    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    contrast, balance = uniform(1, 0.7, 1.3), uniform(3, 0.9, 1.1)
    offset = mean * uniform(1, 0.7, 1.3) - mean * contrast
    return ((batch * contrast + offset) * balance).clamp(0, 255)
