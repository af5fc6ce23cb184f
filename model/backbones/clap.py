"""CLAP (Wu et al., ICASSP 2023, arXiv 2211.06687): sound and text in one space, pretrained.

This file owns what is CLAP's own of both halves: which weights, which spectrogram, which prompts.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import ClapFeatureExtractor, ClapModel

from model.backbones.pretrained import load_files, load_pretrained, pretrained_folder
from model.backbones.text_tower import TransformersTextTower

NAME = "clap"

DEFAULT_SOURCE = "laion/clap-htsat-unfused@79b58ed25fc00386262a2bea4b19fd21dc4310a0"
"""Apache-2.0, 0.6 GB: the smallest of LAION's, so the quickest on a CPU, and pymill.com measured
91.6 % of ESC-50 and 75.2 % of UrbanSound8K with it untrained; the larger ones' figures are not
known to be better. Its `main` holds a pickle; this revision adds the safetensors made of it."""

# One only: averages over several were found no better for CLAP (arXiv 2409.13676; pymill.com).
PROMPTS = ("This is a sound of {}.",)


class ClapAudio:
    """The audio half as an `AudioBackbone`: up to ten seconds of 48 kHz -> `dim` numbers."""

    def __init__(self, name: str, model: Any, extractor: Any) -> None:
        self.name = name
        self.dim = int(model.config.projection_dim)
        self.sample_rate = int(extractor.sampling_rate)
        self._model = model
        self._extractor = extractor

    @classmethod
    def load(cls, source: str | None = None, *, name: str = NAME) -> "ClapAudio":
        """Load the audio half from a folder or a repository of the hub (`pretrained_folder`).

        Raises:
            BackboneError, CheckpointError: see `model.backbones.pretrained`.
        """
        folder = _folder(source)
        model = load_pretrained(ClapModel, folder)
        del model.text_model, model.text_projection
        return cls(name, model, load_files(ClapFeatureExtractor, folder))

    def prepare(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn one window (N,) float32 in [-1, 1] into a log-mel spectrogram (C, T, mels) float32.

        The silence that the decoder pads with is taken off first: a short sound is repeated to the
        model's length instead, as in its training. A longer one is cut at its end.
        """
        sounding = np.flatnonzero(waveform)
        heard = waveform[: sounding[-1] + 1] if sounding.size else waveform
        inputs = self._extractor(
            heard[: self._extractor.nb_max_samples],
            sampling_rate=self.sample_rate,
            return_tensors="np",
        )
        return np.asarray(inputs["input_features"][0], np.float32)

    @torch.inference_mode()
    def features(self, batch: Tensor) -> Tensor:
        """Map prepared windows (B, C, T, mels) to features (B, dim) float32 of unit length."""
        # The fused variant asks which windows were shortened: none.
        is_longer = torch.zeros((len(batch), 1), dtype=torch.bool, device=batch.device)
        output = self._model.get_audio_features(input_features=batch, is_longer=is_longer)
        return F.normalize(output.pooler_output, dim=-1)

    def to(self, device: str) -> "ClapAudio":
        """Move the weights to a device and return self."""
        self._model.to(device)
        return self


def load_text_tower(source: str | None = None, *, name: str = NAME) -> TransformersTextTower:
    """Load the text half, as `ClapAudio.load` the other. Raises the same."""
    folder = _folder(source)
    model = load_pretrained(ClapModel, folder)
    del model.audio_model, model.audio_projection
    return TransformersTextTower(
        name,
        model,
        folder,
        # RoBERTa counts positions from the padding's index on.
        max_tokens=model.config.text_config.max_position_embeddings - 2,
        logit_scale=float(model.logit_scale_a.exp()),
        prompts=PROMPTS,
    )


def _folder(source: str | None) -> Path:
    return pretrained_folder(source or DEFAULT_SOURCE, setting="AVGZSL_AUDIO_BACKBONE=clap")
