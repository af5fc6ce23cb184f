"""What decoding processes are asked for in tests: files that do their worst, without the files."""

import ctypes
import os
import signal
import struct
import sys
import time
from collections.abc import Generator
from multiprocessing.connection import Connection
from pathlib import Path

from model.errors import EncryptedMedia
from model.media.tasks import ClipHead


def count(to: int) -> Generator[int, None, bytes]:
    yield from range(to)
    return b"done"


def process_id() -> Generator[int, None, None]:
    yield os.getpid()


def sleep_for_ever() -> Generator[int, None, None]:
    yield os.getpid()
    # In C, as a hang inside FFmpeg would be: no signal handler of Python's runs meanwhile.
    ctypes.PyDLL(None).sleep(10_000)


def allocate(gigabytes: int) -> Generator[int, None, None]:
    yield len(bytearray(gigabytes * 2**30))


def send(message: bytes) -> Generator[int, None, None]:
    """Send a message as a decoder would that a file has taken over."""
    sender = Connection(int(sys.argv[1]))
    sender.send_bytes(message)
    time.sleep(10_000)
    yield 1


def claim(length: int) -> Generator[int, None, None]:
    """Begin a message of so many bytes."""
    os.write(int(sys.argv[1]), struct.pack("!iQ", -1, length))
    time.sleep(10_000)
    yield 1


def abort() -> Generator[int, None, None]:
    yield 1
    os.abort()


def be_killed() -> Generator[int, None, None]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield 1


def refuse() -> Generator[int, None, None]:
    yield 1
    raise EncryptedMedia("The file is encrypted; send it without.")


def fail() -> Generator[int, None, None]:
    raise ZeroDivisionError("a fault of ours")
    yield 1


def megabytes(count: int) -> Generator[bytes, None, None]:
    for _ in range(count):
        yield bytes(2**20)


def counted(path: str, to: int) -> Generator[bytes, None, None]:
    """Yield megabytes, writing down how many were made."""
    for number in range(to):
        with open(path, "w") as file:
            file.write(str(number + 1))
        yield bytes(2**20)


def endless() -> Generator[float, None, None]:
    while True:
        time.sleep(0.01)
        yield time.monotonic()


# In the place of `model.media.tasks.decode_clip`, with its parameters.


def hang_on_clip(path: Path, *_: object) -> Generator[ClipHead, None, None]:
    """Write down who hangs, beside the uploads, then hang."""
    (path.parent.parent / "hanging").write_text(str(os.getpid()))
    yield ClipHead(None)
    next(hang := sleep_for_ever())
    next(hang)


def allocate_on_clip(*_: object) -> Generator[ClipHead, None, None]:
    yield ClipHead(None)
    bytearray(10 * 2**30)


def abort_on_clip(*_: object) -> Generator[ClipHead, None, None]:
    yield ClipHead(None)
    os.abort()


def abort_at_once(*_: object) -> Generator[None, None, None]:
    os.abort()
    yield
