"""Calls side by side: all of them made, in order, each on one core."""

import threading

import numpy as np
import pytest
import torch

from model.backbones.protocol import AudioBackbone, VideoBackbone
from model.device import batch_slices, rows_a_call
from model.embedder import Backbones
from model.embedding import blank_chunk
from model.lanes import Lanes
from model.media.types import DecodeSpec


def test_calls_run_side_by_side_and_come_back_in_order() -> None:
    lanes = Lanes(2)
    both = threading.Barrier(2, timeout=10)  # passed only by two calls at once

    def call(number: int) -> int:
        both.wait()
        return number

    assert lanes.run([lambda: call(0), lambda: call(1)]) == [0, 1]


def test_torch_uses_one_core_in_a_lane_and_as_many_as_before_elsewhere() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        lanes = Lanes(2)

        assert lanes.run([torch.get_num_threads] * 4) == [1] * 4
        assert torch.get_num_threads() == 3
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert found == [3]
    finally:
        torch.set_num_threads(before)


def test_one_lane_or_one_call_is_the_calling_thread() -> None:
    here = threading.get_ident()

    assert Lanes(1).run([threading.get_ident] * 2) == [here, here]
    assert Lanes(2).run([threading.get_ident]) == [here]


def test_an_error_is_raised_when_all_calls_have_ended() -> None:
    ended = threading.Event()
    failed = threading.Event()

    def fails() -> None:
        failed.set()
        raise MemoryError("full")

    def takes_longer() -> None:
        failed.wait(10)
        ended.wait(0.2)
        ended.set()

    with pytest.raises(MemoryError, match="full"):
        Lanes(2).run([fails, takes_longer])
    assert ended.is_set()


@pytest.mark.parametrize("lanes", [1, 2, 3, 8])
def test_every_row_is_in_one_call_and_every_lane_has_one(lanes: int) -> None:
    for rows in range(1, 70):
        at_most = rows_a_call(rows, lanes=lanes, at_most=8)
        slices = list(batch_slices(rows, at_most=at_most))

        assert [row for start, end in slices for row in range(start, end)] == list(range(rows))
        assert len(slices) >= min(rows, lanes)
        assert {end - start for start, end in slices} <= {1, 2, 4, 8}


class Numbered:
    """A backbone whose features are the first number of each row."""

    name = "numbered"
    dim = 1
    sample_rate = 8
    frame_size = 2

    def prepare(self, values: np.ndarray) -> np.ndarray:
        return values

    def features(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.reshape(len(batch), -1)[:, :1].float()

    def to(self, device: str) -> "Numbered":
        return self


def test_rows_come_back_to_the_chunks_that_they_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    audio: AudioBackbone = Numbered()
    video: VideoBackbone = Numbered()
    backbones = Backbones(audio, video, "cpu")
    spec = DecodeSpec(
        sample_rate=8, window_seconds=1.0, hop_seconds=1.0, frames_per_second=2.0, frame_size=2
    )
    prepared = []
    for number in range(1, 6):
        chunk = backbones.prepare(blank_chunk(spec))
        assert chunk.audio is not None
        assert chunk.frames is not None
        chunk.audio[:] = number
        chunk.frames[:] = 10 * number
        prepared.append(chunk)

    found = backbones.features(prepared)

    assert [set(f.audio.flatten().tolist()) for f in found] == [{n} for n in range(1, 6)]
    assert [set(torch.cat(f.video).flatten().tolist()) for f in found] == [
        {10 * n} for n in range(1, 6)
    ]
