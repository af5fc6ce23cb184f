"""A decoder in a process of its own; `service.decoding` starts it, feeds it and kills it.

It reads tasks from a socket, `(function, arguments)`, calls the generator function and sends back
what it yields, item by item, then what it returns or raises (`service.decode_messages`). A full
socket makes it wait, which is the back-pressure. It imports what decodes and nothing else:
many of them run, and one is started anew after each file that kills it.
"""

import contextlib
import ctypes
import os
import pickle
import resource
import signal
import sys
from multiprocessing.connection import Connection

from model.errors import DecodeMemoryExceeded
from model.media import tasks as _loaded_before_the_first_task  # noqa: F401
from service.decode_messages import encode

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the socket whose number, the parent's process id and the memory limit argv names."""
    socket_number, parent_id, memory_bytes = (int(word) for word in sys.argv[1:4])
    # The service decides when its decoders end: a Ctrl-C or a supervisor's signal to the whole
    # group must not take the files from under requests that are still to be answered.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with(parent_id)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(socket_number)
    # The socket breaks where the parent is gone, or has given this process up.
    with contextlib.suppress(EOFError, ConnectionError):
        connection.send_bytes(encode("ready", None))
        while True:
            _serve(connection, memory_bytes)


def _die_with(parent_id: int) -> None:
    """Have the kernel kill this process when the parent dies, even in the middle of a decode."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_id:
        sys.exit("the parent is gone")


def _serve(connection: Connection, memory_bytes: int) -> None:
    """Do one task. Raises EOFError, ConnectionError where nobody is at the other end."""
    task = connection.recv_bytes()
    try:
        function, arguments = pickle.loads(task)
        items = function(*arguments)
        while True:
            try:
                item = next(items)
            except StopIteration as stop:
                connection.send_bytes(encode("done", stop.value))
                return
            connection.send_bytes(encode("item", item))
    except ConnectionError:
        raise
    except MemoryError:
        error: Exception = DecodeMemoryExceeded(
            f"Decoding needs more memory than the limit of {memory_bytes} bytes; send a clip of "
            "lower resolution."
        )
    except Exception as raised:
        error = raised
    connection.send_bytes(encode("failed", error))


if __name__ == "__main__":
    main()
