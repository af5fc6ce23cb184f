"""Whether clips and texts can be answered: real forward passes, every few seconds at most."""

import asyncio
import time

import numpy as np

from service.decoding import DecodePool
from service.errors import NotReady
from service.serving import Serving

TIMEOUT_SECONDS = 10.0


class Readiness:
    """Remembers the last check, so that probes cost nothing however often they come."""

    def __init__(self, serving: Serving, decoder: DecodePool, *, cache_seconds: float) -> None:
        self._serving = serving
        self._decoder = decoder
        self._cache_seconds = cache_seconds
        self._lock = asyncio.Lock()
        self._checked_at = -float("inf")
        self._failure: str | None = None

    async def check(self) -> None:
        """Raise NotReady unless recent passes of sound, pictures, texts and names succeeded.

        And unless processes that decode are there, now, and no request has found the model broken
        since.
        """
        async with self._lock:
            if time.monotonic() - self._checked_at > self._cache_seconds:
                self._failure = await self._try()
                self._checked_at = time.monotonic()
        if self._failure is not None:
            raise NotReady(self._failure)
        if not self._decoder.is_working:
            raise NotReady("No process that decodes can be started; the service's log tells why.")
        if not self._serving.current.engine.is_healthy:
            raise NotReady("The model failed on the last request.")

    async def _try(self) -> str | None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                chunk, *texts = await asyncio.gather(
                    *(asyncio.wrap_future(check) for check in self._serving.current.engine.checks())
                )
        except TimeoutError:
            return f"The model did not answer within {TIMEOUT_SECONDS:g} seconds."
        except Exception as error:
            return f"The model fails: {type(error).__name__}."
        vectors = (chunk.audio, chunk.video, *texts)
        is_finite = all(np.isfinite(v).all() for v in vectors)
        return None if is_finite else "The model answers with numbers not finite."
