"""Threads of one core each, over which the rows of a batch are shared out on a CPU."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier
from typing import TypeVar

import torch

ResultT = TypeVar("ResultT")


class Lanes:
    """Runs calls side by side, each on one core to its end.

    Threads that share a layer wait for each other at its end, some hundred times a batch; threads
    that share the rows wait once.

    Args:
        count: how many calls run at once; one lane is the calling thread.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = _single_threads(count) if count > 1 else None

    def run(self, calls: Sequence[Callable[[], ResultT]]) -> list[ResultT]:
        """Return what the calls return, in their order; of those that raise, the first's error.

        It is raised when all have ended, so that none still takes memory when less is tried.
        """
        if self._pool is None or len(calls) < 2:
            return [call() for call in calls]
        futures = [self._pool.submit(call) for call in calls]
        wait(futures)
        return [future.result() for future in futures]


def _single_threads(count: int) -> ThreadPoolExecutor:
    """A pool in whose threads torch uses one core, as it does in no other thread."""
    pool = ThreadPoolExecutor(count, "lane")
    all_started = Barrier(count)

    def start() -> None:
        torch.get_num_threads()  # a thread takes the number of all when it is first asked for it
        torch.set_num_threads(1)
        all_started.wait()

    threads = torch.get_num_threads()
    wait([pool.submit(start) for _ in range(count)])
    # Each thread has a number of its own; threads to come take the one that was set last.
    torch.set_num_threads(threads)
    return pool
