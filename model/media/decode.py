"""What decoding sound and pictures have in common: packets, damage, and the clip's clock."""

from __future__ import annotations  # PyAV's generic classes are generic in its stubs only.

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar, cast

import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.stream import VideoStream

from model.media.limits import Budget
from model.media.probe import MediaInfo

_TrackT = TypeVar("_TrackT", AudioStream, VideoStream)

_BELIEVED_GAP_SECONDS = 60.0
"""A longer hole is believed only where the declared duration has room for it."""

_NOTABLE_JUMP_SECONDS = 1.0
"""Smaller overlaps, where files were joined or a track starts early, are closed without a word."""


@dataclass(frozen=True, slots=True)
class TrackReport:
    """What came of decoding one track to its end.

    Attributes:
        end_seconds: where its last sample or picture ends on the clip's clock; 0.0 without any.
        failure: a sentence saying why nothing was decoded, or None if something was.
        encrypted: nothing was decoded because the samples are encrypted.
        warnings: sentences on what was skipped or repaired.
    """

    end_seconds: float
    failure: str | None
    encrypted: bool
    warnings: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """Counts what goes wrong in one track while it is decoded; `what` names it in sentences."""

    what: str
    packets: int = 0
    damaged: int = 0
    encrypted: int = 0
    jumps: int = 0
    starved: int = 0
    breaks_off: bool = False
    notes: list[str] = field(default_factory=list)

    def note_once(self, sentence: str) -> None:
        """Add a warning, unless there is one already: the first says enough."""
        if not self.notes:
            self.notes.append(sentence)

    def report(self, *, end_seconds: float, delivered: bool) -> TrackReport:
        """Sum up at the end of the track; `delivered` is whether any sample or picture came.

        Raises:
            MemoryError: nothing came, for want of memory.
        """
        if not delivered and self.starved:
            raise MemoryError(f"no memory for any of the {self.packets} packets of the {self.what}")
        return TrackReport(
            # Microseconds: a sum of many lengths should end at 3 s, not at 3.000000000000002 s.
            end_seconds=round(end_seconds, 6),
            failure=None if delivered else self._failure(),
            encrypted=not delivered and self.encrypted > 0,
            warnings=tuple(self._warnings()) if delivered else (),
        )

    def _failure(self) -> str:
        if self.encrypted:
            return f"every sample of the {self.what} is encrypted"
        if self.packets == 0:
            return f"there are no samples of the {self.what}, only a header"
        return f"none of the {self.packets} packets of the {self.what} could be decoded"

    def _warnings(self) -> Iterator[str]:
        if self.damaged:
            yield (
                f"{self.damaged} of {self.packets} packets of the {self.what} are damaged and were "
                "skipped"
            )
        if self.encrypted:
            yield f"{self.encrypted} packets of the {self.what} are encrypted and were skipped"
        if self.breaks_off:
            yield f"the file breaks off within the {self.what}; what came before was used"
        if self.jumps:
            yield f"{self.jumps} impossible jumps in the timestamps of the {self.what} were closed"
        yield from self.notes


class Clock:
    """Places one track's timestamps on the clip's clock and closes the jumps that cannot be true.

    A hole in a track is real where it is short, or where the declared duration has room for it; a
    step back, or a leap of hours, is a muxer's mistake, after which the track just goes on.
    """

    def __init__(self, info: MediaInfo, budget: Budget, tally: Tally) -> None:
        declared = info.declared_duration_seconds or 0.0
        self._last_believed = min(declared + 1.0, budget.limits.max_duration_seconds)
        self._shift = -info.origin_seconds
        self._tally = tally

    def to_stamp(self, seconds: float) -> float:
        """Return the timestamp, in seconds, that the clip's time `seconds` has in the file."""
        return seconds - self._shift

    def to_seconds(self, stamp: float) -> float:
        """Return the clip's time of the file's timestamp `stamp`, both in seconds."""
        return stamp + self._shift

    def place(self, stamp: float | None, follows_at: float, *, earliest: float) -> float:
        """Return the clip's time in seconds of a sample with timestamp `stamp` (None: unknown).

        Args:
            stamp: seconds on the file's own clock.
            follows_at: where the sample is if it just follows the one before; 0.0 for the first.
            earliest: the time before which it cannot be, as the track is there already.
        """
        if stamp is None:
            return follows_at
        seconds = stamp + self._shift
        if earliest <= seconds <= max(follows_at + _BELIEVED_GAP_SECONDS, self._last_believed):
            return seconds
        self._tally.jumps += abs(seconds - follows_at) > _NOTABLE_JUMP_SECONDS
        self._shift += follows_at - seconds
        return follows_at


def prepare(container: InputContainer, stream: AudioStream | VideoStream, budget: Budget) -> None:
    """Make `stream` decode on one thread within the pixel limit, and the others not be read."""
    context = stream.codec_context
    context.thread_count = 1
    context.options = {"max_pixels": str(budget.limits.max_frame_pixels)}
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all


def packets(
    container: InputContainer, stream: _TrackT, budget: Budget, tally: Tally
) -> Iterator[Packet[_TrackT]]:
    """Yield the packets of `stream` that can be decoded, then the empty one that flushes.

    Raises:
        DecodeTimeout: the budget's time is used up.
    """
    demuxer = container.demux(stream)
    while True:
        budget.check_deadline()
        try:
            packet = next(demuxer, None)
        except av.error.FFmpegError:
            budget.check_deadline()
            tally.breaks_off = True
            # What the decoder still holds came before the break.
            yield _flushing(stream)
            return
        if packet is None:
            return
        is_flush = packet.size == 0 and packet.dts is None
        if packet.size:
            tally.packets += 1
            # By name: listing side data fails on kinds that PyAV does not know.
            if packet.has_sidedata("encryption_info"):
                tally.encrypted += 1
                continue
        if packet.size or is_flush:
            yield packet


def _flushing(stream: _TrackT) -> Packet[_TrackT]:
    packet = cast("Packet[_TrackT]", Packet())
    packet.stream = stream
    packet.time_base = cast(Fraction, stream.time_base)
    return packet


@contextmanager
def counting_damage(packet: Packet[_TrackT], tally: Tally) -> Iterator[None]:
    """Count `packet` as damaged, instead of raising, where FFmpeg cannot make anything of it."""
    try:
        yield
    except av.error.FFmpegError as error:
        tally.damaged += packet.size > 0
        tally.starved += isinstance(error, MemoryError)
