"""A clip as windows: sound and pictures joined on one clock, chunk by chunk with flat memory."""

import io
import itertools
import math
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.errors import EncryptedMedia, MediaError, ModalityMissing, NoAudioOrVideo
from model.media.audio import read_audio
from model.media.decode import TrackReport
from model.media.limits import Budget, MediaLimits
from model.media.probe import MediaInfo, probe
from model.media.types import (
    AudioBlock,
    ClipChunk,
    ClipSummary,
    DecodeSpec,
    Modality,
    ModalityChoice,
    ModalityUse,
    VideoFrame,
)
from model.media.video import read_frames

_ItemT = TypeVar("_ItemT", AudioBlock, VideoFrame)

_SILENCE_PEAK = 10 ** (-70 / 20)
"""Loudest sample of a window that counts as silent: -70 dBFS, above the dither of 16 bits."""

_BLANK_SPREAD = 12
"""Range of luma, of 255, within which a picture shows nothing: black or white with coding noise."""

_SLACK = 0.05
"""Share of a window by which a clip may be longer without another, nearly equal window."""

_THUMBNAIL_TARGETS = 4.5
"""Pictures that a thumbnail is chosen from; the second lies at a third of the clip."""


class ClipReader:
    """Reads one media file window by window; opening it looks at the header only.

    Attributes:
        info: what the file declares.

    Raises:
        EmptyFile, FileTooLarge, UnsupportedMedia, TooManyStreams, DecodeTimeout: as
            `open_container` does.
        ModalityMissing: the file lacks the modality that was asked for.
        EncryptedMedia: every track that could be used is encrypted.
        NoAudioOrVideo: there is neither sound nor picture to decode.
        FrameTooLarge: the pictures are over the limit.
    """

    def __init__(
        self,
        path: Path,
        spec: DecodeSpec,
        limits: MediaLimits,
        modality: ModalityChoice = "auto",
    ) -> None:
        budget = Budget(limits)
        self.info = probe(path, limits, budget=budget)
        self._opening_seconds = budget.elapsed_seconds
        self._path = path
        self._spec = spec
        self._limits = limits
        self._modality = modality
        self._summary: ClipSummary | None = None
        self._obstacles = _obstacles(self.info, modality)
        _require_track(self.info, modality, self._obstacles)
        if self.info.video is not None and "video" not in self._obstacles:
            budget.charge_frame(self.info.video.width, self.info.video.height)

    def chunks(self, windows_per_chunk: int = 32) -> Iterator[ClipChunk]:
        """Decode the clip and yield its windows in order, `windows_per_chunk` at a time.

        At most one chunk and one window are in memory. Frames in the overlap of two chunks are in
        both. The time limit counts decoding only, not what the consumer does between chunks.

        Raises:
            NoAudioOrVideo: no sample of sound or picture could be decoded.
            EncryptedMedia: the same, because they are encrypted.
            ModalityMissing: the same, where one modality was asked for.
            DurationTooLong, FrameTooLarge, DecodeTimeout: the clip goes over the limits.
        """
        budget = Budget(self._limits, spent_seconds=self._opening_seconds)
        join = _Join(self._spec, self._sound(budget), self._pictures(budget))
        try:
            for chunk in join.chunks(windows_per_chunk):
                with budget.paused():
                    yield chunk
            self._require_samples(join)
            self._summary = self._summarise(join)
        finally:
            join.close()

    def summary(self) -> ClipSummary:
        """Return what is known at the end; `chunks` must have been read to its end before.

        Raises:
            RuntimeError: it has not.
        """
        if self._summary is None:
            raise RuntimeError("The clip is summed up once chunks() has been read to its end.")
        return self._summary

    def _sound(self, budget: Budget) -> "_Track[AudioBlock]":
        if "audio" in self._obstacles:
            return _Track(None)
        return _Track(
            read_audio(
                self._path,
                sample_rate=self._spec.sample_rate,
                limits=self._limits,
                info=self.info,
                budget=budget,
            )
        )

    def _pictures(self, budget: Budget) -> "_Track[VideoFrame]":
        if "video" in self._obstacles:
            return _Track(None)
        return _Track(
            read_frames(
                self._path,
                frames_per_second=self._spec.frames_per_second,
                frame_size=self._spec.frame_size,
                limits=self._limits,
                info=self.info,
                budget=budget,
            )
        )

    def _require_samples(self, join: "_Join") -> None:
        reports = [track.report for track in (join.sound.track, join.pictures.track)]
        decoded = [report for report in reports if report and report.failure is None]
        if decoded:
            return
        failures = [report.failure for report in reports if report and report.failure]
        reason = "; ".join(failures)
        error: type[MediaError] = NoAudioOrVideo
        if any(report and report.encrypted for report in reports):
            error = EncryptedMedia
        elif self._modality != "auto":
            error = ModalityMissing
        raise error(f"Nothing could be decoded: {reason}; send a complete, playable file.")

    def _summarise(self, join: "_Join") -> ClipSummary:
        sound, pictures = join.sound, join.pictures
        warnings = [w for t in (sound.track, pictures.track) if t.report for w in t.report.warnings]
        declared = self.info.declared_duration_seconds or 0.0
        if declared > 2 * join.duration_seconds + 1.0:
            warnings.append(
                f"the file declares {declared:.1f} s but holds {join.duration_seconds:.1f} s"
            )
        return ClipSummary(
            duration_seconds=join.duration_seconds,
            audio=_use(
                self._obstacles.get("audio"),
                sound.track.report,
                sound.is_used,
                "the sound is silent: nothing to hear",
            ),
            video=_use(
                self._obstacles.get("video"),
                pictures.track.report,
                pictures.is_used,
                "the pictures are blank: nothing to see",
            ),
            warnings=tuple(warnings),
        )


