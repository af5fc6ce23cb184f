"""The frozen baseline of the bundled model: what its teachers know, and nothing trained.

A teacher's scores choose among its own labels' text vectors (ConSE, `model.baselines`); candidates
are text vectors too. Sound: EfficientAT mn04; pictures: MobileNetV2; text: the bundled encoder.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.backbones.registry import DEFAULT_TEXT_ENCODER, load_text_encoder
from model.baselines import combine_text
from model.distillation.label_space import build_label_space
from model.distillation.mn04 import load_teacher
from model.distillation.mobilenet import MobileNetTeacher
from model.distillation.sounds import decode_mono
from model.embedder import class_text_vectors
from model.embedding import ClassText

Floats = NDArray[np.float32]

WINDOW_SAMPLES = 320_000
"""10 s at 32 kHz, what mn04 was trained on."""
TOP = 10
"""How many labels are combined."""


class FrozenBaseline:
    """Both teachers with ConSE: sounds, pictures and names -> unit vectors in text space.

    Args:
        teachers: folder with the teachers' weights and label files.

    Raises:
        BackboneError, CheckpointError: see `load_teacher` and `MobileNetTeacher`.
    """

    def __init__(self, teachers: Path) -> None:
        self._mn04 = load_teacher(teachers / "mn04_audioset.pt")
        self._mobilenet = MobileNetTeacher(teachers)
        self._encoder = load_text_encoder(DEFAULT_TEXT_ENCODER)
        space = build_label_space(teachers, ())
        text = class_text_vectors(self._encoder, space.classes)
        self._sounds, self._objects = text[space.audioset], text[space.imagenet]

    def embed_names(self, names: Sequence[str]) -> Floats:
        """Text vectors (len(names), D) of candidates."""
        return class_text_vectors(self._encoder, [ClassText(name) for name in names])

    @torch.inference_mode()
    def embed_sound(self, path: Path) -> Floats | None:
        """Embed a recording by its mean scores over pieces of 10 s; None where it has no sound.

        The last piece is repeated to that length.
        """
        samples = decode_mono(path).astype(np.float32) / 32768.0
        if not samples.any():
            return None
        pieces = np.split(samples, range(WINDOW_SAMPLES, samples.size, WINDOW_SAMPLES))
        windows = np.stack([np.resize(piece, WINDOW_SAMPLES) for piece in pieces])
        logits = [self._mn04(self._mn04.mel(w[None]))[1] for w in torch.from_numpy(windows)]
        probability = torch.cat(logits).sigmoid().mean(dim=0).numpy()
        return np.asarray(combine_text(probability[None], self._sounds, TOP)[0])

    def embed_picture(self, pixels: NDArray[np.uint8]) -> Floats:
        """Embed one picture (H, W, 3)."""
        logits = torch.from_numpy(self._mobilenet.observe(pixels).logits)
        return np.asarray(combine_text(logits.softmax(0).numpy()[None], self._objects, TOP)[0])
