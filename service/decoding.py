"""The decode pool: processes that decode untrusted files, each of which can be killed.

A file may make FFmpeg hang, crash or ask for all memory. In a process of its own it costs that
process, one answer that names the cause, and the time to start another.
"""

import logging
import os
import pickle
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from typing import Any, TypeVar, cast

from model.errors import DecodeMemoryExceeded, DecoderCrashed, DecodeTimeout
from service.cancellation import Cancellation, WorkCancelled
from service.decode_messages import Kind, MessageRefused, decode

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

GRACE_SECONDS = 5.0
"""How much longer than the time limit a decoder may be silent: it stops itself at the limit."""

START_SECONDS = 120.0
"""How long a process may take to be ready, on a machine that is busy with other things."""

RETRY_SECONDS = 1.0
"""How long to wait before another process is started where one could not be."""

MESSAGE_SECONDS = 60.0
"""How long a decoder may pause in the middle of a message, which one in order never does."""

SWEEP_SECONDS = 1.0
"""How often it is looked whether an idle process was killed from outside."""


class DecodePool:
    """A fixed number of decoding processes, started at once and replaced when they die.

    Args:
        workers: how many.
        memory_bytes: what each of them may allocate.
        clips_per_worker: after so many it is replaced, so that what codecs leak does not add up.
        grace_seconds: see `GRACE_SECONDS`.
    """

    def __init__(
        self,
        *,
        workers: int,
        memory_bytes: int,
        clips_per_worker: int,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._clips_per_worker = clips_per_worker
        self._grace_seconds = grace_seconds
        self._changed = threading.Condition()
        self._idle: deque[_Worker] = deque()
        self._busy: set[_Worker] = set()
        self._closed = False
        self._start_failed = False
        self._orders: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(workers):
            self._orders.put(None)
        # One thread starts them all, for the kernel kills them when the thread that did is over.
        self._keeper = threading.Thread(target=self._keep, name="decoders", daemon=True)
        self._keeper.start()

    @property
    def alive(self) -> int:
        """How many processes are running, idle or busy."""
        with self._changed:
            return sum(worker.is_alive for worker in (*self._idle, *self._busy))

    @property
    def is_working(self) -> bool:
        """Whether a process is alive, or another is being started and the last start succeeded."""
        if self._closed or not self._keeper.is_alive():
            return False
        return self.alive > 0 or not self._start_failed

    def wait_until_ready(self) -> None:
        """Wait for the first process. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._idle or self._busy, START_SECONDS):
                raise TimeoutError(
                    f"No decoding process was ready within {START_SECONDS:g} s; the log says why."
                )

    def stream(
        self,
        function: Callable[..., Generator[ItemT, None, ResultT]],
        *arguments: object,
        silence_seconds: float,
        cancellation: Cancellation,
    ) -> Generator[ItemT, None, ResultT]:
        """Run a generator function in a process and yield what it yields, as it comes.

        Left early, or cancelled, the process is killed.

        Args:
            function: found by its module and name there; its arguments are pickled, what it yields
                and returns are of the types of `service.decode_messages`.
            arguments: what it is called with.
            silence_seconds: its own time limit; silent for the grace longer, it is killed.
            cancellation: of the work that needs this.

        Raises:
            DecodeTimeout: it was silent for too long.
            DecodeMemoryExceeded: it needed more memory than it may have.
            DecoderCrashed: the process died, or sent what no decoder sends.
            WorkCancelled: nobody waits for it any more.
            MediaError, RuntimeError: what the function raises; what is no MediaError is told in
                words.
        """
        worker = self._acquire(cancellation)
        is_usable = False
        try:
            with cancellation.calling(worker.kill):
                worker.start(function, arguments)
                while True:
                    kind, value = worker.receive(silence_seconds + self._grace_seconds)
                    if kind == "item":
                        yield value
                        continue
                    # After a refused allocation the rest of the heap is in pieces.
                    is_usable = not isinstance(value, DecodeMemoryExceeded)
                    if kind == "failed":
                        raise value
                    return cast(ResultT, value)
        except (DecoderCrashed, DecodeTimeout):
            cancellation.check()
            if self._closed:
                raise WorkCancelled from None
            raise
        finally:
            # Cancelled at its last word, it was killed all the same, though it may seem alive yet.
            self._release(worker, is_usable=is_usable and not cancellation.is_set)

    def close(self) -> None:
        """Kill all processes; what is still streaming ends with WorkCancelled."""
        with self._changed:
            self._closed = True
            idle = list(self._idle)
            self._idle.clear()
            for worker in (*idle, *self._busy):
                worker.kill()
            self._changed.notify_all()
        for worker in idle:
            worker.bury()
        self._keeper.join()

    def _acquire(self, cancellation: Cancellation) -> "_Worker":
        with cancellation.calling(self._wake), self._changed:
            while True:
                cancellation.check()
                if self._closed:
                    raise WorkCancelled
                while self._idle:
                    # The one that worked last: its memory is warm, and the others may be swapped.
                    worker = self._idle.pop()
                    if worker.is_alive:
                        self._busy.add(worker)
                        return worker
                    self._replace(worker)
                self._changed.wait()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _release(self, worker: "_Worker", *, is_usable: bool) -> None:
        with self._changed:
            self._busy.discard(worker)
            if is_usable and worker.served < self._clips_per_worker and not self._closed:
                self._idle.append(worker)
                self._changed.notify_all()
                return
        self._replace(worker)

    def _replace(self, worker: "_Worker") -> None:
        worker.kill()
        if not self._closed:
            self._orders.put(None)
        worker.bury()

    def _keep(self) -> None:
        """Start what was ordered, and replace what died while idle, until the pool is closed."""
        while not self._closed:
            try:
                self._orders.get(timeout=SWEEP_SECONDS)
            except queue.Empty:
                self._sweep()
                continue
            try:
                worker = _Worker(self._memory_bytes)
            except (OSError, EOFError, TimeoutError) as error:
                logger.error("a decoding process could not be started: %s", error)
                self._start_failed = True
                self._orders.put(None)
                time.sleep(RETRY_SECONDS)
                continue
            with self._changed:
                if self._closed:
                    worker.kill()
                    worker.bury()
                    return
                self._start_failed = False
                self._idle.append(worker)
                self._changed.notify_all()

    def _sweep(self) -> None:
        with self._changed:
            for worker in [w for w in self._idle if not w.is_alive]:
                self._idle.remove(worker)
                self._replace(worker)


class _Worker:
    """One process and the socket to it.

    Raises:
        OSError, EOFError, TimeoutError: it could not be started.
    """

    def __init__(self, memory_bytes: int) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            pause = struct.pack("@ll", int(MESSAGE_SECONDS), int(MESSAGE_SECONDS % 1 * 1e6))
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, pause)
            command = [sys.executable, "-m", "service.decode_worker"]
            numbers = [theirs.fileno(), os.getpid(), memory_bytes]
            self._process = subprocess.Popen(
                [*command, *(str(number) for number in numbers)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                    # A thread's stack and buffers for each core, of which nothing here makes use.
                    "OPENBLAS_NUM_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                },
            )
            self._connection: Connection = Connection(ours.detach())
        self._memory_bytes = memory_bytes
        self.served = 0
        try:
            if not self._connection.poll(START_SECONDS):
                raise TimeoutError(f"it was not ready within {START_SECONDS:g} s")
            self._read()
        except (OSError, EOFError, TimeoutError):
            self.kill()
            self.bury()
            raise

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def start(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self.served += 1
        try:
            self._connection.send_bytes(pickle.dumps((function, arguments)))
        except ConnectionError:
            raise self._crash() from None

    def receive(self, seconds: float) -> tuple[Kind, Any]:
        """Return its next message. Raises DecodeTimeout or DecoderCrashed; it is dead then."""
        try:
            if self._connection.poll(seconds):
                return self._read()
        except MessageRefused as error:
            self.kill()
            logger.error("a decoding process was stopped for what it sent: %s", error)
            raise DecoderCrashed(
                "The decoder was taken over or damaged by this file, and stopped; send another "
                "encoding of it."
            ) from error
        except BlockingIOError:
            seconds = MESSAGE_SECONDS
        except (EOFError, OSError):
            self.kill()
            raise self._crash() from None
        self.kill()
        raise DecodeTimeout(
            f"The decoder did not answer for {seconds:g} s and was stopped; the file is damaged or "
            "made to do this; send another encoding of it."
        )

    def _read(self) -> tuple[Kind, Any]:
        # What it may not hold it cannot send, and must not make its reader hold.
        return decode(self._connection.recv_bytes(self._memory_bytes))

    def kill(self) -> None:
        self._process.kill()

    def bury(self) -> None:
        """Reap the process, which was killed, and close the socket."""
        self._process.wait()
        self._connection.close()

    def _crash(self) -> DecoderCrashed:
        code = self._process.wait()
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return DecoderCrashed(
            f"The decoder died of this file ({cause}); it is damaged or made to do this; send "
            "another encoding of it."
        )
