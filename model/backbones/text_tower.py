"""The text half of CLAP or CLIP by transformers: texts -> vectors in the backbone's space."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import AutoTokenizer

from model.backbones.pretrained import load_files, weights_digest
from model.errors import BackboneError

BATCH = 64
"""Texts in one forward pass."""


class TransformersTextTower:
    """A `TextTower` over a model with `get_text_features`; calls from several threads take turns.

    Args:
        name: what the tower is called in answers.
        model: a `ClapModel` or `CLIPModel`; its other half may be missing.
        folder: where its tokenizer lies.
        max_tokens: what is longer is cut.
        logit_scale: see `TextTower`.
        prompts: see `TextTower`.

    Raises:
        BackboneError: the tokenizer is missing or does not fit the model.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        folder: Path,
        *,
        max_tokens: int,
        logit_scale: float,
        prompts: tuple[str, ...],
    ) -> None:
        self.name = name
        self.dim = int(model.config.projection_dim)
        self.logit_scale = logit_scale
        self.prompts = prompts
        self.digest = weights_digest(folder)
        self._model = model
        self._tokenizer = _load_tokenizer(folder, words=model.config.text_config.vocab_size)
        self._max_tokens = max_tokens
        # The fast tokenizer refuses to be borrowed by two threads at once.
        self._lock = threading.Lock()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: (len(texts), dim) float32, L2-normalised."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            with self._lock:
                tokens = self._tokenizer(
                    batch,
                    padding=True,
                    truncation=True,
                    max_length=self._max_tokens,
                    return_tensors="pt",
                )
            output = self._model.get_text_features(**tokens.to(self._model.device))
            unit = F.normalize(output.pooler_output, dim=-1)
            vectors[start : start + BATCH] = unit.float().cpu().numpy()
        return vectors

    def to(self, device: str) -> "TransformersTextTower":
        """Move the weights to a device and return self."""
        self._model.to(device)
        return self


def _load_tokenizer(folder: Path, *, words: int) -> Any:
    # Without its words transformers makes a tokenizer that takes every word for an unknown one.
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise BackboneError(f"{folder} holds no tokenizer.json; fetch it again")
    tokenizer = load_files(AutoTokenizer, folder)
    if len(tokenizer) > words:
        raise BackboneError(
            f"the tokenizer in {folder} has {len(tokenizer)} words, the model {words}; they belong "
            "to different models"
        )
    return tokenizer
