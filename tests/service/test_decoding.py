"""The decode pool: whatever a file does to its decoder, it costs one answer and one process."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.embedding import embed_file
from model.errors import DecodeMemoryExceeded, DecoderCrashed, DecodeTimeout, EncryptedMedia
from model.fake import SPEC, FakeEmbedder
from model.media.limits import MediaLimits
from model.media.tasks import ClipHead, ClipTail, decode_clip
from model.media.types import ClipChunk
from service import decoding
from service.cancellation import Cancellation, WorkCancelled
from service.decoding import DecodePool, _Worker
from tests.service import decoders
from tests.service.media import mp4, wav

ROOT = Path(__file__).parents[2]
MEMORY = 512 * 2**20


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    """One process, so that each test sees what the one before has left."""
    pool = DecodePool(workers=1, memory_bytes=MEMORY, clips_per_worker=1000, grace_seconds=1.0)
    pool.wait_until_ready()
    yield pool
    pool.close()


def read(
    pool: DecodePool,
    function: Callable[..., Any],
    *arguments: object,
    silence_seconds: float = 60.0,
    cancellation: Cancellation | None = None,
) -> tuple[list[Any], Any]:
    stream = pool.stream(
        function,
        *arguments,
        silence_seconds=silence_seconds,
        cancellation=cancellation or Cancellation(),
    )
    items = []
    while True:
        try:
            items.append(next(stream))
        except StopIteration as stop:
            return items, stop.value


def is_gone(process_id: int) -> bool:
    """Whether a process ends within some seconds; a zombie has."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def test_items_and_the_result_come_back_in_order(pool: DecodePool) -> None:
    assert read(pool, decoders.count, 1000) == (list(range(1000)), b"done")


def test_a_clip_decodes_there_as_it_does_here(pool: DecodePool, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(mp4())
    embedder = FakeEmbedder()
    here = embed_file(embedder, path, limits=MediaLimits())

    items, tail = read(pool, decode_clip, path, MediaLimits(), SPEC, "auto", 64)

    head, *chunks = items
    assert isinstance(head, ClipHead)
    assert head.declared_duration_seconds == pytest.approx(2.0, abs=0.2)
    assert all(isinstance(chunk, ClipChunk) for chunk in chunks)
    windows = [
        window
        for chunk in chunks
        for forwarded in embedder.forward([embedder.prepare(chunk)])
        for window in embedder.finish(forwarded)
    ]
    for there, own in zip(windows, here.windows, strict=True):
        assert there.start_seconds == own.start_seconds
        np.testing.assert_array_equal(there.audio, own.audio)
        np.testing.assert_array_equal(there.video, own.video)
    assert isinstance(tail, ClipTail)
    assert tail.summary == here.summary
    assert tail.thumbnail is not None
    assert tail.thumbnail.startswith(b"\xff\xd8")


def test_errors_cross_as_themselves_and_cost_no_process(pool: DecodePool, tmp_path: Path) -> None:
    [process], _ = read(pool, decoders.process_id)

    with pytest.raises(EncryptedMedia, match="send it without"):
        read(pool, decoders.refuse)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a fault of ours") as caught:
        read(pool, decoders.fail)

    assert "decoders.py" in caught.value.__notes__[0]
    assert read(pool, decoders.process_id) == ([process], None)


def test_pain_01_and_11_a_hang_in_the_decoder_costs_one_process(pool: DecodePool) -> None:
    with pytest.raises(DecodeTimeout, match=r"did not answer for 1\.5 s"):
        read(pool, decoders.sleep_for_ever, silence_seconds=0.5)

    assert read(pool, decoders.count, 3)[0] == [0, 1, 2]


def test_a_decoder_that_stops_in_the_middle_of_a_message_costs_one_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "MESSAGE_SECONDS", 0.5)
    with closing(DecodePool(workers=1, memory_bytes=MEMORY, clips_per_worker=100)) as pool:
        with pytest.raises(DecodeTimeout, match=r"did not answer for 0\.5 s"):
            read(pool, decoders.claim, 1000)

        assert read(pool, decoders.count, 3)[0] == [0, 1, 2]


def test_pain_11_a_file_that_asks_for_all_memory_is_refused(pool: DecodePool) -> None:
    with pytest.raises(DecodeMemoryExceeded, match=f"limit of {MEMORY} bytes"):
        read(pool, decoders.allocate, 10)

    assert read(pool, decoders.count, 3)[0] == [0, 1, 2]


@pytest.mark.parametrize(
    ("function", "cause"), [(decoders.abort, "SIGABRT"), (decoders.be_killed, "SIGKILL")]
)
def test_pain_01_a_file_that_kills_its_decoder_is_told_so(
    pool: DecodePool, function: Callable[..., Any], cause: str
) -> None:
    with pytest.raises(DecoderCrashed, match=cause):
        read(pool, function)

    assert read(pool, decoders.count, 3)[0] == [0, 1, 2]


