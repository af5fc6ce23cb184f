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

    def require_room(self) -> None:
        """Raise Overloaded if a clip that came now would be refused."""
        self.clips.require_room()

    def limits_of_stored(self, clip: Clip) -> MediaLimits:
        """Return what a clip may cost that was stored, whatever the limits are by now."""
        limits = self.job_limits
        return replace(
            limits,
            max_bytes=max(limits.max_bytes, clip.size_bytes),
            max_duration_seconds=max(limits.max_duration_seconds, clip.duration_seconds + 1.0),
        )

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
        limits = self.limits_of_stored(clip)

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
