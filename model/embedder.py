"""Clip -> vectors in three phases: prepare (CPU), forward (device), finish (NumPy)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.backbones.protocol import AudioBackbone, TextEncoder, VideoBackbone
from model.backbones.registry import (
    TEXT_TOWERS,
    kind_of,
    load_audio_backbone,
    load_text_encoder,
    load_video_backbone,
)
from model.checkpoint import (
    PRECOMPUTED,
    Checkpoint,
    CheckpointConfig,
    checkpoint_folder,
    load_checkpoint,
)
from model.config import Calibration
from model.device import (
    batch_slices,
    max_batch_rows,
    resolve_device,
    rows_a_call,
    to_numpy,
    typed_out_of_memory,
)
from model.embedding import (
    ClassText,
    ClipEmbedding,
    ForwardedChunk,
    ModelCard,
    PreparedChunk,
    VocabularyEntry,
    WindowEmbedding,
    blank_chunk,
    embed_file,
    frame_rows,
    of_windows,
)
from model.errors import BackboneError, CheckpointError
from model.lanes import Lanes
from model.media.limits import MediaLimits
from model.media.types import ClipChunk, DecodeSpec, ModalityChoice
from model.vectors import unit_rows


@dataclass(frozen=True, slots=True)
class ChunkFeatures:
    """Backbone features of the windows that have each modality.

    Attributes:
        audio: (Na, Da) on the device.
        video: for each window that has pictures, its frames' features (F >= 1, Dv).
    """

    audio: Tensor
    video: tuple[Tensor, ...]


class Backbones:
    """An audio and a video backbone on one device: what comes before any head."""

    def __init__(self, audio: AudioBackbone, video: VideoBackbone, device: str) -> None:
        self.audio = audio.to(device)
        self.video = video.to(device)
        self._device = device
        self._lanes = Lanes(torch.get_num_threads() if device == "cpu" else 1)

    def prepare(self, chunk: ClipChunk) -> PreparedChunk:
        """Phase 1, CPU: the backbones' inputs of the windows that have each modality."""
        audio = frames = None
        if chunk.waveforms is not None and chunk.has_audio.any():
            audio = np.stack([self.audio.prepare(w) for w in chunk.waveforms[chunk.has_audio]])
        rows: tuple[NDArray[np.intp], ...] = ()
        if chunk.frames is not None and chunk.has_video.any():
            frames = np.stack([self.video.prepare(f) for f in chunk.frames])
            rows = frame_rows(chunk)
        return PreparedChunk(chunk, audio, frames, rows)

    @torch.inference_mode()
    def features(self, prepared: Sequence[PreparedChunk]) -> list[ChunkFeatures]:
        """Features of some chunks' inputs, on the device, in the chunks' order."""
        audio = self._calls(self.audio, [p.audio for p in prepared])
        video = self._calls(self.video, [p.frames for p in prepared])
        done = self._lanes.run([*video, *audio])  # what takes longer first
        frames = _split(done[: len(video)], [p.frames for p in prepared], self.video.dim)
        sounds = _split(done[len(video) :], [p.audio for p in prepared], self.audio.dim)
        return [
            ChunkFeatures(a, tuple(v[torch.from_numpy(rows)] for rows in p.frame_rows))
            for p, a, v in zip(prepared, sounds, frames, strict=True)
        ]

    def _calls(
        self,
        backbone: AudioBackbone | VideoBackbone,
        inputs: Sequence[NDArray[np.generic] | None],
    ) -> list[Callable[[], Tensor]]:
        """The calls that send the rows of all `inputs` through a backbone, in the usual shapes."""
        present = [rows for rows in inputs if rows is not None]
        if not present:
            return []
        stacked = torch.from_numpy(np.concatenate(present))
        at_most = rows_a_call(
            len(stacked), lanes=self._lanes.count, at_most=max_batch_rows(self._device)
        )
        return [
            partial(self._features, backbone, stacked[start:end])
            for start, end in batch_slices(len(stacked), at_most=at_most)
        ]

    def _features(self, backbone: AudioBackbone | VideoBackbone, rows: Tensor) -> Tensor:
        return backbone.features(rows.to(self._device))


def _split(
    parts: Sequence[Tensor], inputs: Sequence[NDArray[np.generic] | None], dim: int
) -> tuple[Tensor, ...]:
    """Give each of the `inputs` its rows (N, dim) of the features that came in parts."""
    if not parts:
        return tuple(torch.zeros((0, dim)) for _ in inputs)
    return torch.split(torch.cat(list(parts)), [0 if r is None else len(r) for r in inputs])


