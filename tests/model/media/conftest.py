"""Makes small media files whose content tells its own time."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import OutputContainer
from numpy.typing import NDArray

BITS = 10
COLUMNS = BITS + 2
"""A picture is a white column, a black one, and its number in binary: one column a bit."""

CLOCK = Fraction(1, 1000)


@dataclass(frozen=True)
class Pictures:
    """What a rendered video track is like; by default picture number i is shown at i / rate."""

    count: int = 20
    rate: int = 10
    codec: str = "libx264"
    size: tuple[int, int] = (192, 64)
    pix_fmt: str = "yuv420p"
    start_seconds: float = 0.0
    times: Sequence[float] | None = None
    rotation: int = 0
    mirrored: bool = False
    options: Sequence[tuple[str, str]] = (("crf", "12"),)
    draw: Callable[[int, tuple[int, int]], NDArray[np.uint8]] | None = None


@dataclass(frozen=True)
class Sound:
    """What a rendered audio track is like: sines of (hertz, seconds) one after the other."""

    tones: Sequence[tuple[float, float]] = ((440.0, 2.0),)
    rate: int = 44100
    codec: str = "aac"
    layout: str = "stereo"
    start_seconds: float = 0.0
    amplitude: float = 0.5
    pause: tuple[float, float] | None = None
    """(at, for) seconds: a hole in the timestamps, without samples."""


def numbered(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw `number` in a picture of `size` (width, height)."""
    width, height = size
    bits = [1, 0] + [number >> bit & 1 for bit in range(BITS)]
    columns = np.repeat(np.array(bits, np.uint8) * 219 + 16, width // COLUMNS)
    row = np.pad(columns, (0, width - columns.size), mode="edge")
    return np.repeat(np.repeat(row[None, :, None], height, 0), 3, 2)


def number_in(pixels: NDArray[np.uint8]) -> int:
    """Read the number that `numbered` drew, after any scaling."""
    height, width, _ = pixels.shape
    centres = [int((column + 0.5) * width / COLUMNS) for column in range(COLUMNS)]
    white, black, *bits = (pixels[height // 2, centre].mean() > 128 for centre in centres)
    assert white, "the first column is white"
    assert not black, "the second column is black"
    return sum(bool(bit) << index for index, bit in enumerate(bits))


def sine(sound: Sound) -> NDArray[np.float32]:
    """Return the (N,) samples of all tones."""
    pieces = [
        np.sin(2 * np.pi * hertz * np.arange(round(seconds * sound.rate)) / sound.rate)
        for hertz, seconds in sound.tones
    ]
    return (sound.amplitude * np.concatenate(pieces)).astype(np.float32)


def pitch_of(samples: NDArray[np.float32], rate: int) -> float:
    """Return the loudest frequency in hertz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.argmax(spectrum) * rate / samples.size)


def _video_packets(container: OutputContainer, pictures: Pictures) -> Iterable[av.Packet]:
    stream = container.add_stream(
        pictures.codec, rate=pictures.rate, options=dict(pictures.options)
    )
    stream.width, stream.height = pictures.size
    stream.pix_fmt = pictures.pix_fmt
    stream.codec_context.thread_count = 1
    stream.codec_context.time_base = CLOCK
    if pictures.rotation or pictures.mirrored:
        stream.set_display_rotation(pictures.rotation, hflip=pictures.mirrored)
    draw = pictures.draw or numbered
    times = pictures.times or [index / pictures.rate for index in range(pictures.count)]

    def packets() -> Iterable[av.Packet]:
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw(number, pictures.size), format="rgb24")
            frame = frame.reformat(format=pictures.pix_fmt)
            frame.pts = round((time + pictures.start_seconds) / CLOCK)
            frame.time_base = CLOCK
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return packets()


def _audio_packets(container: OutputContainer, sound: Sound) -> Iterable[av.Packet]:
    stream = container.add_stream(sound.codec, rate=sound.rate, layout=sound.layout)
    channels = av.AudioLayout(sound.layout).nb_channels
    context = stream.codec_context
    converter = av.AudioResampler(context.format, sound.layout, sound.rate)
    samples = sine(sound)

    def packets() -> Iterable[av.Packet]:
        size = context.frame_size or 1024
        for first in range(0, samples.size, size):
            piece = np.repeat(samples[first : first + size, None], channels, 1)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(piece.reshape(1, -1)), format="flt", layout=sound.layout
            )
            frame.rate = sound.rate
            offset = sound.start_seconds
            if sound.pause is not None and first >= sound.pause[0] * sound.rate:
                offset += sound.pause[1]
            for converted in converter.resample(frame):
                converted.pts = first + round(offset * sound.rate)
                converted.time_base = Fraction(1, sound.rate)
                yield from stream.encode(converted)
        yield from stream.encode(None)

    return packets()


Render = Callable[..., Path]


@contextmanager
def _priority_kept() -> Iterator[None]:
    """Take back the real-time priority that SVT-AV1, run as root, leaves to the calling thread.

    All that later tests start would inherit it, and two busy processes of it starve the machine.
    """
    if not hasattr(os, "sched_getscheduler"):  # only Linux has it
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Return a function that writes a file of the given tracks and returns its path."""

    def write(
        name: str,
        *,
        pictures: Pictures | None = None,
        sound: Sound | None = None,
        format: str | None = None,
        cover: bytes | None = None,
    ) -> Path:
        path = tmp_path / name
        with _priority_kept(), av.open(str(path), "w", format=format) as container:
            tracks = []
            if pictures is not None:
                tracks.append(_video_packets(container, pictures))
            if sound is not None:
                tracks.append(_audio_packets(container, sound))
            if cover is not None:
                tracks.append(_cover_packets(container, cover))
            packets = [packet for track in tracks for packet in track]
            for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
                container.mux(packet)
        return path

    return write


def _cover_packets(container: OutputContainer, cover: bytes) -> Iterable[av.Packet]:
    stream = container.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic
    packet = av.Packet(cover)
    packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 1)
    return [packet]
