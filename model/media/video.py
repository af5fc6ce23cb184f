"""Pictures of any codec, pixel format and orientation, as upright RGB frames at even times."""

from __future__ import annotations  # PyAV's generic classes are generic in its stubs only.

import math
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

import av.error
import numpy as np
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.video.frame import PictureType
from av.video.frame import VideoFrame as DecodedFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from model.errors import ModalityMissing
from model.media.decode import Clock, Tally, TrackReport, counting_damage, packets, prepare
from model.media.limits import Budget, MediaLimits
from model.media.probe import MediaInfo, open_container, probe
from model.media.types import VideoFrame

_MAX_ASPECT = 4
"""A longer picture is squeezed to this ratio, so that a 1 x 10000 one does not fill the memory."""

_MAX_HELD_PACKETS = 600
"""Packets that wait for the next target time to come into sight; beyond, they are just decoded."""

_MAX_HELD_BYTES = 64 * 2**20
"""The same for their size."""

_MAX_STEP_SECONDS = 60.0
"""A picture that claims to be shown for longer is not believed."""

_SKIPPING_CODECS = frozenset({"h264", "hevc", "mpeg4", "mpeg2video"})
"""Decoders that skip the very packet that they are given; others apply it to a later one."""

_DEFAULT_FRAME_SECONDS = 0.04
"""How long a picture is shown where the file does not say."""


def read_frames(
    path: Path,
    *,
    frames_per_second: float,
    frame_size: int,
    limits: MediaLimits,
    info: MediaInfo | None = None,
    budget: Budget | None = None,
) -> Generator[VideoFrame, None, TrackReport]:
    """Yield the pictures that the file at `path` shows at the times (k + 0.5) / frames_per_second.

    The times are on the clip's clock, whose 0 is the start of the file's first track. A picture
    that stays for several of them is yielded for each; a track too short for any yields its last
    picture, at that picture's own time. Every picture of a clip has the same size: the first one
    upright, scaled so that the shorter side has `frame_size` pixels and the longer one at most four
    times as many. Transparency and the pixels' aspect ratio are ignored.

    Where decoding everything would go over the time limit, pictures are passed over up to the next
    key frame, the last one before stands for them, and the report warns of it.

    Args:
        path: the media file.
        frames_per_second: how many target times there are in a second.
        frame_size: length of the shorter side, in pixels.
        limits: what the file may cost.
        info: the result of `probe`, where it is known already.
        budget: the account of this decode, shared with `read_audio`; by default a new one.

    Returns:
        A report at the end of the track (the value of the StopIteration).

    Raises:
        ModalityMissing: the file has no pictures that can be read.
        FrameTooLarge: a picture is over the limit; it is not decoded.
        DurationTooLong, DecodeTimeout: the pictures go over the limits.
        EmptyFile, FileTooLarge, UnsupportedMedia, TooManyStreams: as `open_container` does.
    """
    budget = budget or Budget(limits)
    info = info or probe(path, limits, budget=budget)
    if info.video is None:
        raise ModalityMissing(f"The file cannot be seen: {info.video_reason}.")
    budget.charge_frame(info.video.width, info.video.height)
    tally = Tally("pictures")
    clock = Clock(info, budget, tally)
    targets = _Targets(frames_per_second, _Scaler(frame_size), tally)
    with open_container(path, limits, budget=budget) as container:
        stream = cast(VideoStream, container.streams[info.video.index])
        prepare(container, stream, budget)
        frame_seconds = _frame_seconds(stream)
        foresight = _Foresight(info.declared_duration_seconds, container.size)
        plan = _Plan(clock, frames_per_second, budget, foresight, tally)
        shown: DecodedFrame | None = None
        shown_since = 0.0
        for frame in _decoded(packets(container, stream, budget, tally), plan, tally, budget):
            follows_at = shown_since + frame_seconds if shown else 0.0
            start = clock.place(_stamp(frame), follows_at, earliest=shown_since)
            budget.charge_media(start)
            if shown is not None:
                yield from targets.take(shown, shown_since, start)
            shown, shown_since = frame, start
        if shown is None:
            return tally.report(end_seconds=0.0, delivered=False)
        room_seconds = (info.declared_duration_seconds or 0.0) - shown_since
        end = shown_since + _last_seconds(shown, frame_seconds, room_seconds)
        end = max(end, plan.left_out_until)
        yield from targets.take(shown, shown_since, end)
        if not targets.taken:
            yield from targets.take_at([shown_since], shown)
        return tally.report(end_seconds=end, delivered=targets.taken > 0)


