"""Sound of any rate, format and layout, as mono float32 blocks at one rate."""

import errno
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import cast

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from numpy.typing import NDArray

from model.errors import ModalityMissing
from model.media.decode import Clock, Tally, TrackReport, counting_damage, packets, prepare
from model.media.limits import Budget, MediaLimits
from model.media.probe import MAX_SAMPLE_RATE, MediaInfo, open_container, probe
from model.media.types import AudioBlock

BLOCK_SAMPLES = 8192
"""Of a block at most."""

_TIMESTAMP_TOLERANCE_SECONDS = 0.1
"""Timestamps are rounded and clocks drift; only a larger step is a hole in the sound."""


def read_audio(
    path: Path,
    *,
    sample_rate: int,
    limits: MediaLimits,
    info: MediaInfo | None = None,
    budget: Budget | None = None,
) -> Generator[AudioBlock, None, TrackReport]:
    """Yield the sound of the file at `path` in order, mixed to mono at `sample_rate` per second.

    The blocks' `start_seconds` are on the clip's clock, whose 0 is the start of the file's first
    track. Where the track has a hole or starts late, the next block starts later: silence is not
    made up. The channels are averaged with equal weights, which cannot clip and needs no layout.

    Args:
        path: the media file.
        sample_rate: of the blocks, in samples per second.
        limits: what the file may cost.
        info: the result of `probe`, where it is known already.
        budget: the account of this decode, shared with `read_frames`; by default a new one.

    Returns:
        A report at the end of the track (the value of the StopIteration).

    Raises:
        ModalityMissing: the file has no sound that can be read.
        DurationTooLong, DecodeTimeout: the sound goes over the limits.
        EmptyFile, FileTooLarge, UnsupportedMedia, TooManyStreams: as `open_container` does.
    """
    budget = budget or Budget(limits)
    info = info or probe(path, limits, budget=budget)
    if info.audio is None:
        raise ModalityMissing(f"The file cannot be heard: {info.audio_reason}.")
    tally = Tally("sound")
    mixdown = _Mixdown(Clock(info, budget, tally), budget, sample_rate)
    with open_container(path, limits, budget=budget) as container:
        stream = cast(AudioStream, container.streams[info.audio.index])
        prepare(container, stream, budget)
        for packet in packets(container, stream, budget, tally):
            with counting_damage(packet, tally):
                for frame in stream.decode(packet):
                    yield from mixdown.take(frame)
    yield from mixdown.flush()
    return tally.report(end_seconds=mixdown.end_seconds, delivered=mixdown.has_begun)


class _Mixdown:
    """Lays frames of any format on the clip's clock and turns them into mono blocks."""

    def __init__(self, clock: Clock, budget: Budget, sample_rate: int) -> None:
        self.end_seconds = 0.0
        self.has_begun = False
        self._clock = clock
        self._budget = budget
        self._sample_rate = sample_rate
        self._run: _Run | None = None

    def take(self, frame: AudioFrame) -> Iterator[AudioBlock]:
        if not frame.samples or not 0 < frame.sample_rate <= MAX_SAMPLE_RATE:
            return
        start = self._start_of(frame)
        end = start + frame.samples / frame.sample_rate
        self._budget.charge_media(end)
        if start != self.end_seconds or self._run is None or not self._run.fits(frame):
            yield from self.flush()
            self._run = _Run(frame, start, self._sample_rate)
        self.end_seconds = end
        self.has_begun = True
        yield from self._run.push(frame)

    def flush(self) -> Iterator[AudioBlock]:
        run, self._run = self._run, None
        if run is not None:
            yield from run.push(None)

    def _start_of(self, frame: AudioFrame) -> float:
        earliest = self.end_seconds - _TIMESTAMP_TOLERANCE_SECONDS
        start = self._clock.place(frame.time, self.end_seconds, earliest=earliest)
        is_next = start <= self.end_seconds + _TIMESTAMP_TOLERANCE_SECONDS
        return self.end_seconds if is_next else start


class _Run:
    """A stretch of sound without holes in one format: frames in, mono blocks out."""

    def __init__(self, frame: AudioFrame, start_seconds: float, sample_rate: int) -> None:
        self._format = _format_of(frame)
        self._sample_rate = sample_rate
        self._next_sample = round(start_seconds * sample_rate)
        self._mixer = _mixer(frame, sample_rate)

    def fits(self, frame: AudioFrame) -> bool:
        return _format_of(frame) == self._format

    def push(self, frame: AudioFrame | None) -> Iterator[AudioBlock]:
        """Mix `frame`, or flush the mixer at the end (None)."""
        if frame is not None:
            # The samples are counted instead: FFmpeg's mixer would stumble over odd timestamps.
            frame.pts = None
        self._mixer.push(frame)
        return self._pull()

    def _pull(self) -> Iterator[AudioBlock]:
        while (frame := _next_frame(self._mixer)) is not None:
            samples = _clean(frame.to_ndarray()[0])
            yield AudioBlock(self._next_sample / self._sample_rate, samples)
            self._next_sample += samples.size


def _format_of(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _mixer(frame: AudioFrame, sample_rate: int) -> Graph:
    """Return a filter graph from frames like `frame` to mono float at `sample_rate`.

    `pan` mixes by channel number, so it takes layouts that FFmpeg's own downmix refuses, clips (16
    channels) or drops channels of.
    """
    channels = frame.layout.nb_channels
    mean = "+".join(f"{1 / channels:.9f}*c{channel}" for channel in range(channels))
    graph = Graph()
    graph.threads = 1
    filters = (
        graph.add(
            "abuffer",
            sample_rate=str(frame.sample_rate),
            sample_fmt=frame.format.name,
            channel_layout=frame.layout.name,
            time_base=f"1/{frame.sample_rate}",
        ),
        graph.add("pan", f"mono|c0={mean}"),
        graph.add(
            "aformat", sample_rates=str(sample_rate), sample_fmts="flt", channel_layouts="mono"
        ),
        # Codecs' frames are short, and each block costs more in Python than it took to decode.
        graph.add("asetnsamples", n=str(BLOCK_SAMPLES), p="0"),
        graph.add("abuffersink"),
    )
    graph.link_nodes(*filters).configure()
    return graph


def _next_frame(graph: Graph) -> AudioFrame | None:
    try:
        return cast(AudioFrame, graph.pull())
    except av.error.EOFError:
        return None
    except av.error.FFmpegError as error:
        if error.errno == errno.EAGAIN:
            return None
        raise


def _clean(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N,) samples within [-1, 1]: float files hold louder ones, infinities and NaN."""
    clipped = np.clip(samples, -1.0, 1.0)
    clipped[np.isnan(clipped)] = 0.0
    return clipped
