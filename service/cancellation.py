"""Telling work in threads that nobody waits for it any more."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class WorkCancelled(Exception):
    """Work was given up, because nobody waits for it; nobody sees this."""


class Cancellation:
    """One piece of work's flag, set from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._callbacks: list[Callable[[], object]] = []

    def cancel(self) -> None:
        """Set the flag, and call what `calling` has registered."""
        with self._lock:
            self._is_set = True
            for callback in self._callbacks:
                callback()

    @property
    def is_set(self) -> bool:
        """Whether the work was cancelled."""
        return self._is_set

    def check(self) -> None:
        """Raise WorkCancelled if the work was cancelled."""
        if self._is_set:
            raise WorkCancelled

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
        """Call `callback` if the work is cancelled within the block, or was before.

        It is called in any thread, never after the block, and must neither wait nor come back here.
        """
        with self._lock:
            self._callbacks.append(callback)
            if self._is_set:
                callback()
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)
