"""Threads for slow work, with a bounded queue before them."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.cancellation import Cancellation
from service.errors import Overloaded

T = TypeVar("T")

RETRY_AFTER_SECONDS = 2


class BoundedPool:
    """Runs at most `threads` calls at once; more than `places`, running or waiting, are refused."""

    def __init__(self, name: str, *, threads: int, places: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = places
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """How many calls run or wait."""
        return self._taken

    @property
    def has_room(self) -> bool:
        """Whether a call made now would be taken."""
        return self._taken < self._places

    def require_room(self) -> None:
        """Raise Overloaded if a call made now would be refused."""
        if not self.has_room:
            raise Overloaded(
                f"{self._taken} requests are being worked on or waiting, which is the limit; try "
                f"again in {RETRY_AFTER_SECONDS} seconds.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

    async def run(self, function: Callable[[Cancellation], T]) -> T:
        """Call `function` in a thread and return what it returns.

        Cancelled while it waits, the call is never made; once made, it is told by its argument, and
        holds its place to its end.

        Raises:
            Overloaded: there is no place; the function is not called.
        """
        with self._lock:
            self.require_room()
            self._taken += 1
        cancellation = Cancellation()
        # In a copy of this context, so that log lines tell whose work it is.
        future = self._executor.submit(contextvars.copy_context().run, function, cancellation)
        future.add_done_callback(lambda _: self._leave())
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            cancellation.cancel()
            raise

    def close(self) -> None:
        """Drop the calls that wait, and wait for those being made."""
        self._executor.shutdown(cancel_futures=True)

    def _leave(self) -> None:
        with self._lock:
            self._taken -= 1