def thumbnail(path: Path, limits: MediaLimits, size: int = 320) -> bytes | None:
    """Return a JPEG of an upright picture about a third into the file, or None without any.

    A blank picture is passed over for the next, and taken only where all are blank.

    Args:
        path: the media file.
        limits: what the file may cost.
        size: length of the longer side in pixels.

    Raises:
        EmptyFile, FileTooLarge, UnsupportedMedia, TooManyStreams, FrameTooLarge, DurationTooLong,
            DecodeTimeout: as reading the clip does.
    """
    budget = Budget(limits)
    info = probe(path, limits, budget=budget)
    if info.video is None:
        return None
    declared = min(info.declared_duration_seconds or 1.0, limits.max_duration_seconds)
    frames = read_frames(
        path,
        frames_per_second=_THUMBNAIL_TARGETS / declared,
        frame_size=size,
        limits=limits,
        info=info,
        budget=budget,
    )
    best: VideoFrame | None = None
    for frame in itertools.islice(frames, math.ceil(_THUMBNAIL_TARGETS)):
        is_blank = _is_blank(frame.pixels)
        if best is None or not is_blank:
            best = frame
        if not is_blank and frame.time_seconds > declared / 4:
            break
    frames.close()
    return None if best is None else _jpeg(best.pixels, size)


def _jpeg(pixels: NDArray[np.uint8], size: int) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _obstacles(info: MediaInfo, modality: ModalityChoice) -> dict[Modality, str]:
    """Return why a modality is left out from the start; a modality that is read is not in it."""
    obstacles: dict[Modality, str] = {}
    if info.audio_reason is not None:
        obstacles["audio"] = info.audio_reason
    elif modality == "video":
        obstacles["audio"] = "only the pictures were asked for"
    if info.video_reason is not None:
        obstacles["video"] = info.video_reason
    elif modality == "audio":
        obstacles["video"] = "only the sound was asked for"
    return obstacles


def _require_track(
    info: MediaInfo, modality: ModalityChoice, obstacles: dict[Modality, str]
) -> None:
    if info.encrypted:
        raise EncryptedMedia(
            f"The file cannot be read: {'; '.join(obstacles.values())}; send it without encryption."
        )
    if len(obstacles) < len(("audio", "video")):
        return
    if info.audio is None and info.video is None:
        raise NoAudioOrVideo(
            f"There is nothing to decode: {'; '.join(obstacles.values())}; send a file with sound "
            "or pictures."
        )
    asked: Modality = "audio" if modality == "audio" else "video"
    raise ModalityMissing(
        f"The modality `{asked}` cannot be read: {obstacles[asked]}; ask for `auto` or send "
        "another file."
    )


