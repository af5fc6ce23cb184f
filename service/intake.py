"""Clips that were accepted: how many may be, the threads that see them through, and what decodes.

It knows no model, so it stays when another one takes over.
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Never, TypeVar

from index.types import Clip
from model.media.limits import MediaLimits
from service.cancellation import Cancellation
from service.decoding import DecodePool
from service.pool import BoundedPool

ResultT = TypeVar("ResultT")


class Intake:
    """The places of accepted clips, and the processes that decode them.

    Args:
        decoder: the processes that decode.
        clips: the threads that see clips through, and the bound of how many may be accepted.
        limits: what one clip of a request may cost.
        job_limits: what one of a job may cost.
    """

    def __init__(
        self,
        decoder: DecodePool,
        clips: BoundedPool,
        limits: MediaLimits,
        *,
        job_limits: MediaLimits,
    ) -> None:
        self.decoder = decoder
        self.clips = clips
        self.limits = limits
        self.job_limits = job_limits

    @property
    def has_room(self) -> bool:
        """Whether a clip that came now would be accepted."""
        return self.clips.has_room

    def require_room(self) -> None:
        """Raise Overloaded if a clip that came now would be refused."""
        self.clips.require_room()

    def limits_to_show(self, clip: Clip) -> MediaLimits:
        """Return what a stored clip may cost that a request asks to see."""
        fits = (
            clip.size_bytes <= self.limits.max_bytes
            and clip.duration_seconds <= self.limits.max_duration_seconds
        )
        return _lifted(self.limits if fits else self.job_limits, clip)

    def limits_to_embed(self, clip: Clip) -> MediaLimits:
        """Return what a stored clip may cost that is embedded anew."""
        return _lifted(self.job_limits, clip)

    async def decode_stored(
        self,
        clip: Clip,
        media: Callable[[], AbstractContextManager[Path]],
        function: Callable[..., Generator[Never, None, ResultT]],
        *arguments: object,
    ) -> ResultT:
        """Run a decoding function on a stored clip, which counts as an accepted clip meanwhile.

        Args:
            clip: the clip.
            media: gives its file's path for a while; called in a thread.
            function: takes the path, limits and `arguments`; yields nothing and returns a value.
            arguments: see there.

        Raises:
            MediaError, Overloaded, and what `media` raises.
        """
        limits = self.limits_to_show(clip)

        def work(cancellation: Cancellation) -> ResultT:
            with media() as path:
                items = self.decoder.stream(
                    function,
                    *(path, limits, *arguments),
                    silence_seconds=limits.decode_timeout_seconds,
                    cancellation=cancellation,
                )
                try:
                    next(items)
                except StopIteration as stop:
                    result: ResultT = stop.value
                    return result
                raise AssertionError("such a function yields nothing")

        return await self.clips.run(work)

    def close(self) -> None:
        """Let go of threads that wait for a decoder, and wait for them; stop the decoders."""
        self.decoder.close()
        self.clips.close()


def _lifted(limits: MediaLimits, clip: Clip) -> MediaLimits:
    """Let a clip be as large and as long as it was stored, whatever the limits are by now."""
    return replace(
        limits,
        max_bytes=max(limits.max_bytes, clip.size_bytes),
        max_duration_seconds=max(limits.max_duration_seconds, clip.duration_seconds + 1.0),
    )