class _Wanted(NamedTuple):
    """A packet to decode.

    `is_reference_only`: its picture may be left out if no other refers to it. `is_landing`: it is a
    key frame, and packets before it were left out.
    """

    packet: Packet[VideoStream]
    is_reference_only: bool = False
    is_landing: bool = False


class _Foresight(NamedTuple):
    """Guesses how long the clip is, to judge the pace by; nothing else depends on it."""

    declared_seconds: float | None
    size_bytes: int

    def total_seconds(self, packet: Packet[VideoStream], position_seconds: float) -> float | None:
        """Return the declared duration, or what `packet`'s place in the file makes likely."""
        if self.declared_seconds or not packet.pos:
            return self.declared_seconds
        return position_seconds * self.size_bytes / packet.pos


class _Plan:
    """Picks the packets that must be decoded for the target times, by looking ahead in the file.

    Packets are held until the next target lies behind. A key frame that is shown before the target
    makes the packets held before it pointless, and of the rest only the picture shown at the target
    is needed for itself. Everything is read in order: no seeking, so no trust in an index.
    """

    def __init__(
        self,
        clock: Clock,
        frames_per_second: float,
        budget: Budget,
        foresight: _Foresight,
        tally: Tally,
    ) -> None:
        self._clock = clock
        self._rate = frames_per_second
        self._budget = budget
        self._foresight = foresight
        self._tally = tally
        self._held: list[Packet[VideoStream]] = []
        self._held_bytes = 0
        self._target_index = 0
        self._decoding_stamp: float | None = None
        self._is_trusted = True
        self._keys_only = False
        self._landings: set[int] = set()
        self._unproven_keys: set[int] = set()
        self._keys_are_whole: bool | None = None
        self._has_begun = False
        self.left_out_until = -math.inf

    def needed(self, packet: Packet[VideoStream]) -> Iterator[_Wanted]:
        """Yield those of the packets up to and including `packet` that it is time to decode."""
        if packet.size and not self._has_sound_times(packet):
            self._is_trusted = False
        if not self._is_trusted or not packet.size:
            yield from self._release()
            yield _Wanted(packet)
            return
        self._keep_pace(packet)
        if self._keys_only:
            if packet.is_keyframe:
                yield _Wanted(packet, is_landing=True)
            else:
                self._leave_out(packet)
            return
        if packet.is_keyframe and not packet.is_discard:
            yield from self._come_to_key(packet)
        yield from self._due(packet)
        yield from self._hold(packet)

    def verify(self, frame: DecodedFrame) -> None:
        """Learn from a decoded key frame whether this file's key frames stand for themselves.

        Some are marked so wrongly, and some (of a rolling refresh) become whole only later.
        """
        if frame.pts in self._unproven_keys:
            self._unproven_keys.discard(frame.pts)
            is_whole = frame.key_frame and frame.pict_type in (PictureType.NONE, PictureType.I)
            self._keys_are_whole = is_whole and self._keys_are_whole is not False

    def _has_sound_times(self, packet: Packet[VideoStream]) -> bool:
        """Whether there are display times, and the decoding times rise without leaps.

        The first packets may lack a decoding time, where the container stores display times alone.
        """
        if packet.pts is None:
            return False
        if packet.dts is None:
            return self._decoding_stamp is None
        stamp = _seconds(packet, packet.dts)
        # The first pictures may be decoded before the clip's 0.
        last = min(stamp, self._clock.to_stamp(0.0))
        if self._decoding_stamp is not None:
            last = self._decoding_stamp
        self._decoding_stamp = stamp
        return 0.0 <= stamp - last <= _MAX_STEP_SECONDS

    def _target_stamp(self) -> float:
        return self._clock.to_stamp((self._target_index + 0.5) / self._rate)

    def _keep_pace(self, packet: Packet[VideoStream]) -> None:
        """Where decoding falls behind, turn to key frames alone until it is in time again."""
        position = max(0.0, self._clock.to_seconds(_seconds(packet, packet.dts)))
        total_seconds = self._foresight.total_seconds(packet, position)
        is_behind = self._budget.is_behind(position, total_seconds)
        if is_behind and not self._keys_only:
            self._keys_only = True
            self._take_held()
            self._tally.note_once(
                f"from {position:.1f} s on pictures were passed over, and the last one before "
                "stands for them, to stay within the time limit"
            )
        elif self._keys_only and packet.is_keyframe and not is_behind:
            self._keys_only = False
            self._landings.add(cast(int, packet.pts))

    def _leave_out(self, packet: Packet[VideoStream]) -> None:
        shown_seconds = min(_seconds(packet, packet.duration), _MAX_STEP_SECONDS)
        stamp = _seconds(packet, packet.pts) + shown_seconds
        self.left_out_until = max(self.left_out_until, self._clock.to_seconds(stamp))

    def _come_to_key(self, key: Packet[VideoStream]) -> Iterator[_Wanted]:
        """Forget the held packets if they are over once `key` is shown, before the target.

        As long as it is not known whether key frames can be landed on, they are decoded instead.
        """
        stamp = _seconds(key, key.pts)
        is_skip = stamp <= self._target_stamp() and all(
            _seconds(packet, packet.pts) < stamp for packet in self._held
        )
        if self._keys_are_whole is None and self._has_begun:
            self._unproven_keys.add(cast(int, key.pts))
            if is_skip:
                yield from self._release()
        elif is_skip and self._held and self._keys_are_whole:
            self._take_held()
            self._landings.add(cast(int, key.pts))
        self._has_begun = True

    def _due(self, packet: Packet[VideoStream]) -> Iterator[_Wanted]:
        """Pass the targets that `packet` comes after, and hand over what they need.

        No later packet is shown before its own decoding time, so that the choice is final.
        """
        until = -math.inf if packet.dts is None else _seconds(packet, packet.dts)
        if self._target_stamp() >= until:
            return
        stamps = [_seconds(each, each.pts) for each in self._held]
        shown: set[float] = set()
        passed = -math.inf
        while (target := self._target_stamp()) < until:
            shown.add(max((stamp for stamp in stamps if stamp <= target), default=-math.inf))
            passed = target
            self._target_index += 1
        last = max((index for index, stamp in enumerate(stamps) if stamp in shown), default=-1)
        for stamp, each in zip(stamps, self._take_held(last + 1), strict=False):
            is_idle = stamp <= passed and stamp not in shown
            yield _Wanted(each, is_idle, each.pts in self._landings)

    def _release(self) -> Iterator[_Wanted]:
        for packet in self._take_held():
            yield _Wanted(packet, is_landing=packet.pts in self._landings)

    def _hold(self, packet: Packet[VideoStream]) -> Iterator[_Wanted]:
        self._held.append(packet)
        self._held_bytes += packet.size
        if len(self._held) > _MAX_HELD_PACKETS or self._held_bytes > _MAX_HELD_BYTES:
            yield from self._release()

    def _take_held(self, count: int | None = None) -> list[Packet[VideoStream]]:
        """Remove and return the first `count` of the packets that are held, by default all."""
        taken = self._held[:count]
        self._held = self._held[len(taken) :]
        self._held_bytes -= sum(packet.size for packet in taken)
        return taken