def _use(
    obstacle: str | None, report: TrackReport | None, is_used: bool, empty: str
) -> ModalityUse:
    if is_used:
        return ModalityUse(True)
    return ModalityUse(False, obstacle or (report and report.failure) or empty)


def _is_blank(pixels: NDArray[np.uint8]) -> bool:
    # Rec. 601 weights in 1/256; the picture is small, so this is no pass over full frames.
    luma = (pixels.astype(np.uint16) @ np.array([77, 150, 29], np.uint16)) >> 8
    return int(luma.max()) - int(luma.min()) <= _BLANK_SPREAD


class _Track(Generic[_ItemT]):
    """A generator of one track that remembers whether it is over and what it reported."""

    def __init__(self, items: Generator[_ItemT, None, TrackReport] | None) -> None:
        self.report: TrackReport | None = None
        self.is_over = items is None
        self._items: Generator[_ItemT, None, TrackReport] | None = items

    def pull(self) -> _ItemT | None:
        """Return the next item, or None at the end."""
        if self._items is None or self.is_over:
            return None
        try:
            item: _ItemT = next(self._items)
        except StopIteration as stop:
            self.is_over = True
            self.report = stop.value
            return None
        return item

    def close(self) -> None:
        if self._items is not None:
            self._items.close()

    @property
    def end_seconds(self) -> float:
        """End of the whole track, known when it is over."""
        return self.report.end_seconds if self.report else 0.0


class _Sound:
    """The last stretch of sound, without holes, that windows are cut from."""

    def __init__(self, track: _Track[AudioBlock], sample_rate: int) -> None:
        self.track = track
        self.has_begun = False
        self.is_used = False
        self._rate = sample_rate
        self._first = 0
        self._pieces: list[NDArray[np.float32]] = []
        self._end = 0

    def reaches(self, seconds: float) -> bool:
        return self._end >= round(seconds * self._rate)

    def read_until(self, seconds: float) -> None:
        while not self.track.is_over and not self.reaches(seconds):
            block = self.track.pull()
            if block is not None:
                self._append(block)

    def _append(self, block: AudioBlock) -> None:
        self.has_begun = True
        gap = round(block.start_seconds * self._rate) - self._end
        if gap > 0:
            self._pieces.append(np.zeros(gap, np.float32))
        samples = block.samples[max(-gap, 0) :]
        self._pieces.append(samples)
        self._end += max(gap, 0) + samples.size

    def cut(self, starts_seconds: list[float], length: int) -> NDArray[np.float32]:
        """Return (W, length) float32, a row from each start on, zeros where there is no sound."""
        samples = np.concatenate([np.zeros(0, np.float32), *self._pieces])
        self._pieces = [samples]
        rows = np.zeros((len(starts_seconds), length), np.float32)
        for row, start_seconds in zip(rows, starts_seconds, strict=True):
            start = round(start_seconds * self._rate) - self._first
            piece = samples[start : start + length]
            row[: piece.size] = piece
        return rows

    def forget_before(self, seconds: float) -> None:
        first = min(round(seconds * self._rate), self._end)
        samples = np.concatenate([np.zeros(0, np.float32), *self._pieces])
        self._pieces = [samples[first - self._first :].copy()]
        self._first = first


class _Pictures:
    """The last stretch of pictures that windows are cut from, each with whether it is blank."""

    def __init__(self, track: _Track[VideoFrame]) -> None:
        self.track = track
        self.has_begun = False
        self.is_used = False
        self._frames: deque[tuple[VideoFrame, bool]] = deque()
        self._end = -math.inf

    def reaches(self, seconds: float) -> bool:
        return self._end >= seconds

    def read_until(self, seconds: float) -> None:
        while not self.track.is_over and not self.reaches(seconds):
            frame = self.track.pull()
            if frame is not None:
                self.has_begun = True
                self._frames.append((frame, self._is_blank(frame)))
                self._end = frame.time_seconds

    def _is_blank(self, frame: VideoFrame) -> bool:
        if self._frames and self._frames[-1][0].pixels is frame.pixels:
            return self._frames[-1][1]
        return _is_blank(frame.pixels)

    def cut(self, start_seconds: float, end_seconds: float) -> list[VideoFrame]:
        return [
            frame for frame, _ in self._frames if start_seconds <= frame.time_seconds < end_seconds
        ]

    def shows_something(self, start_seconds: float, end_seconds: float) -> bool:
        return any(
            not is_blank and start_seconds <= frame.time_seconds < end_seconds
            for frame, is_blank in self._frames
        )

    def forget_before(self, seconds: float) -> None:
        while self._frames and self._frames[0][0].time_seconds < seconds:
            self._frames.popleft()


