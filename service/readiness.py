"""Whether the model answers: a real forward pass, repeated every few seconds at most."""

import asyncio
import time

import numpy as np

from service.errors import NotReady
from service.pipeline import Pipeline

SENTENCE = "a dog barks"
TIMEOUT_SECONDS = 10.0


class Readiness:
    """Remembers the last check, so that probes cost nothing however often they come."""

    def __init__(self, pipeline: Pipeline, *, cache_seconds: float) -> None:
        self._pipeline = pipeline
        self._cache_seconds = cache_seconds
        self._lock = asyncio.Lock()
        self._checked_at = -float("inf")
        self._failure: str | None = None

    async def check(self) -> None:
        """Raise NotReady unless a recent forward pass succeeded."""
        async with self._lock:
            if time.monotonic() - self._checked_at > self._cache_seconds:
                self._failure = await self._try()
                self._checked_at = time.monotonic()
        if self._failure is not None:
            raise NotReady(self._failure)

    async def _try(self) -> str | None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                vectors = await self._pipeline.embed_texts([SENTENCE])
        except TimeoutError:
            return f"The model did not answer within {TIMEOUT_SECONDS:g} seconds."
        except Exception as error:
            return f"The model fails: {type(error).__name__}."
        return None if np.isfinite(vectors).all() else "The model answers with numbers not finite."
