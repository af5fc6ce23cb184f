"""The frozen head: no training, only what CLAP and CLIP know of texts themselves.

A sound is compared with a class's text in CLAP's space, a picture in CLIP's. One space holds both,
so that whatever searches there need not know: an audio block, a video block and one number more.

    sound    [ x_a, 0, 0 ]                                       x_a  CLAP's unit vector of it
    picture  [ 0, x_v, 0 ]                                       x_v  CLIP's, mean of the frames
    class    [ w_a (t_a - o_a) / 2, w_v (t_v - o_v) / 2, rest ]  t_m  unit text vector of the class
    words    [ w_a t_a, w_v t_v, 0 ]                             o_m  the same of "something"

`rest` brings a class's vector to unit length; no clip has anything there. With the logit scales
L_a and L_v that the two models were trained with, K = sqrt(L_a^2 + L_v^2) and w_m = L_m / K, the
cosine of a clip and a class is

    s_m(c) = L_m (cos(x_m, t_m(c)) - cos(x_m, o_m)) / (2 K)

so 2 K s_m are the model's own logits, less that of "something", in either modality: one temperature
serves both, and the ranking by one modality is that of the model. `model.scoring` takes distances
d = sqrt(2 - 2 s) = sqrt(2) (1 - s/2 - ...), so the temperature 1 / (2 sqrt(2) K) gives back the
softmax of these logits, to first order in s. Both modalities count alike: their mean distance is
the mean of the logits, a geometric mean of the two softmaxes. And `unknown_probability`, 1 / (1 +
exp(2 K s)) of the best class, is the softmax between that class and "something". Nothing here is
fitted to data.

What the space cannot do: a sound and a picture have nothing in common in it, their cosine is 0.
Searching pictures by a sound, or the reverse, takes a trained head.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.backbones.protocol import AudioBackbone, TextTower, VideoBackbone
from model.backbones.registry import (
    TEXT_TOWERS,
    kind_of,
    load_audio_backbone,
    load_text_tower,
    load_video_backbone,
)
from model.checkpoint import BUNDLED
from model.config import Calibration
from model.device import resolve_device, typed_out_of_memory
from model.embedder import BackboneEmbedder, class_text_vectors
from model.embedding import ClassText, ModelCard, VocabularyEntry
from model.errors import BackboneError
from model.media.types import DecodeSpec
from model.vectors import unit_rows

WINDOW_SECONDS = 10.0
"""What CLAP was trained on."""
HOP_SECONDS = 5.0
FRAMES_PER_SECOND = 1.0

NOTHING_IN_PARTICULAR = "something"

FORMAT_VERSION = 1
"""Raised when the same clip or text begins to give another vector; the model id depends on it."""


class FrozenEmbedder(BackboneEmbedder):
    """Two backbones with the text towers that they were trained with: a `ClipEmbedder`.

    Args:
        audio, video: the backbones; their features are of unit length.
        audio_text, video_text: their text towers.
        device: where all four run.
    """

    def __init__(
        self,
        audio: AudioBackbone,
        video: VideoBackbone,
        audio_text: TextTower,
        video_text: TextTower,
        device: str,
    ) -> None:
        scale = math.hypot(audio_text.logit_scale, video_text.logit_scale)
        decode_spec = DecodeSpec(
            sample_rate=audio.sample_rate,
            window_seconds=WINDOW_SECONDS,
            hop_seconds=HOP_SECONDS,
            frames_per_second=FRAMES_PER_SECOND,
            frame_size=video.frame_size,
        )
        model_id = _model_id(decode_spec, audio_text, video_text)
        super().__init__(
            audio,
            video,
            calibration=Calibration(
                temperature=1 / (2 * math.sqrt(2) * scale),
                unknown_offset=0.0,
                unknown_slope=2 * scale,
            ),
            card=ModelCard(
                model_id=model_id,
                # Its calibration is the backbones' own.
                space_id=model_id,
                head="frozen",
                audio_backbone=audio.name,
                video_backbone=video.name,
                text_encoder=f"{audio_text.name} + {video_text.name}",
                embedding_dim=audio.dim + video.dim + 1,
                device=device,
            ),
            decode_spec=decode_spec,
        )
        self._texts = tuple(
            _TextBlock(tower.to(device), tower.logit_scale / scale)
            for tower in (audio_text, video_text)
        )

    @classmethod
    def load(
        cls,
        model: str = BUNDLED,
        *,
        device: str = "auto",
        audio_backbone: str | None = None,
        video_backbone: str | None = None,
        text_encoder: str | None = None,
    ) -> "FrozenEmbedder":
        """Load the backbones, `clap` and `clip` by default, with their text towers.

        Raises:
            BackboneError: a backbone has no text tower or cannot be had, or a checkpoint or a text
                encoder is named, for which this head has no use.
        """
        if model != BUNDLED or text_encoder is not None:
            what = f"checkpoint {model!r}" if model != BUNDLED else f"text encoder {text_encoder!r}"
            raise BackboneError(
                f"the frozen head has no use for the {what}: it compares clips with what the "
                "backbones' own text towers make of a text; leave out either the setting or the "
                "head"
            )
        audio_name = audio_backbone or "clap"
        video_name = video_backbone or "clip"
        for name in (audio_name, video_name):
            _require_text_tower(name)
        return cls(
            load_audio_backbone(audio_name),
            load_video_backbone(video_name),
            load_text_tower(audio_name),
            load_text_tower(video_name),
            resolve_device(device),
        )

    def vocabulary(self) -> tuple[VocabularyEntry, ...]:
        """Return nothing: no class was trained on, all are added at run time."""
        return ()

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences as they are: (len(texts), D) float32, unit length. Raises OutOfMemory."""
        with typed_out_of_memory():
            blocks = [block.weight * block.tower.encode(texts) for block in self._texts]
        return np.concatenate([*blocks, np.zeros((len(texts), 1), np.float32)], axis=1)

    def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        """Embed classes by the towers' prompts: (len(classes), D) float32, unit length.

        Name, synonyms and description count as in `class_text_vectors`; the description is read
        as an apposition to the name. Raises OutOfMemory.
        """
        with typed_out_of_memory():
            blocks = np.concatenate([block.of_classes(classes) for block in self._texts], axis=1)
        squared = np.square(blocks).sum(axis=1, keepdims=True)
        return np.concatenate([blocks, np.sqrt(np.maximum(0.0, 1.0 - squared))], axis=1)

    def _embed_audio(self, features: Tensor) -> Tensor:
        return torch.nn.functional.pad(features, (0, self._texts[1].tower.dim + 1))

    def _embed_video(self, windows: Sequence[Tensor]) -> Tensor:
        means = torch.stack([frames.mean(dim=0) for frames in windows])
        return torch.nn.functional.pad(means, (self._texts[0].tower.dim, 1))