class _Join:
    """Cuts sound and pictures into the same windows as they are read."""

    def __init__(
        self, spec: DecodeSpec, sound: _Track[AudioBlock], pictures: _Track[VideoFrame]
    ) -> None:
        self.duration_seconds = 0.0
        self.sound = _Sound(sound, spec.sample_rate)
        self.pictures = _Pictures(pictures)
        self._spec = spec
        self._window_samples = round(spec.window_seconds * spec.sample_rate)

    def close(self) -> None:
        self.sound.track.close()
        self.pictures.track.close()

    def chunks(self, windows_per_chunk: int) -> Iterator[ClipChunk]:
        batch: list[tuple[float, float]] = []
        for window in self._windows():
            batch.append(window)
            if len(batch) == windows_per_chunk:
                yield self._cut(batch)
                # The next window starts after this one, wherever the clip ends.
                self.sound.forget_before(window[0])
                self.pictures.forget_before(window[0])
                batch = []
        if batch:
            yield self._cut(batch)

    def _windows(self) -> Iterator[tuple[float, float]]:
        """Yield each window once its sound and pictures are read; the end shifts the last one.

        One window is held back, because only the next one's data tell whether it is the last.
        """
        spec = self._spec
        index = 0
        while self._has_until(index * spec.hop_seconds + spec.window_seconds):
            if index:
                yield self._regular(index - 1)
            index += 1
        self.duration_seconds = max(self.sound.track.end_seconds, self.pictures.track.end_seconds)
        yield from self._last_windows(index)

    def _last_windows(self, complete: int) -> Iterator[tuple[float, float]]:
        """Yield the windows at the end, of which `complete` regular ones fit and one is held."""
        end = self.duration_seconds
        if end <= 0.0:
            return
        if complete:
            held = self._regular(complete - 1)
            if end - held[1] > _SLACK * self._spec.window_seconds:
                yield held
        # Rounded as the end is: 6.304 - 4 should be 2.304, not 2.3040000000000003.
        yield round(max(0.0, end - self._spec.window_seconds), 6), end

    def _regular(self, index: int) -> tuple[float, float]:
        start = index * self._spec.hop_seconds
        return start, start + self._spec.window_seconds

    def _has_until(self, seconds: float) -> bool:
        """Read both tracks up to `seconds`; return whether the clip lasts that long."""
        self.sound.read_until(seconds)
        self.pictures.read_until(seconds)
        return (
            self.sound.reaches(seconds)
            or self.pictures.reaches(seconds)
            or self.pictures.track.end_seconds >= seconds
        )

    def _cut(self, batch: list[tuple[float, float]]) -> ClipChunk:
        frames = self.pictures.cut(batch[0][0], batch[-1][1])
        waveforms = self.sound.cut([start for start, _ in batch], self._window_samples)
        peaks = np.abs(waveforms).max(axis=1, initial=0.0)
        has_audio = peaks > _SILENCE_PEAK
        has_video = np.array([self.pictures.shows_something(*window) for window in batch])
        self.sound.is_used |= bool(has_audio.any())
        self.pictures.is_used |= bool(has_video.any())
        return ClipChunk(
            windows=tuple(batch),
            waveforms=waveforms if self.sound.has_begun else None,
            has_audio=has_audio,
            frames=_stack(frames) if self.pictures.has_begun else None,
            frame_times=np.array([frame.time_seconds for frame in frames], np.float64),
            has_video=has_video,
        )


def _stack(frames: list[VideoFrame]) -> NDArray[np.uint8]:
    if not frames:
        return np.zeros((0, 1, 1, 3), np.uint8)
    return np.stack([frame.pixels for frame in frames])
