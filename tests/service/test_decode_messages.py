"""What decoding processes say: it arrives as it was, and nothing else is taken for it."""

import numpy as np
import pytest

from model.errors import EncryptedMedia
from model.media.sound_views import Waveform
from model.media.tasks import ClipHead, ClipTail
from model.media.types import ClipChunk, ClipSummary, ModalityUse
from service.decode_messages import MessageRefused, decode, encode

CHUNK = ClipChunk(
    windows=((0.0, 4.0), (2.0, 6.0)),
    waveforms=np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32),
    has_audio=np.array([True, False]),
    frames=np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3),
    frame_times=np.array([0.5, 1.5]),
    has_video=np.array([False, True]),
)


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        b"a picture",
        ClipHead(2.5),
        ClipHead(None),
        ClipTail(ClipSummary(2.0, ModalityUse(True), ModalityUse(False, "why"), ("w",)), b"", None),
    ],
)
def test_what_holds_no_array_arrives_equal(value: object) -> None:
    assert decode(encode("done", value)) == ("done", value)


def test_arrays_arrive_with_their_types_and_shapes() -> None:
    kind, chunk = decode(encode("item", CHUNK))

    assert kind == "item"
    assert chunk.windows == CHUNK.windows
    for name in ("waveforms", "has_audio", "frames", "frame_times", "has_video"):
        sent, got = getattr(CHUNK, name), getattr(chunk, name)
        assert got.dtype == sent.dtype
        np.testing.assert_array_equal(got, sent)


def test_what_is_missing_or_empty_arrives_so() -> None:
    silent = ClipChunk((), None, np.zeros(0, bool), np.zeros((0, 4, 4, 3), np.uint8), *_EMPTY)
    _, chunk = decode(encode("item", silent))

    assert chunk.waveforms is None
    assert chunk.frames.shape == (0, 4, 4, 3)


_EMPTY = (np.zeros(0), np.zeros(0, bool))


def test_an_array_that_is_not_contiguous_arrives_whole() -> None:
    pairs = np.arange(8, dtype=np.float32).reshape(4, 2)
    _, waveform = decode(encode("done", Waveform(pairs[:, 0], pairs[:, 1], np.float64(1.0))))

    np.testing.assert_array_equal(waveform.lowest, [0, 2, 4, 6])
    assert waveform.duration_seconds == 1.0


def test_an_error_of_the_media_arrives_as_itself_and_others_as_words() -> None:
    _, media = decode(encode("failed", EncryptedMedia("locked")))
    _, other = decode(encode("failed", KeyError("x")))

    assert type(media) is EncryptedMedia
    assert str(media) == "locked"
    assert type(other) is RuntimeError
    assert str(other) == "KeyError: 'x'"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x80\x04\x95\x0a",
        encode("item", CHUNK)[:-1],
        encode("item", CHUNK).replace(b"<f4", b"|O8"),
        encode("item", CHUNK).replace(b"ClipChunk", b"ClipHeads"),
        encode("item", ClipHead(1.0)).replace(b"ClipHead", b"Waveform"),
        encode("item", 1).replace(b"item", b"evil"),
        encode("item", ["a list"]),
        encode("item", "words are sent by no task"),
        encode("failed", EncryptedMedia("x")).replace(b"EncryptedMedia", b"\xffncryptedMedia"),
    ],
    ids=range(10),
)
def test_what_no_decoder_sends_is_refused(message: bytes) -> None:
    with pytest.raises(MessageRefused):
        decode(message)


def test_no_name_but_of_a_media_error_is_looked_up() -> None:
    message = encode("failed", EncryptedMedia("x")).replace(b"EncryptedMedia", b"ClassVar[str]_")

    assert type(decode(message)[1]) is RuntimeError


def test_what_has_no_type_here_is_not_sent() -> None:
    with pytest.raises(TypeError, match="object cannot be sent"):
        encode("item", object())