class _TextBlock:
    """One modality's part of a text's vector."""

    def __init__(self, tower: TextTower, weight: float) -> None:
        self.tower = tower
        self.weight = np.float32(weight)
        self._prompted = _Prompted(tower)
        self._origin = self._prompted.encode([NOTHING_IN_PARTICULAR])

    def of_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        """w (t - o) / 2 of each class: (C, dim) float32."""
        texts = class_text_vectors(self._prompted, [_with_apposition(c) for c in classes])
        return np.asarray(self.weight * (texts - self._origin) / 2, np.float32)


class _Prompted:
    """A `TextEncoder` of names: the mean of what a tower makes of all its prompts."""

    def __init__(self, tower: TextTower) -> None:
        self.name = tower.name
        self.dim = tower.dim
        self._tower = tower

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed names: (len(texts), dim) float32, L2-normalised."""
        prompts = self._tower.prompts
        vectors = self._tower.encode([p.replace("{}", t) for t in texts for p in prompts])
        return unit_rows(vectors.reshape(len(texts), len(prompts), self.dim).mean(axis=1))


def _with_apposition(words: ClassText) -> ClassText:
    """Make of a class's description another name: a sentence would not fit into the prompts."""
    description = words.description.strip().rstrip(".")
    if not description:
        return words
    return ClassText(words.name, (*words.synonyms, f"{words.name}, {description}"))


def _require_text_tower(name: str) -> None:
    if kind_of(name) not in TEXT_TOWERS:
        raise BackboneError(
            f"the frozen head compares clips with texts in the backbone's own space, and {name!r} "
            f"has no text tower; those that have: {', '.join(TEXT_TOWERS)}. Leave the head out "
            "to use it with a trained checkpoint"
        )


def _model_id(decode_spec: DecodeSpec, *towers: TextTower) -> str:
    """`frozen-` and 12 hexadecimal digits over all that the vectors depend on."""
    facts = {
        "format_version": FORMAT_VERSION,
        "decode_spec": dataclasses.asdict(decode_spec),
        "towers": [(tower.digest, tower.prompts) for tower in towers],
    }
    return f"frozen-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"