class BackboneEmbedder(ABC):
    """What embedders over two backbones share: how clips are read, cut and put together again.

    A subclass adds the head, which makes embeddings of features and of texts: a `ClipEmbedder`.
    """

    def __init__(
        self,
        audio: AudioBackbone,
        video: VideoBackbone,
        *,
        card: ModelCard,
        calibration: Calibration,
        decode_spec: DecodeSpec,
    ) -> None:
        self.card = card
        self.calibration = calibration
        self.decode_spec = decode_spec
        self._backbones = Backbones(audio, video, card.device)
        self._device = card.device

    @abstractmethod
    def vocabulary(self) -> tuple[VocabularyEntry, ...]:
        """Return the classes that the model was trained on."""

    @abstractmethod
    def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        """Embed classes by all their words: (len(classes), D) float32, unit length."""

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences as they are: (len(texts), D) float32, unit length."""

    @abstractmethod
    def _embed_audio(self, features: Tensor) -> Tensor:
        """Embed windows' audio features: (Na, Da) -> (Na, D) of any length."""

    @abstractmethod
    def _embed_video(self, windows: Sequence[Tensor]) -> Tensor:
        """Embed the frame features of Nv windows, each (F >= 1, Dv): (Nv, D) of any length."""

    def embed_clip(
        self, path: Path, *, limits: MediaLimits, modality: ModalityChoice = "auto"
    ) -> ClipEmbedding:
        """Decode and embed a file, chunk by chunk, so that memory does not grow with its length.

        Raises:
            MediaError: see `model.errors`.
        """
        return embed_file(self, path, limits=limits, modality=modality)

    def prepare(self, chunk: ClipChunk) -> PreparedChunk:
        """Phase 1, CPU: the backbones' inputs of the windows that have each modality."""
        return self._backbones.prepare(chunk)

    @torch.inference_mode()
    def forward(self, prepared: Sequence[PreparedChunk]) -> list[ForwardedChunk]:
        """Phase 2, device: backbones over the rows of all chunks, then the head."""
        with typed_out_of_memory():
            features = self._backbones.features(prepared)
            return [self._embedded(p, f) for p, f in zip(prepared, features, strict=True)]

    def _embedded(self, prepared: PreparedChunk, features: ChunkFeatures) -> ForwardedChunk:
        audio = video = np.zeros((0, self.card.embedding_dim), np.float32)
        if len(features.audio):
            audio = to_numpy(self._embed_audio(features.audio))
        if features.video:
            video = to_numpy(self._embed_video(features.video))
        return ForwardedChunk(prepared.chunk, audio, video)

    def finish(self, forwarded: ForwardedChunk) -> list[WindowEmbedding]:
        """Phase 3, NumPy: unit vectors back to their windows."""
        return of_windows(forwarded.chunk, unit_rows(forwarded.audio), unit_rows(forwarded.video))

    def warm_up(self) -> None:
        """Run text, sound and pictures once, so that lazy initialisation is over."""
        self.embed_texts(["warm up"])
        blank = self.prepare(blank_chunk(self.decode_spec))
        # A GPU takes its memory and chooses its kernels for the largest batch too; a CPU would only
        # need seconds for it.
        largest = 1 if self._device == "cpu" else max_batch_rows(self._device)
        for rows in sorted({1, largest}):
            for forwarded in self.forward([blank] * rows):
                self.finish(forwarded)


