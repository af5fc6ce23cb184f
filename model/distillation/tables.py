"""Samples of the bundled model's training: window features with soft and true labels.

Sound: mixtures and crops of recordings. The audio backbone itself labels what it hears: its scores
were taught by two teachers and by true labels, which speak once more here. Pictures: crops of
photographs, pooled as the frames of a window are. Held-out rows carry true labels only.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.backbones.compact_audio import CompactAudio
from model.backbones.compact_video import CompactVideo
from model.distillation.augmentation import random_crop
from model.distillation.label_space import ADDED_SOUNDS, LabelSpace, build_label_space
from model.distillation.mixtures import Mixer, degrade
from model.distillation.mn04 import read_class_names
from model.distillation.mobilenet import CLASS_COUNT, MobileNetTeacher
from model.distillation.pictures import (
    CALTECH,
    PHOTOGRAPH,
    THUMBNAIL,
    Pictures,
    Targets,
    correct_teacher,
    load_pictures,
    teacher_targets,
)
from model.distillation.sounds import AUDIOSET_NAMES, Clip, load_clips
from model.embedder import pool_frames

BATCH_SIZE = 16
AUDIO_MIXTURES = 4_000
AUDIO_CROPS_PER_CLIP = 4
VIDEO_VIEWS = {THUMBNAIL: 1, PHOTOGRAPH: 6, CALTECH: 3}
# Every second thumbnail is enough for two layers, and the backbone takes most of the time.
THUMBNAIL_STRIDE = 2
TRUE_LABEL_SHARE = {THUMBNAIL: 0.7, PHOTOGRAPH: 0.3, CALTECH: 0.6}
AUDIO_TRUE_LABEL_SHARE = 0.5
# Share of pictures that stand for a still, or for a clip of two frames, or three.
FRAME_SHARES = (0.65, 0.25, 0.1)

# Collections that hold one kind of sound -> the AudioSet class that it is.
UNIFORM_COLLECTIONS = {"speech_digits": "Speech"}

# Folders whose sound AudioSet does not name well -> the class that does.
ADDED_SOUND_FOLDERS = {"donkey": "Donkey", "lion": "Lion", "monkey": "Monkey"}


@dataclass(frozen=True)
class Table:
    """Samples of one modality.

    Attributes:
        features: (N, D) float32 window-level features.
        targets: (N, K) float32 probabilities over `columns`.
        columns: (K,) int64, the classes that this modality's labels speak of.
        held_out: (N,) bool: validation.
        labelled: (N,) bool: `targets` of a validation row is a true label, not a teacher's guess.
    """

    features: NDArray[np.float32]
    targets: NDArray[np.float32]
    columns: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    labelled: NDArray[np.bool_]


# --- features of sound ---------------------------------------------------------------------------


@torch.inference_mode()
def audio_table(data: Path, backbone: CompactAudio, space: LabelSpace, cache: Path) -> Table:
    """Features of windows as heard, with what is said of them clean and true labels as targets."""
    names = read_class_names(data / "teachers" / "mn04_class_labels.csv")
    clips = [clip for clip in load_clips(data, cache) if clip.samples.size]
    columns = np.unique(np.concatenate([space.audioset, space.added_sounds]))
    audioset_places = np.searchsorted(columns, space.audioset)
    features, targets, sources = [], [], []
    windows = _sound_windows(clips, backbone.config.window_samples)
    total = AUDIO_MIXTURES + sum(_crops(clip) for clip in clips)
    with tqdm(total=total, desc="sounds", mininterval=5) as bar:
        for batch in batched(windows, BATCH_SIZE):
            heard = torch.from_numpy(np.stack([backbone.prepare(w.heard) for w in batch]))
            clean = torch.from_numpy(np.stack([backbone.prepare(w.clean) for w in batch]))
            features.append(backbone.features(heard).numpy())
            probability = backbone.scores(clean).sigmoid().numpy()
            soft = np.zeros((len(batch), len(columns)), np.float32)
            # Two names of AudioSet may be one class.
            np.add.at(
                soft.T,
                audioset_places,
                (probability / probability.sum(axis=1, keepdims=True)).T,
            )
            for row, window in zip(soft, batch, strict=True):
                clip = window.clip
                true = [] if clip is None else true_sounds(clip.group, clip.label, names, space)
                _mix_in_true_labels(row, np.searchsorted(columns, true), _true_share(clip))
                sources.append((clip is not None and clip.held_out, bool(true)))
            targets.append(soft)
            bar.update(len(batch))
    held_out, labelled = np.array(sources).T
    return Table(np.concatenate(features), np.concatenate(targets), columns, held_out, labelled)


class SoundWindow(NamedTuple):
    """A window as it is and as it is heard, float32, and its clip where that says what it is."""

    clean: NDArray[np.float32]
    heard: NDArray[np.float32]
    clip: Clip | None


def _sound_windows(clips: Sequence[Clip], length: int) -> Iterator[SoundWindow]:
    """Yield mixtures of training clips, then crops of each clip; half of them degraded."""
    rng = np.random.default_rng(0)
    mixer = Mixer([clip for clip in clips if not clip.held_out], length, seed=0)
    for _ in range(AUDIO_MIXTURES):
        mixture = mixer.mix()
        clip = mixture.main if mixture.alone else None
        yield SoundWindow(mixture.waveform, degrade(rng, mixture.waveform), clip)
    for clip in clips:
        for index in range(_crops(clip)):
            clean = _crop(clip, length, rng)
            heard = degrade(rng, clean) if index % 2 and clean.any() else clean
            yield SoundWindow(clean, heard, clip)


def _crops(clip: Clip) -> int:
    return 1 if clip.held_out else AUDIO_CROPS_PER_CLIP


def _crop(clip: Clip, length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """First window of a held-out clip; a random one of another, at a random loudness."""
    start = 0 if clip.held_out else int(rng.integers(max(1, clip.samples.size - length + 1)))
    samples = clip.samples[start : start + length].astype(np.float32) / 32768.0
    return samples if clip.held_out else samples * np.float32(10 ** rng.uniform(-1.0, 0.0))


def true_sounds(group: str, label: str, names: Sequence[str], space: LabelSpace) -> list[int]:
    """Classes that a collection's clips of a label belong to; none where it has no labels.

    `names` are AudioSet's, as `read_class_names` returns them.
    """
    if label in ADDED_SOUND_FOLDERS:
        return [int(space.added_sounds[ADDED_SOUNDS.index(ADDED_SOUND_FOLDERS[label])])]
    if group in UNIFORM_COLLECTIONS:
        return [int(space.audioset[names.index(UNIFORM_COLLECTIONS[group])])]
    known = AUDIOSET_NAMES.get(group, {}).get(label, ())
    return [int(space.audioset[names.index(name)]) for name in known]


def _true_share(clip: Clip | None) -> float:
    return 1.0 if clip is not None and clip.held_out else AUDIO_TRUE_LABEL_SHARE


def _mix_in_true_labels(target: NDArray[np.float32], true: NDArray[np.int64], share: float) -> None:
    """Give `share` of a target (K,) to the true places, in place; nothing where there are none."""
    if len(true):
        target *= 1 - share
        target[true] += share / len(true)


# --- features of pictures ------------------------------------------------------------------------


@torch.inference_mode()
def video_table(
    pictures: Pictures, teacher: Targets, backbone: CompactVideo, space: LabelSpace
) -> Table:
    """Features of imagined windows, pooled as frames are, with soft and true labels as targets."""
    class_of_label = np.concatenate([space.imagenet, space.caltech])
    columns = np.unique(class_of_label)
    imagenet_places = np.searchsorted(columns, space.imagenet)
    label_places = np.searchsorted(columns, class_of_label)[pictures.labels]
    logits = correct_teacher(teacher.logits, pictures.labels)
    features, targets, held_out = [], [], []
    total = sum(_views(pictures, row) for row in range(len(pictures.pixels)))
    with tqdm(total=total, desc="pictures", mininterval=5) as bar:
        for batch in batched(_picture_windows(pictures, backbone), BATCH_SIZE):
            frames = torch.from_numpy(np.concatenate([frames for _, frames in batch]))
            parts = torch.split(backbone.features(frames), [len(frames) for _, frames in batch])
            features += [pool_frames(part).numpy() for part in parts]
            for row, _ in batch:
                soft = np.zeros(len(columns), np.float32)
                soft[imagenet_places] = torch.from_numpy(logits[row]).float().softmax(0).numpy()
                is_held_out = bool(pictures.held_out[row])
                share = 1.0 if is_held_out else TRUE_LABEL_SHARE[int(pictures.source[row])]
                _mix_in_true_labels(soft, label_places[row : row + 1], share)
                targets.append(soft)
                held_out.append(is_held_out)
            bar.update(len(batch))
    held = np.array(held_out)
    return Table(np.stack(features), np.stack(targets), columns, held, np.ones_like(held))


def _views(pictures: Pictures, row: int) -> int:
    source = int(pictures.source[row])
    if pictures.held_out[row]:
        return 1
    return 0 if source == THUMBNAIL and row % THUMBNAIL_STRIDE else VIDEO_VIEWS[source]


def _picture_windows(
    pictures: Pictures, backbone: CompactVideo
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (row, frames (F, 3, S, S)): a held-out picture as served, another as crops."""
    rng = np.random.default_rng(0)
    for row, pixels in enumerate(pictures.pixels):
        if pictures.held_out[row]:
            yield row, backbone.prepare(pixels)[None]
            continue
        degrade = int(pictures.source[row]) != THUMBNAIL
        for _ in range(_views(pictures, row)):
            crops = [
                random_crop(pixels, backbone.frame_size, degrade=degrade, rng=rng)
                for _ in range(1 + int(rng.choice(len(FRAME_SHARES), p=FRAME_SHARES)))
            ]
            yield row, np.stack(crops).transpose(0, 3, 1, 2)


T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Group items, `size` at a time; the last group may be smaller."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


# --- both ----------------------------------------------------------------------------------------


def load_or_build_tables(data: Path, backbones: Path, out: Path) -> tuple[Table, Table, LabelSpace]:
    """Compute both tables and the label space; each table is kept in `out` once it is whole."""
    mobilenet = MobileNetTeacher(data / "teachers")
    pictures = load_pictures(data / "images", mobilenet.labels)
    folders = [name.replace(" ", "_") for name in pictures.names[CLASS_COUNT:]]
    space = build_label_space(data / "teachers", folders)

    def make_audio() -> Table:
        return audio_table(data, CompactAudio.load(backbones), space, out / "clips.npz")

    def make_video() -> Table:
        answers = teacher_targets(pictures, mobilenet, out / "teacher_targets.npz")
        return video_table(pictures, answers, CompactVideo.load(backbones), space)

    audio = _cached(out / "audio_features.npz", make_audio)
    return audio, _cached(out / "video_features.npz", make_video), space


def _cached(path: Path, make: Callable[[], Table]) -> Table:
    if not path.is_file():
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **vars(make()))
        partial.replace(path)
    with np.load(path) as stored:
        return Table(**stored)
