"""Samples of the bundled model's training: window features with soft and true labels.

Sound: mixtures and crops of recordings, heard by the audio backbone and by its teacher. Pictures:
crops of photographs, pooled as the frames of a window are. Held-out rows carry true labels only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model.backbones.compact_audio import CompactAudio
from model.backbones.compact_video import CompactVideo
from model.distillation.audio import AUDIOSET_NAMES, Clip, Mixer, load_clips
from model.distillation.label_space import ADDED_SOUNDS, LabelSpace, build_label_space
from model.distillation.mn04 import load_teacher, read_class_names
from model.distillation.mobilenet import CLASS_COUNT, MobileNetTeacher
from model.distillation.video import (
    CALTECH,
    PHOTOGRAPH,
    THUMBNAIL,
    Pictures,
    Targets,
    correct_teacher,
    load_pictures,
    random_crop,
    teacher_targets,
)
from model.embedder import pool_frames

AUDIO_MIXTURES = 8_000
AUDIO_CROPS_PER_CLIP = 4
VIDEO_VIEWS = {THUMBNAIL: 1, PHOTOGRAPH: 6, CALTECH: 3}
TRUE_LABEL_SHARE = {THUMBNAIL: 0.7, PHOTOGRAPH: 0.3, CALTECH: 0.6}
AUDIO_TRUE_LABEL_SHARE = 0.5

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
    """Features of mixtures and crops, with the teacher's and the true labels as targets."""
    teacher = load_teacher(data / "teachers" / "mn04_audioset.pt")
    names = read_class_names(data / "teachers" / "mn04_class_labels.csv")
    clips = load_clips(data, cache)
    window = backbone.config.window_samples
    rng = np.random.default_rng(0)
    mixer = Mixer([c for c in clips if not c.held_out], window, seed=0)
    columns = np.unique(np.concatenate([space.audioset, space.added_sounds]))
    place = {int(c): k for k, c in enumerate(columns)}
    features, targets, held_out, labelled = [], [], [], []

    def add(waveforms: Sequence[NDArray[np.float32]], clip: Clip | None) -> None:
        batch = torch.from_numpy(np.stack([backbone.prepare(w) for w in waveforms]))
        features.append(backbone.features(batch).numpy())
        probability = teacher(teacher.mel(batch))[1].sigmoid().numpy()
        soft = np.zeros((len(waveforms), len(columns)), np.float32)
        soft[:, [place[int(c)] for c in space.audioset]] = probability
        soft /= soft.sum(axis=1, keepdims=True)
        true = [] if clip is None else [place[c] for c in _true_sounds(clip, names, space)]
        if true:
            hard = np.zeros(len(columns), np.float32)
            hard[true] = 1 / len(true)
            share = 1.0 if clip is not None and clip.held_out else AUDIO_TRUE_LABEL_SHARE
            soft = (1 - share) * soft + share * hard
        targets.append(soft)
        held_out.extend([clip is not None and clip.held_out] * len(waveforms))
        labelled.extend([bool(true)] * len(waveforms))

    for _ in tqdm(range(AUDIO_MIXTURES // 8), desc="mixtures"):
        add([mixer.draw() for _ in range(8)], None)
    for clip in tqdm(clips, desc="clips"):
        count = 1 if clip.held_out else AUDIO_CROPS_PER_CLIP
        if clip.samples.size:
            add([_crop(clip, window, rng, first=clip.held_out) for _ in range(count)], clip)
    return Table(
        np.concatenate(features),
        np.concatenate(targets),
        columns,
        np.array(held_out),
        np.array(labelled),
    )


def _true_sounds(clip: Clip, names: Sequence[str], space: LabelSpace) -> list[int]:
    """Classes that a labelled clip belongs to; none for a collection without labels."""
    if clip.label in ADDED_SOUND_FOLDERS:
        return [int(space.added_sounds[ADDED_SOUNDS.index(ADDED_SOUND_FOLDERS[clip.label])])]
    known = AUDIOSET_NAMES.get(clip.group, {}).get(clip.label, ())
    return [int(space.audioset[names.index(name)]) for name in known]


def _crop(clip: Clip, window: int, rng: np.random.Generator, *, first: bool) -> NDArray[np.float32]:
    """One window of a clip, the first or a random one, with a random gain unless first."""
    start = 0 if first else int(rng.integers(max(1, clip.samples.size - window + 1)))
    samples = clip.samples[start : start + window].astype(np.float32) / 32768.0
    return samples if first else samples * np.float32(10 ** rng.uniform(-1.0, 0.0))


# --- features of pictures ------------------------------------------------------------------------


@torch.inference_mode()
def video_table(
    pictures: Pictures, teacher: Targets, backbone: CompactVideo, space: LabelSpace
) -> Table:
    """Features of imagined windows: one to four crops of a picture, pooled as frames are."""
    rng = np.random.default_rng(0)
    columns = np.unique(np.concatenate([space.imagenet, space.caltech]))
    place = {int(c): k for k, c in enumerate(columns)}
    class_of_label = np.concatenate([space.imagenet, space.caltech])
    imagenet_places = np.array([place[int(c)] for c in space.imagenet])
    logits = correct_teacher(teacher.logits, pictures.labels).astype(np.float32)
    size = backbone.frame_size
    features, targets, held_out = [], [], []
    for row in tqdm(range(len(pictures.pixels)), desc="pictures"):
        source = int(pictures.source[row])
        soft = np.zeros(len(columns), np.float32)
        soft[imagenet_places] = torch.from_numpy(logits[row]).softmax(0).numpy()
        hard = np.zeros(len(columns), np.float32)
        hard[place[int(class_of_label[pictures.labels[row]])]] = 1.0
        share = 1.0 if pictures.held_out[row] else TRUE_LABEL_SHARE[source]
        target = (1 - share) * soft + share * hard
        for _ in range(1 if pictures.held_out[row] else VIDEO_VIEWS[source]):
            if pictures.held_out[row]:
                frames = [backbone.prepare(pictures.pixels[row])]
            else:
                frames = [
                    random_crop(
                        pictures.pixels[row], size, degrade=source != THUMBNAIL, rng=rng
                    ).transpose(2, 0, 1)
                    for _ in range(int(rng.integers(1, 5)))
                ]
            batch = torch.from_numpy(np.ascontiguousarray(np.stack(frames)))
            features.append(pool_frames(backbone.features(batch)).numpy())
            targets.append(target)
            held_out.append(bool(pictures.held_out[row]))
    held = np.array(held_out)
    return Table(np.stack(features), np.stack(targets), columns, held, np.ones_like(held))


def load_or_build_tables(data: Path, backbones: Path, out: Path) -> tuple[Table, Table, LabelSpace]:
    """Compute both tables and the label space; the tables are kept in `out/features.npz`."""
    mobilenet = MobileNetTeacher(data / "teachers")
    pictures = load_pictures(data / "images", mobilenet.labels)
    folders = [name.replace(" ", "_") for name in pictures.names[CLASS_COUNT:]]
    space = build_label_space(data / "teachers", folders)
    cache = out / "features.npz"
    if not cache.is_file():
        answers = teacher_targets(pictures, mobilenet, out / "teacher_targets.npz")
        video = video_table(pictures, answers, CompactVideo.load(backbones), space)
        audio = audio_table(data, CompactAudio.load(backbones), space, out / "clips.npz")
        columns = {
            f"{name}_{field}": getattr(table, field)
            for name, table in (("audio", audio), ("video", video))
            for field in Table.__dataclass_fields__
        }
        np.savez(out / "features.partial.npz", **columns)
        (out / "features.partial.npz").replace(cache)
    with np.load(cache) as stored:
        audio, video = (
            Table(*(stored[f"{name}_{field}"] for field in Table.__dataclass_fields__))
            for name in ("audio", "video")
        )
    return audio, video, space
