"""How much one file may ask of the decoder, and the account that each decode is charged to."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from model.errors import DecodeTimeout, DurationTooLong, FrameTooLarge

_PADDING_SECONDS = 0.5
"""Encoders pad their last block: a clip of exactly the limit decodes to a little more."""

_PACE_GRACE = 0.1
"""Share of the time limit that passes before pace is judged: start-up says nothing about pace."""

_PACE_TARGET = 0.8
"""Share of the time limit in which a decode should be done, so that estimates may be a bit off."""


MAX_BUCKETS = 4000
"""Parts of a waveform."""

MAX_WIDTH = 2000
MAX_HEIGHT = 256
"""Pixels of a spectrogram."""


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What a file may cost at most; each excess is an error of its own.

    Attributes:
        max_bytes: size of the file.
        max_duration_seconds: seconds of media that are really decoded, whatever the header says.
        max_frame_pixels: width times height of a coded picture.
        max_streams: streams that the container declares.
        decode_timeout_seconds: wall-clock time of one decode, pauses of its consumer not counted.
    """

    max_bytes: int = 512 * 2**20
    max_duration_seconds: float = 600.0
    max_frame_pixels: int = 8192 * 8192
    max_streams: int = 64
    decode_timeout_seconds: float = 15.0


class Budget:
    """The account of one decode: its clock starts at once, and every generator charges it.

    `spent_seconds` of the time limit are used up already, by opening the file.
    """

    def __init__(self, limits: MediaLimits, *, spent_seconds: float = 0.0) -> None:
        self.limits = limits
        self._started = time.monotonic() - spent_seconds
        self._paused_seconds = 0.0

    @property
    def elapsed_seconds(self) -> float:
        """Wall-clock seconds spent so far, pauses not counted."""
        return time.monotonic() - self._started - self._paused_seconds

    @property
    def expired(self) -> bool:
        """Whether the time limit is used up."""
        return self.elapsed_seconds > self.limits.decode_timeout_seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock while the consumer works: only decoding is charged."""
        since = time.monotonic()
        try:
            yield
        finally:
            self._paused_seconds += time.monotonic() - since

    def check_deadline(self) -> None:
        """Raise DecodeTimeout once the time limit is used up."""
        if self.expired:
            raise DecodeTimeout(
                f"Decoding took longer than the limit of {self.limits.decode_timeout_seconds:g} s; "
                "send a shorter clip or one of lower resolution."
            )

    def charge_media(self, end_seconds: float) -> None:
        """Raise DurationTooLong when the media that was decoded reaches past the limit."""
        if end_seconds > self.limits.max_duration_seconds + _PADDING_SECONDS:
            raise DurationTooLong(
                f"The clip plays for {end_seconds:.1f} s at least; the limit is "
                f"{self.limits.max_duration_seconds:g} s; cut it into shorter clips."
            )

    def charge_frame(self, width: int, height: int) -> None:
        """Raise FrameTooLarge when a picture of `width` by `height` pixels is over the limit."""
        if width * height > self.limits.max_frame_pixels:
            raise FrameTooLarge(
                f"A picture has {width} x {height} = {width * height} pixels; the limit is "
                f"{self.limits.max_frame_pixels}; scale the video down."
            )

    def is_behind(self, position_seconds: float, total_seconds: float | None) -> bool:
        """Whether, at the pace so far, `total_seconds` of media would not be done in time.

        `total_seconds` is only a hint; without one nothing is foreseen.
        """
        timeout = self.limits.decode_timeout_seconds
        elapsed = self.elapsed_seconds
        if not total_seconds or elapsed < _PACE_GRACE * timeout:
            return False
        return elapsed * total_seconds > _PACE_TARGET * timeout * max(position_seconds, 1e-3)
