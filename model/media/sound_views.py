"""What the sound of a file looks like: its waveform, and its spectrogram as a picture.

Generator functions that yield nothing and return their result, for a decoding process. Memory does
not grow with the file's length: whenever there are twice as many cells as are wanted, neighbours
are merged.
"""

import io
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Never

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from model.errors import ModalityMissing
from model.media.audio import read_audio
from model.media.limits import MAX_BUCKETS, MAX_WIDTH, MediaLimits

SAMPLE_RATE = 16_000
"""Of the sound that is looked at: what lies above 8 kHz is not shown."""

_FRAME = 1024
_HOP = 256
_LOWEST_HERTZ = 40.0
_SHOWN_DECIBELS = 80.0
"""Below the loudest; all that is quieter is black."""

_ANCHORS = np.array(
    [(0, 0, 4), (65, 10, 92), (153, 37, 92), (229, 92, 48), (251, 180, 42), (252, 255, 164)], float
)
"""Colours from quiet to loud, evenly spaced: ever lighter, so that they read without colour too."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Waveform:
    """Lowest and highest sample, (B,) float32 in [-1, 1], of B equal parts of the sound.

    B may be less than was asked for, where there are fewer samples. `duration_seconds` counts from
    the start of the file's first track to the end of its sound.
    """

    lowest: Floats
    highest: Floats
    duration_seconds: float


def read_waveform(
    path: Path, limits: MediaLimits, buckets: int
) -> Generator[Never, None, Waveform]:
    """Return the waveform of the file at `path` in `buckets` parts, 1 to MAX_BUCKETS.

    Raises:
        ModalityMissing: the file has no sound that can be decoded.
        MediaError: as `read_audio` does.
    """
    yield from ()
    cells = _Cells(2 * MAX_BUCKETS, _extremes)
    samples = 0
    for piece in _continuous(path, limits):
        samples += piece.size
        cells.add(np.stack([piece, piece], axis=1))
    rows = cells.rows()
    buckets = min(buckets, len(rows))
    starts = np.arange(buckets) * len(rows) // buckets
    return Waveform(
        lowest=np.minimum.reduceat(rows[:, 0], starts),
        highest=np.maximum.reduceat(rows[:, 1], starts),
        duration_seconds=samples / SAMPLE_RATE,
    )


def draw_spectrogram(
    path: Path, limits: MediaLimits, width: int, height: int
) -> Generator[Never, None, bytes]:
    """Return a PNG, `width` by `height` pixels, of the log-mel spectrogram: low sounds at the foot.

    Raises:
        ModalityMissing: the file has no sound that can be decoded.
        MediaError: as `read_audio` does.
    """
    yield from ()
    filters = _mel_filters(height)
    window = np.hanning(_FRAME).astype(np.float32)
    cells = _Cells(MAX_WIDTH, lambda groups: groups.mean(axis=1))
    rest = np.zeros(_FRAME // 2, np.float32)
    for piece in _continuous(path, limits):
        rest = np.concatenate([rest, piece])
        while rest.size >= _FRAME:
            taken, rest = _frames(rest)
            cells.add(np.abs(np.fft.rfft(taken * window)).astype(np.float32) ** 2 @ filters)
    frames, _ = _frames(np.concatenate([rest, np.zeros(_FRAME, np.float32)]))
    cells.add(np.abs(np.fft.rfft(frames[:1] * window)).astype(np.float32) ** 2 @ filters)
    decibels = 10 * np.log10(np.maximum(cells.rows().T[::-1], 1e-10))
    level = np.clip(1 + (decibels - decibels.max()) / _SHOWN_DECIBELS, 0, 1)
    grey = Image.fromarray(np.round(255 * level).astype(np.uint8))
    picture = grey.resize((width, height), Image.Resampling.BOX)
    picture.putpalette(_palette())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _continuous(path: Path, limits: MediaLimits) -> Iterator[Floats]:
    """Yield all samples from 0 s on, some second at a time at most; holes are silence."""
    blocks = read_audio(path, sample_rate=SAMPLE_RATE, limits=limits)
    position = 0
    while True:
        try:
            block = next(blocks)
        except StopIteration as stop:
            if stop.value.failure is not None:
                raise ModalityMissing(f"The file cannot be heard: {stop.value.failure}.") from None
            return
        start = round(block.start_seconds * SAMPLE_RATE)
        while position < start:
            gap = min(start - position, SAMPLE_RATE)
            yield np.zeros(gap, np.float32)
            position += gap
        samples = block.samples[max(0, position - start) :]
        if samples.size:
            yield samples
            position += samples.size


def _frames(samples: Floats) -> tuple[Floats, Floats]:
    """Cut (N >= _FRAME,) samples into (K, _FRAME) overlapping frames, and what is left for more."""
    frames = sliding_window_view(samples, _FRAME)[::_HOP]
    return frames, samples[len(frames) * _HOP :]


class _Cells:
    """A stream of rows (D,), condensed to fewer than `limit` cells, each of equally many rows."""

    def __init__(self, limit: int, reduce: Callable[[Floats], Floats]) -> None:
        self._limit = 2 * limit
        self._reduce = reduce
        self._per_cell = 1
        self._cells: Floats | None = None
        self._rest: Floats | None = None

    def add(self, rows: Floats) -> None:
        """Take (N, D) rows in."""
        if self._rest is not None:
            rows = np.concatenate([self._rest, rows])
        while True:
            room = self._limit - (0 if self._cells is None else len(self._cells))
            groups = min(room, len(rows) // self._per_cell)
            taken, rows = np.split(rows, [groups * self._per_cell])
            if groups:
                self._append(self._reduced(taken, self._per_cell))
            if self._cells is None or len(self._cells) < self._limit:
                break
            self._cells = self._reduced(self._cells, 2)
            self._per_cell *= 2
        self._rest = rows.copy()

    def rows(self) -> Floats:
        """Return the cells, the last of which may be of fewer rows."""
        if self._rest is not None and len(self._rest):
            self._append(self._reduced(self._rest, len(self._rest)))
            self._rest = None
        assert self._cells is not None, "decoding says so where there is no sample"
        return self._cells

    def _append(self, cells: Floats) -> None:
        self._cells = cells if self._cells is None else np.concatenate([self._cells, cells])

    def _reduced(self, rows: Floats, size: int) -> Floats:
        return self._reduce(rows.reshape(-1, size, rows.shape[1]))


def _extremes(groups: Floats) -> Floats:
    """(G, N, 2) pairs of lowest and highest -> (G, 2)."""
    return np.stack([groups[:, :, 0].min(axis=1), groups[:, :, 1].max(axis=1)], axis=1)


def _mel_filters(bands: int) -> Floats:
    """Triangles (bins, bands), evenly spaced on O'Shaughnessy's mel scale, no two of them empty."""
    mels = np.linspace(_mel(_LOWEST_HERTZ), _mel(SAMPLE_RATE / 2), bands + 2)
    corners = 700 * (10 ** (mels / 2595) - 1)
    bins = np.fft.rfftfreq(_FRAME, 1 / SAMPLE_RATE)[:, None]
    spacing = SAMPLE_RATE / _FRAME
    # Where bands are narrower than the bins are apart, each still takes the two bins beside it.
    low = np.minimum(corners[:-2], corners[1:-1] - spacing)
    high = np.maximum(corners[2:], corners[1:-1] + spacing)
    middle = corners[1:-1]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)), np.float32)


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _palette() -> list[int]:
    places = np.linspace(0, len(_ANCHORS) - 1, 256)
    channels = [np.interp(places, np.arange(len(_ANCHORS)), c) for c in _ANCHORS.T]
    return [int(value) for value in np.stack(channels, axis=1).round().ravel()]