class Hostile:
    """Makes whoever unpickles it write a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self._path), "w")


def test_a_decoder_that_was_taken_over_cannot_take_over_its_parent(
    pool: DecodePool, tmp_path: Path
) -> None:
    trap = tmp_path / "executed"
    [process], _ = read(pool, decoders.process_id)

    with pytest.raises(DecoderCrashed, match="taken over"):
        read(pool, decoders.send, pickle.dumps(("item", Hostile(trap))))

    assert not trap.exists()
    assert is_gone(process)
    assert read(pool, decoders.count, 3)[0] == [0, 1, 2]


def test_a_decoder_cannot_make_its_parent_hold_more_than_it_may_itself(pool: DecodePool) -> None:
    with pytest.raises(DecoderCrashed):
        read(pool, decoders.claim, 2**40)

    assert read(pool, decoders.count, 3)[0] == [0, 1, 2]


def test_pain_05_a_decode_that_nobody_waits_for_is_stopped(pool: DecodePool) -> None:
    cancellation = Cancellation()
    stream = pool.stream(decoders.sleep_for_ever, silence_seconds=600.0, cancellation=cancellation)
    process = next(stream)
    threading.Timer(0.2, cancellation.cancel).start()

    with pytest.raises(WorkCancelled):
        next(stream)

    assert is_gone(process)
    assert read(pool, decoders.count, 3)[0] == [0, 1, 2]


def test_pain_05_a_process_that_is_killed_at_its_last_word_gets_no_other_file(
    pool: DecodePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancellation = Cancellation()
    receive = _Worker.receive

    def cancelled_at_the_end(worker: _Worker, seconds: float) -> tuple[Any, Any]:
        kind, value = receive(worker, seconds)
        if kind == "done":
            cancellation.cancel()
        return kind, value

    monkeypatch.setattr(_Worker, "receive", cancelled_at_the_end)
    # A process is for a moment what it was before SIGKILL.
    monkeypatch.setattr(_Worker, "is_alive", property(lambda _: True))

    assert read(pool, decoders.count, 3, cancellation=cancellation) == ([0, 1, 2], b"done")
    assert cancellation.is_set
    assert read(pool, decoders.count, 3) == ([0, 1, 2], b"done")


def test_pain_05_work_cancelled_while_it_waits_for_a_process_never_gets_one(
    pool: DecodePool,
) -> None:
    busy = pool.stream(decoders.endless, silence_seconds=60.0, cancellation=Cancellation())
    next(busy)
    cancellation = Cancellation()
    threading.Timer(0.2, cancellation.cancel).start()

    with pytest.raises(WorkCancelled):
        read(pool, decoders.count, 1, cancellation=cancellation)

    busy.close()


def test_pain_08_a_decoder_waits_for_a_slow_consumer(pool: DecodePool, tmp_path: Path) -> None:
    written = tmp_path / "count"
    stream = pool.stream(
        decoders.counted, str(written), 200, silence_seconds=60.0, cancellation=Cancellation()
    )
    next(stream)
    time.sleep(1.0)

    assert int(written.read_text()) < 10
    stream.close()


def test_pain_08_a_process_is_replaced_after_so_many_clips() -> None:
    pool = DecodePool(workers=1, memory_bytes=MEMORY, clips_per_worker=2)
    seen = [read(pool, decoders.process_id)[0][0] for _ in range(4)]
    pool.close()

    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_a_process_killed_while_idle_is_replaced(pool: DecodePool) -> None:
    [process], _ = read(pool, decoders.process_id)
    os.kill(process, signal.SIGKILL)
    assert is_gone(process)

    [other], _ = read(pool, decoders.process_id)

    assert other != process
    assert pool.alive == 1


def test_pain_10_a_pool_works_while_a_process_is_replaced_but_not_when_none_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = DecodePool(workers=1, memory_bytes=MEMORY, clips_per_worker=1000)
    pool.wait_until_ready()
    with pytest.raises(DecoderCrashed):
        read(pool, decoders.abort)
    assert pool.is_working
    assert read(pool, decoders.count, 1)[0] == [0]

    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DecoderCrashed):
        read(pool, decoders.abort)
    deadline = time.monotonic() + 60
    while pool.is_working and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not pool.is_working

    monkeypatch.undo()
    assert read(pool, decoders.count, 1)[0] == [0]
    assert pool.is_working
    pool.close()
    assert not pool.is_working


def test_closing_ends_what_streams_and_leaves_no_process() -> None:
    pool = DecodePool(workers=2, memory_bytes=MEMORY, clips_per_worker=1000)
    stream = pool.stream(decoders.sleep_for_ever, silence_seconds=600, cancellation=Cancellation())
    process = next(stream)

    pool.close()

    assert is_gone(process)
    with pytest.raises(WorkCancelled):
        next(stream)
    with pytest.raises(WorkCancelled):
        read(pool, decoders.count, 1)
    assert pool.alive == 0


SERVER = """
import sys
from service.cancellation import Cancellation
from service.decoding import DecodePool, _Worker
from tests.service import decoders
pool = DecodePool(workers=2, memory_bytes=2**29, clips_per_worker=10)
arguments = {"silence_seconds": 600, "cancellation": Cancellation()}
streams = [pool.stream(decoders.sleep_for_ever, **arguments) for _ in range(2)]
print(*[next(stream) for stream in streams], flush=True)
sys.stdin.read()
"""


def test_no_process_is_left_when_the_server_is_killed() -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        processes = [int(word) for word in server.stdout.readline().split()]
        server.kill()

    assert len(processes) == 2
    assert all(is_gone(process) for process in processes)


def test_a_process_imports_neither_the_model_nor_the_server() -> None:
    code = (
        "import service.decode_worker, sys\n"
        "print(*sorted({'torch', 'fastapi', 'faiss', 'sqlalchemy'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == ""


def test_a_real_file_over_the_memory_limit_is_refused_by_its_own_code(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(wav(2.0))
    limits = MediaLimits()
    spec = SPEC
    pool = DecodePool(workers=1, memory_bytes=128 * 2**20, clips_per_worker=10)
    # Windows of this length are 1 GB.
    long = type(spec)(16_000, 16_000.0, 16_000.0, 2.0, 32)
    try:
        with pytest.raises(DecodeMemoryExceeded):
            read(pool, decode_clip, path, limits, long, "auto", None)
        assert read(pool, decode_clip, path, limits, spec, "auto", None)[1].summary.audio.used
    finally:
        pool.close()
