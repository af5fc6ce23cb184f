"""CLIP (Radford et al., ICML 2021, arXiv 2103.00020): pictures and text in one space, pretrained.

This file owns what is CLIP's own of both halves: which weights, which pixels, which prompts.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel

from model.backbones.pretrained import load_files, load_pretrained, pretrained_folder
from model.backbones.text_tower import TransformersTextTower

NAME = "clip"

DEFAULT_SOURCE = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K@1a25a446712ba5ee05982a381eed697ef9b435cf"
"""MIT, 0.6 GB, 66.6 % of ImageNet untrained by its card; OpenAI's weights of the same shape reach
63.2 % by their paper, and their `main` holds no safetensors."""

# Names of things, of scenes and of what is done: the second has no article, the third moves.
PROMPTS = ("a photo of a {}.", "a photo of {}.", "a video of {}.")


class ClipVideo:
    """The image half as a `VideoBackbone`: the centre square of a frame -> `dim` numbers."""

    def __init__(self, name: str, model: Any, processor: Any) -> None:
        self.name = name
        self.dim = int(model.config.projection_dim)
        self.frame_size = int(processor.size.shortest_edge)
        self._model = model
        self._processor = processor
        self._mean = torch.tensor(processor.image_mean).view(3, 1, 1)
        self._std = torch.tensor(processor.image_std).view(3, 1, 1)

    @classmethod
    def load(cls, source: str | None = None, *, name: str = NAME) -> "ClipVideo":
        """Load the image half from a folder or a repository of the hub (`pretrained_folder`).

        Raises:
            BackboneError, CheckpointError: see `model.backbones.pretrained`.
        """
        folder = _folder(source)
        model = load_pretrained(CLIPModel, folder)
        del model.text_model, model.text_projection
        return cls(name, model, load_files(CLIPImageProcessorPil, folder))

    def prepare(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut the centre square of one upright RGB frame (H, W, 3) uint8: (3, S, S) uint8.

        A frame whose shorter side is not `frame_size` is resampled first (bicubic, as published).
        """
        inputs = self._processor(
            images=frame,
            input_data_format="channels_last",
            do_rescale=False,
            do_normalize=False,
            return_tensors="np",
        )
        return np.asarray(inputs["pixel_values"][0], np.uint8)

    @torch.inference_mode()
    def features(self, batch: Tensor) -> Tensor:
        """Map prepared frames (B, 3, S, S) of 0 to 255 to features (B, dim), unit length."""
        pixels = (batch.float() / 255 - self._mean) / self._std
        output = self._model.get_image_features(pixel_values=pixels)
        return F.normalize(output.pooler_output, dim=-1)

    def to(self, device: str) -> "ClipVideo":
        """Move the weights to a device and return self."""
        self._model.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self


def load_text_tower(source: str | None = None, *, name: str = NAME) -> TransformersTextTower:
    """Load the text half, as `ClipVideo.load` the other. Raises the same."""
    folder = _folder(source)
    model = load_pretrained(CLIPModel, folder)
    del model.vision_model, model.visual_projection
    return TransformersTextTower(
        name,
        model,
        folder,
        max_tokens=model.config.text_config.max_position_embeddings,
        logit_scale=float(model.logit_scale.exp()),
        prompts=PROMPTS,
    )


def _folder(source: str | None) -> Path:
    return pretrained_folder(source or DEFAULT_SOURCE, setting="AVGZSL_VIDEO_BACKBONE=clip")