class _Targets:
    """The times at which pictures are wanted, in order: (k + 0.5) / frames_per_second."""

    def __init__(self, frames_per_second: float, scaler: _Scaler, tally: Tally) -> None:
        self.taken = 0
        self._index = 0
        self._rate = frames_per_second
        self._scaler = scaler
        self._tally = tally

    def take(self, frame: DecodedFrame, since: float, until: float) -> Iterator[VideoFrame]:
        """Yield `frame`, shown during [since, until), for each target in that time."""
        first = max(self._index, math.ceil(since * self._rate - 0.5))
        end = max(first, math.ceil(until * self._rate - 0.5))
        self._index = end
        times = [(index + 0.5) / self._rate for index in range(first, end)]
        if times:
            yield from self.take_at(times, frame)

    def take_at(self, times: list[float], frame: DecodedFrame) -> Iterator[VideoFrame]:
        """Yield `frame` for each of `times`; one that cannot be converted counts as damaged."""
        try:
            pixels = self._scaler.pixels(frame)
        except av.error.FFmpegError:
            self._tally.damaged += 1
            return
        for seconds in times:
            self.taken += 1
            yield VideoFrame(seconds, pixels)


class _Scaler:
    """Turns frames into upright RGB pictures; the first frame decides their size and pose."""

    def __init__(self, frame_size: int) -> None:
        self._frame_size = frame_size
        self._shape: tuple[_Pose, int, int] | None = None
        # One for the whole clip: each holds megabytes of tables.
        self._reformatter = VideoReformatter()

    def pixels(self, frame: DecodedFrame) -> NDArray[np.uint8]:
        """Return `frame` as (H, W, 3) uint8 RGB, upright."""
        if self._shape is None:
            self._shape = (self._pose_of(frame), *_scaled_size(frame, self._frame_size))
        pose, width, height = self._shape
        pixels = self._scaled(frame, width, height).to_ndarray()
        if pose.transposed:
            pixels = pixels.transpose(1, 0, 2)
        if pose.flipped_x:
            pixels = pixels[:, ::-1]
        if pose.flipped_y:
            pixels = pixels[::-1]
        return np.array(pixels, dtype=np.uint8, order="C")

    def _scaled(self, frame: DecodedFrame, width: int, height: int) -> DecodedFrame:
        return self._reformatter.reformat(frame, width, height, "rgb24", threads=1)

    def _pose_of(self, frame: DecodedFrame) -> _Pose:
        # In PyAV a frame and the list of its side data refer to each other, and stay in memory
        # until Python collects cycles: a small copy of the frame may, a whole one must not.
        return _pose(self._scaled(frame, 8, 8))


