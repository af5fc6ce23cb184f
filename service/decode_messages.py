"""What a decoding process says, as bytes that can be read without trusting it.

A file may have taken the decoder over, so the service must not unpickle what it sends: a message is
MessagePack of one of the types below, checked field by field; arrays are their bytes.
"""

import traceback
from dataclasses import is_dataclass
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from model import errors
from model.errors import MediaError
from model.media.sound_views import Waveform
from model.media.tasks import ClipHead, ClipTail
from model.media.types import ClipChunk

Kind = Literal["ready", "item", "done", "failed"]
"""An item is what a task yields, done what it returns, failed what it raises."""

PLAIN = "plain"
"""Nothing, a number, or bytes."""

TYPES: dict[str, Any] = {
    PLAIN: None | bool | int | float | bytes,
    **{kind.__name__: kind for kind in (ClipHead, ClipChunk, ClipTail, Waveform)},
}


class MessageRefused(Exception):
    """A message is not what a decoder of ours would send."""


class _Message(msgspec.Struct, array_like=True):
    kind: Kind
    type: str
    value: msgspec.Raw


class _Failure(msgspec.Struct, array_like=True):
    """What a task raised: a MediaError by its class, anything else as words."""

    type: str
    message: str
    notes: list[str]


class _Array(msgspec.Struct, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def encode(kind: Kind, value: object) -> bytes:
    """Write a message. Raises TypeError for what cannot be sent."""
    if isinstance(value, Exception):
        name, value = "", _failure(value)
    else:
        name = type(value).__name__ if is_dataclass(value) else PLAIN
    body = msgspec.Raw(msgspec.msgpack.encode(value, enc_hook=_simplified))
    return msgspec.msgpack.encode(_Message(kind, name, body))


def decode(message: bytes) -> tuple[Kind, Any]:
    """Read a message; what failed comes as an exception, arrays cannot be written to.

    Raises:
        MessageRefused: it is nothing that `encode` would have made.
    """
    try:
        read = msgspec.msgpack.decode(message, type=_Message)
        if read.kind == "failed":
            return read.kind, _exception(msgspec.msgpack.decode(read.value, type=_Failure))
        kind = TYPES[read.type]
        return read.kind, msgspec.msgpack.decode(read.value, type=kind, dec_hook=_rebuilt)
    except KeyError as error:
        raise MessageRefused(f"there is no type {error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageRefused(str(error)) from error


def _simplified(value: object) -> object:
    if isinstance(value, np.ndarray):
        flat = np.ascontiguousarray(value).reshape(-1)
        return _Array(value.dtype.str, value.shape, flat.view(np.uint8).data)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _rebuilt(kind: Any, value: object) -> object:
    """Make the array of an annotation such as NDArray[np.float32]."""
    array = msgspec.convert(value, _Array)
    _, of_dtype = get_args(kind)
    dtype = np.dtype(get_args(of_dtype)[0])
    if array.dtype != dtype.str:
        raise ValueError(f"an array is of {array.dtype}, not of {dtype.str}")
    return np.frombuffer(array.data, dtype).reshape(array.shape)


def _failure(error: Exception) -> _Failure:
    if isinstance(error, MediaError):
        return _Failure(type(error).__name__, str(error), [])
    told = f"In the decoding process:\n{''.join(traceback.format_exception(error))}"
    return _Failure("", f"{type(error).__name__}: {error}", [told])


def _exception(failure: _Failure) -> Exception:
    kind = getattr(errors, failure.type, None)
    if isinstance(kind, type) and issubclass(kind, MediaError):
        return kind(failure.message)
    error = RuntimeError(failure.message)
    for note in failure.notes:
        error.add_note(note)
    return error
