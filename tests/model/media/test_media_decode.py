from collections.abc import Iterator
from pathlib import Path
from typing import cast

import av
import pytest
from av.container import InputContainer
from conftest import Pictures, Render

from model.media.decode import Clock, Tally, packets, prepare
from model.media.limits import Budget, MediaLimits
from model.media.probe import MediaInfo, open_container

LIMITS = MediaLimits()


class _BreakingContainer:
    """A container whose file cannot be read on after some packets."""

    def __init__(self, container: InputContainer, count: int) -> None:
        self._container = container
        self._count = count

    def demux(self, stream: av.VideoStream) -> Iterator[av.Packet]:
        for _, packet in zip(range(self._count), self._container.demux(stream), strict=False):
            yield packet
        raise av.error.InvalidDataError(1, "the disk has a hole")


def test_what_the_decoder_holds_when_the_file_breaks_off_is_not_lost(render: Render):
    path: Path = render("clip.mp4", pictures=Pictures(count=20))
    budget, tally = Budget(LIMITS), Tally("pictures")
    with open_container(path, LIMITS) as container:
        stream = container.streams.video[0]
        prepare(container, stream, budget)
        broken = cast(InputContainer, _BreakingContainer(container, 10))
        source = packets(broken, stream, budget, tally)
        frames = [frame for packet in source for frame in packet.decode()]
    assert len(frames) == 10
    assert tally.report(end_seconds=1.0, delivered=True).warnings == (
        "the file breaks off within the pictures; what came before was used",
    )


def _clock(declared_seconds: float | None, tally: Tally) -> Clock:
    info = MediaInfo("x", declared_seconds, 100.0, None, None, None, None, False)
    return Clock(info, Budget(LIMITS), tally)


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (105.0, 5.0),  # just what follows
        (None, 5.0),  # unknown
        (130.0, 30.0),  # a short hole
        (300.0, 200.0),  # a long hole that the declared duration has room for
        (500.0, 5.0),  # a leap beyond it
        (50.0, 5.0),  # a step back
    ],
)
def test_a_timestamp_is_believed_as_far_as_it_can_be_true(stamp: float | None, expected: float):
    clock = _clock(300.0, Tally("sound"))
    assert clock.place(stamp, 5.0, earliest=4.9) == pytest.approx(expected)


def test_after_a_leap_the_track_goes_on_from_there():
    tally = Tally("sound")
    clock = _clock(None, tally)
    assert clock.place(1e6, 5.0, earliest=4.9) == 5.0
    assert clock.place(1e6 + 1.0, 6.0, earliest=5.9) == pytest.approx(6.0)
    assert clock.to_stamp(6.0) == pytest.approx(1e6 + 1.0)
    assert clock.to_seconds(1e6 + 1.0) == pytest.approx(6.0)
    assert tally.jumps == 1


def test_what_went_wrong_is_said_in_sentences():
    nothing = Tally("sound").report(end_seconds=0.0, delivered=False)
    assert nothing.failure == "there are no samples of the sound, only a header"
    hidden = Tally("sound", packets=9, encrypted=9).report(end_seconds=0.0, delivered=False)
    assert (hidden.encrypted, hidden.failure) == (True, "every sample of the sound is encrypted")
    broken = Tally("sound", packets=9, damaged=9).report(end_seconds=0.0, delivered=False)
    assert broken.failure == "none of the 9 packets of the sound could be decoded"
    partly = Tally("sound", packets=9, damaged=2, encrypted=3, jumps=1)
    assert partly.report(end_seconds=1.0, delivered=True).warnings == (
        "2 of 9 packets of the sound are damaged and were skipped",
        "3 packets of the sound are encrypted and were skipped",
        "1 impossible jumps in the timestamps of the sound were closed",
    )