class _Pose(NamedTuple):
    """How a coded picture becomes upright: first transposed, then mirrored along x and y."""

    transposed: bool
    flipped_x: bool
    flipped_y: bool


_POSE_OF_QUARTER_TURNS = (
    _Pose(False, False, False),
    _Pose(True, False, True),
    _Pose(False, True, True),
    _Pose(True, True, False),
)
"""By the number of counterclockwise quarter turns."""


def _pose(frame: DecodedFrame) -> _Pose:
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV cannot list side data of a kind newer than itself, but still knows the angle.
        return _POSE_OF_QUARTER_TURNS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return _POSE_OF_QUARTER_TURNS[0]
    # Rows of three 32-bit numbers: x' = a x + c y and y' = b x + d y, with y down.
    a, b, _, c, d = np.frombuffer(bytes(cast(SideData, matrix)), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return _Pose(True, c < 0, b < 0)
    return _Pose(False, a < 0, d < 0)


def _scaled_size(frame: DecodedFrame, shorter_side: int) -> tuple[int, int]:
    """Return the (width, height) that `frame`, as it is coded, is scaled to."""
    width, height = frame.width, frame.height
    aspect = min(max(width, height) / min(width, height), _MAX_ASPECT)
    longer_side = round(shorter_side * aspect)
    return (longer_side, shorter_side) if width > height else (shorter_side, longer_side)


def _decoded(
    source: Iterator[Packet[VideoStream]], plan: _Plan, tally: Tally, budget: Budget
) -> Iterator[DecodedFrame]:
    """Yield the pictures of the packets that `plan` picks, in the order in which they are shown."""
    for packet in source:
        for wanted in plan.needed(packet):
            for frame in _decode(wanted, tally, budget):
                plan.verify(frame)
                yield frame


def _decode(wanted: _Wanted, tally: Tally, budget: Budget) -> list[DecodedFrame]:
    stream = wanted.packet.stream
    context = stream.codec_context
    frames: list[DecodedFrame] = []
    if wanted.is_landing:
        frames += _drain(stream)
    if context.name in _SKIPPING_CODECS:
        context.skip_frame = "NONREF" if wanted.is_reference_only else "DEFAULT"
    with counting_damage(wanted.packet, tally):
        frames += stream.decode(wanted.packet)
    # The decoder refuses a picture over the limit, but it sets the size before.
    budget.charge_frame(context.width, context.height)
    tally.damaged += sum(frame.is_corrupt for frame in frames)
    return [frame for frame in frames if not frame.is_corrupt]


def _drain(stream: VideoStream) -> list[DecodedFrame]:
    """Take what the decoder still holds and reset it, so that it can start at a key frame."""
    frames = stream.decode(None)
    stream.codec_context.flush_buffers()
    for frame in frames:
        frame.time_base = cast(Fraction, stream.time_base)
    return frames


def _seconds(packet: Packet[VideoStream], stamp: int | None) -> float:
    base = packet.time_base
    return (stamp or 0) * base.numerator / base.denominator


def _stamp(frame: DecodedFrame) -> float | None:
    """Return when `frame` is shown, in seconds on the file's clock, or None if that is unknown."""
    stamp = frame.dts if frame.pts is None else frame.pts
    if stamp is None or frame.time_base is None:
        return None
    return float(stamp * frame.time_base)


def _last_seconds(frame: DecodedFrame, frame_seconds: float, room_seconds: float) -> float:
    """Return how long the last picture, `frame`, is shown: what it says, or else the frame rate.

    More than a second is believed only where the declared duration has room for it.
    """
    base = frame.time_base or Fraction(0)
    for seconds in (float(frame.duration * base), frame_seconds):
        if 0.0 < seconds <= max(min(room_seconds + frame_seconds, _MAX_STEP_SECONDS), 1.0):
            return seconds
    return _DEFAULT_FRAME_SECONDS


def _frame_seconds(stream: VideoStream) -> float:
    return float(1 / stream.average_rate) if stream.average_rate else _DEFAULT_FRAME_SECONDS
