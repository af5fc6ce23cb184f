"""The device that the model runs on: which, in which shapes, and what it says when it is full."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.errors import ConfigError, OutOfMemory

GPU_BATCH_ROWS = 32
CPU_BATCH_ROWS = 8
"""Rows of one call of a backbone at most, powers of two. More gain a CPU nothing and take memory
(`benchmarks/hot_path.py`)."""

_FULL_CPU = ("not enough memory", "can't allocate memory", "cannot allocate memory")
"""What torch's allocator for the CPU says, in a plain RuntimeError, when there is no more."""


def resolve_device(device: str) -> str:
    """`auto` is the GPU where torch sees one, else the CPU.

    Raises:
        ConfigError: it is no device of torch's, or a GPU that was asked for is not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        asked = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(
            f"the device {device!r} is unknown; it may be auto, cpu, cuda, cuda:NUMBER or mps"
        ) from error
    if asked.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"the device {device!r} was asked for, but torch sees no GPU; take cpu or auto, or "
            "install the build of torch for your CUDA version"
        )
    if asked.type == "cuda" and (asked.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"the device {device!r} was asked for, but there are {torch.cuda.device_count()} GPUs; "
            "they are numbered from 0"
        )
    if asked.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"the device {device!r} was asked for, but torch sees none; take cpu")
    return device


def to_numpy(tensor: Tensor) -> NDArray[np.float32]:
    """Copy a tensor of any device to NumPy float32."""
    return tensor.float().cpu().numpy()


def max_batch_rows(device: str) -> int:
    """Rows that go through a backbone at once on a device."""
    return CPU_BATCH_ROWS if device == "cpu" else GPU_BATCH_ROWS


def rows_a_call(rows: int, *, lanes: int, at_most: int) -> int:
    """Rows of one call, a power of two, so few that `rows` >= 1 are enough for all lanes."""
    share = max(1, rows // lanes)
    return min(at_most, 1 << (share.bit_length() - 1))


def batch_slices(rows: int, *, at_most: int) -> Iterator[tuple[int, int]]:
    """Cut `rows` into half-open ranges whose lengths are powers of two, the longest first.

    `at_most` is one, too.

    A device's allocator and its libraries keep memory for each shape that they have seen; with so
    few shapes it does not grow. Nothing is padded: 13 rows are 8, 4 and 1.
    """
    start = 0
    while start < rows:
        length = min(at_most, 1 << ((rows - start).bit_length() - 1))
        yield start, start + length
        start += length


@contextmanager
def typed_out_of_memory() -> Iterator[None]:
    """Raise OutOfMemory where torch finds no memory, after giving back what it holds unused."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        # Outside of `except` the traceback would still hold the tensors that did not fit.
        message = _full(str(error))
    except MemoryError as error:
        message = _full(str(error) or "MemoryError")
    except RuntimeError as error:
        if not any(sign in str(error).lower() for sign in _FULL_CPU):
            raise
        message = _full(str(error))
    else:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise OutOfMemory(message)


def _full(reason: str) -> str:
    first_line = reason.splitlines()[0]
    return (
        f"the device has not enough memory for this ({first_line}); send shorter clips, or run the "
        "model on a device with more memory"
    )
