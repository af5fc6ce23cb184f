"""What the training teachers hear and see in the clips: mn04 for sound, MobileNetV2 for pictures.

Both get what the service would: windows of 4 s of mono sound at 32 kHz, and two frames a second
whose shorter side is 128 pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.distillation.mn04 import load_teacher, read_class_names
from model.distillation.mobilenet import MobileNetTeacher
from samples.make_samples import decoded_sound
from samples.sounds import SAMPLE_RATE

WINDOW_SECONDS = 4.0
SHORTER_SIDE = 128


def print_answers(folder: Path, names: Sequence[str], teachers: Path) -> None:
    """Print a line for each clip, window and sense: the three likeliest names."""
    ear = _Ear(teachers)
    eye = MobileNetTeacher(teachers)
    for name in names:
        path = folder / name
        if not path.exists():
            print(f"{name}: not there")
            continue
        has_sound, has_pictures = _streams(path)
        if has_sound:
            for start_seconds, answer in ear.answers(path):
                print(f"{name:20} {start_seconds:3.0f} s  heard: {answer}")
        if has_pictures:
            for start_seconds, answer in _seen(path, eye):
                print(f"{name:20} {start_seconds:3.0f} s  seen:  {answer}")


class _Ear:
    def __init__(self, teachers: Path) -> None:
        torch.set_num_threads(1)
        self._network = load_teacher(teachers / "mn04_audioset.pt")
        self._names = read_class_names(teachers / "mn04_class_labels.csv")

    def answers(self, path: Path) -> list[tuple[float, str]]:
        """The names heard in each window, with the window's start in seconds."""
        samples = decoded_sound(path).astype(np.float32)
        size = round(WINDOW_SECONDS * SAMPLE_RATE)
        starts = range(0, max(len(samples) - size // 2, 1), size)
        return [(s / SAMPLE_RATE, self._named(samples[s : s + size])) for s in starts]

    def _named(self, samples: NDArray[np.float32]) -> str:
        mel = self._network.mel(torch.from_numpy(samples)[None])
        _, logits = self._network(mel)
        return _top_three(torch.sigmoid(logits)[0].numpy(), self._names)


def _seen(path: Path, eye: MobileNetTeacher) -> list[tuple[float, str]]:
    """The names seen in each window, by the mean of its frames' probabilities."""
    windows: dict[float, list[NDArray[np.float64]]] = {}
    for time_seconds, picture in _frames_at_two_a_second(path):
        start_seconds = time_seconds // WINDOW_SECONDS * WINDOW_SECONDS
        logits = eye.observe(np.asarray(picture)).logits.astype(np.float64)
        odds = np.exp(logits - logits.max())
        windows.setdefault(start_seconds, []).append(odds / odds.sum())
    names = [label.split(",")[0] for label in eye.labels]
    # A rest shorter than half a window is no window of its own.
    return [
        (start, _top_three(np.mean(rows, axis=0), names))
        for start, rows in windows.items()
        if len(rows) >= WINDOW_SECONDS or len(windows) == 1
    ]


def _frames_at_two_a_second(path: Path) -> list[tuple[float, Image.Image]]:
    kept: list[tuple[float, Image.Image]] = []
    with av.open(path) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= len(kept) / 2:
                picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
                factor = SHORTER_SIDE / min(picture.size)
                size = (round(picture.width * factor), round(picture.height * factor))
                kept.append((frame.time, picture.resize(size, Image.Resampling.BILINEAR)))
    return kept


def _streams(path: Path) -> tuple[bool, bool]:
    with av.open(path) as container:
        return bool(container.streams.audio), bool(container.streams.video)


def _top_three(scores: NDArray[np.floating], names: Sequence[str]) -> str:
    best = np.argsort(-scores)[:3]
    return ", ".join(f"{names[i]} {scores[i]:.2f}" for i in best)
