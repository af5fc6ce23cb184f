"""Clips that were accepted: how many may be, the threads that see them through, and what decodes.

It knows no model, so it stays when another one takes over.
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Never, TypeVar

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
        limits: what one clip may cost.
    """

    def __init__(self, decoder: DecodePool, clips: BoundedPool, limits: MediaLimits) -> None:
        self.decoder = decoder
        self.clips = clips
        self.limits = limits

    def require_room(self) -> None:
        """Raise Overloaded if a clip that came now would be refused."""
        self.clips.require_room()

    async def decode_stored(
        self,
        media: Callable[[], AbstractContextManager[Path]],
        function: Callable[..., Generator[Never, None, ResultT]],
        *arguments: object,
        duration_seconds: float,
    ) -> ResultT:
        """Run a decoding function on a stored clip, which counts as an accepted clip meanwhile.

        Args:
            media: gives the file's path for a while; called in a thread.
            function: takes the path, limits and `arguments`; yields nothing and returns a value.
            arguments: see there.
            duration_seconds: what the clip lasts: it was stored, so it may, whatever the limit.

        Raises:
            MediaError, Overloaded, and what `media` raises.
        """
        longest = max(self.limits.max_duration_seconds, duration_seconds + 1.0)
        limits = replace(self.limits, max_duration_seconds=longest)

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