class Embedder(BackboneEmbedder):
    """A checkpoint with its backbones, ready to embed clips and texts: a `ClipEmbedder`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        audio: AudioBackbone,
        video: VideoBackbone,
        text: TextEncoder,
        device: str,
    ) -> None:
        _require_dims(checkpoint, audio, video, text)
        config = checkpoint.config
        super().__init__(
            audio,
            video,
            calibration=_served_calibration(config),
            card=ModelCard(
                model_id=checkpoint.model_id,
                space_id=checkpoint.space_id,
                head="avgzslnet",
                audio_backbone=audio.name,
                video_backbone=video.name,
                text_encoder=text.name,
                embedding_dim=config.network.embedding_dim,
                device=device,
            ),
            decode_spec=DecodeSpec(
                sample_rate=audio.sample_rate,
                window_seconds=config.window_seconds,
                hop_seconds=config.hop_seconds,
                frames_per_second=config.frames_per_second,
                frame_size=video.frame_size,
            ),
        )
        self._checkpoint = checkpoint
        self._network = checkpoint.network.to(device)
        self._text = text

    @classmethod
    def load(
        cls,
        model: str = "bundled",
        *,
        device: str = "auto",
        audio_backbone: str | None = None,
        video_backbone: str | None = None,
        text_encoder: str | None = None,
    ) -> "Embedder":
        """Load a checkpoint (`bundled` or a folder) and the backbones that it was trained on.

        Naming a backbone other than the checkpoint's is an error that says how to train for it.
        Naming another source of the same one (`clap:FOLDER` for `clap`) loads it from there: the
        weights must be the same.

        Raises:
            CheckpointError, BackboneError: see `model.errors`.
        """
        checkpoint = load_checkpoint(checkpoint_folder(model))
        config = checkpoint.config
        _require_trained_on(config, audio_backbone, video_backbone, text_encoder)
        return cls(
            checkpoint,
            load_audio_backbone(audio_backbone or config.audio_backbone, checkpoint.folder),
            load_video_backbone(video_backbone or config.video_backbone, checkpoint.folder),
            load_text_encoder(config.text_encoder),
            resolve_device(device),
        )

    def vocabulary(self) -> tuple[VocabularyEntry, ...]:
        """Return the classes that the checkpoint was trained on."""
        vectors = self._project_text(self._checkpoint.text_vectors)
        return tuple(
            VocabularyEntry(c.name, c.synonyms, c.description, vector)
            for c, vector in zip(self._checkpoint.classes, vectors, strict=True)
        )

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences as they are: (len(texts), D) float32, unit length. Raises OutOfMemory."""
        with typed_out_of_memory():
            return self._project_text(self._text.encode(texts))

    def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        """Embed classes as training did: one text vector of a class's words, then the text network.

        Returns (len(classes), D) float32, unit length. Raises OutOfMemory.
        """
        if not self._checkpoint.config.descriptions:
            classes = [ClassText(c.name, c.synonyms) for c in classes]
        with typed_out_of_memory():
            return self._project_text(class_text_vectors(self._text, classes))

    def _embed_audio(self, features: Tensor) -> Tensor:
        return self._network.embed_audio(features)

    def _embed_video(self, windows: Sequence[Tensor]) -> Tensor:
        return self._network.embed_video(torch.stack([pool_frames(w) for w in windows]))

    @torch.inference_mode()
    def _project_text(self, text_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        projected = self._network.embed_text(torch.from_numpy(text_vectors).to(self._device))
        return unit_rows(to_numpy(projected))


def class_text_vectors(encoder: TextEncoder, classes: Sequence[ClassText]) -> NDArray[np.float32]:
    """Text vectors w of classes, (C, Dt) float32 of unit length.

    A name counts as much as all its synonyms and its description together: a long list of synonyms
    must not outvote the name that the answer shows.
    """
    if not classes:
        return np.zeros((0, encoder.dim), np.float32)
    texts = [[c.name, *c.synonyms, *([c.description] if c.description else [])] for c in classes]
    encoded = encoder.encode([text for of_class in texts for text in of_class])
    blocks = np.split(encoded, np.cumsum([len(of_class) for of_class in texts])[:-1])
    sums = [b[0] + (b[1:].mean(axis=0) if len(b) > 1 else 0.0) for b in blocks]
    return unit_rows(np.stack(sums))


def pool_frames(features: Tensor) -> Tensor:
    """Mean and spread of a window's frame features: (F, D) -> (2 D,); one frame spreads by 0."""
    return torch.cat([features.mean(dim=0), features.std(dim=0, correction=0)])


def _require_trained_on(
    config: CheckpointConfig, audio: str | None, video: str | None, text: str | None
) -> None:
    """Raise BackboneError where another backbone or text encoder is wanted than was trained on."""
    if PRECOMPUTED in (config.audio_backbone, config.video_backbone):
        raise BackboneError(
            "the checkpoint was trained on feature files of backbones that are not known, so it "
            "cannot embed clips; evaluate it with `python -m model.evaluate`, or train one on a "
            "folder of clips to serve"
        )
    wanted = (
        ("audio backbone", audio and kind_of(audio), kind_of(config.audio_backbone)),
        ("video backbone", video and kind_of(video), kind_of(config.video_backbone)),
        ("text encoder", text, config.text_encoder),
    )
    for what, name, trained in wanted:
        if name not in (None, trained):
            options = {"audio-backbone": audio, "video-backbone": video, "text-encoder": text}
            spelled = "".join(f" --{key} {value}" for key, value in options.items() if value)
            raise BackboneError(
                f"the checkpoint was trained on the {what} {trained!r}, not {name!r}; leave the "
                "setting out, or train a head on it with `python -m model.train --features PATH"
                f"{spelled} --out DIR` and name DIR as the model{_frozen_advice(audio, video)}"
            )


def _served_calibration(config: CheckpointConfig) -> Calibration:
    """Return that of embeddings of unit length, which is how the service compares them."""
    if config.network.normalise:
        return config.calibration
    if config.unit_calibration is None:
        raise CheckpointError(
            "the checkpoint was calibrated on embeddings as they are, by an earlier version, and "
            "the service compares them by their directions; train it again with the same command "
            "(its states are kept, so that it takes seconds), or only evaluate it"
        )
    return config.unit_calibration


def _frozen_advice(audio: str | None, video: str | None) -> str:
    if audio and video and {kind_of(audio), kind_of(video)} <= set(TEXT_TOWERS):
        return "; or do without a trained head (AVGZSL_HEAD=frozen)"
    return ""


def _require_dims(
    checkpoint: Checkpoint, audio: AudioBackbone, video: VideoBackbone, text: TextEncoder
) -> None:
    network = checkpoint.config.network
    for what, got, wanted in (
        ("audio backbone", audio.dim, network.audio_dim),
        ("video backbone (mean and spread)", 2 * video.dim, network.video_dim),
        ("text encoder", text.dim, network.text_dim),
    ):
        if got != wanted:
            raise CheckpointError(
                f"the {what} gives {got} numbers, the checkpoint's network takes {wanted}; "
                "the checkpoint was made for another backbone"
            )
