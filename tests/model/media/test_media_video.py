from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COLUMNS, Pictures, Render, Sound, number_in, numbered
from numpy.typing import NDArray

from model.errors import DecodeTimeout, DurationTooLong, FrameTooLarge, ModalityMissing
from model.media.decode import TrackReport
from model.media.limits import Budget, MediaLimits
from model.media.probe import probe
from model.media.types import VideoFrame
from model.media.video import read_frames

LIMITS = MediaLimits()


def read(
    path: Path, *, fps: float = 10.0, size: int = 48, limits: MediaLimits = LIMITS, **options: Any
) -> tuple[list[VideoFrame], TrackReport]:
    def items() -> Iterator[VideoFrame]:
        nonlocal report
        report = yield from read_frames(
            path, frames_per_second=fps, frame_size=size, limits=limits, **options
        )

    report: TrackReport | None = None
    frames = list(items())
    assert report is not None
    return frames, report


def shown(frames: list[VideoFrame]) -> list[tuple[float, int]]:
    return [(round(frame.time_seconds, 3), number_in(frame.pixels)) for frame in frames]


H264 = {"codec": "libx264"}
MPEG4 = {"codec": "mpeg4", "options": ()}
VP9 = {"codec": "libvpx-vp9", "options": (("cpu-used", "8"), ("deadline", "realtime"))}
AV1 = {"codec": "libsvtav1", "options": (("preset", "12"),)}
HEVC = {"codec": "libx265", "options": (("preset", "ultrafast"), ("x265-params", "log-level=0"))}
MJPEG = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": ()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", H264),
        ("b.mkv", H264),
        ("c.mov", H264),
        ("d.ts", H264),
        ("e.flv", H264),
        ("f.webm", VP9),
        ("g.mkv", MPEG4),
        ("h.mp4", HEVC),
        ("i.mp4", AV1),
        ("j.mov", MJPEG),
        ("k.mp4", H264 | {"pix_fmt": "yuv444p"}),
        ("l.mp4", H264 | {"pix_fmt": "yuv420p10le"}),
        ("m.mov", {"codec": "qtrle", "pix_fmt": "argb", "options": ()}),
        ("n.mkv", {"codec": "ffv1", "pix_fmt": "gray", "options": ()}),
        ("o.mov", {"codec": "png", "pix_fmt": "rgba", "options": ()}),
        ("p.mov", {"codec": "rawvideo", "pix_fmt": "rgb24", "options": ()}),
    ],
)
@pytest.mark.parametrize("fps", [10.0, 2.0])
def test_each_target_time_shows_the_right_picture(
    render: Render, name: str, options: dict[str, Any], fps: float
):
    frames, report = read(render(name, pictures=Pictures(count=30, **options)), fps=fps)
    expected = [(k + 0.5) / fps for k in range(round(3 * fps))]
    assert shown(frames) == [(round(t, 3), int(t * 10 + 1e-6)) for t in expected]
    assert report.end_seconds == pytest.approx(3.0, abs=0.05)
    assert report.warnings == ()
    assert {frame.pixels.shape for frame in frames} == {(48, 144, 3)}
    assert all(frame.pixels.flags.c_contiguous for frame in frames)


@pytest.mark.parametrize(
    "options",
    [
        (("g", "250"), ("bf", "3")),
        (("g", "5"), ("bf", "3")),
        (("g", "7"), ("x264-params", "open-gop=1:scenecut=0")),
        (("g", "1"),),
        (("g", "60"), ("x264-params", "intra-refresh=1")),
    ],
    ids=["long GOP", "short GOP", "open GOP", "only key frames", "no key frames but the first"],
)
@pytest.mark.parametrize("fps", [0.5, 2.0, 7.3])
def test_the_choice_does_not_depend_on_the_key_frames(
    render: Render, options: tuple[tuple[str, str], ...], fps: float
):
    path = render("gop.mp4", pictures=Pictures(count=150, options=(("crf", "12"), *options)))
    frames, _ = read(path, fps=fps)
    assert len(frames) == int(15 * fps)
    assert all(abs(number - (t * 10 - 0.5)) <= 1.0 for t, number in shown(frames))


def test_packets_that_no_target_needs_are_not_decoded(render: Render, monkeypatch):
    path = render("all_keys.mkv", pictures=Pictures(count=300, **MJPEG))
    decoded = []
    from model.media import video

    real = video._decode
    monkeypatch.setattr(video, "_decode", lambda *args: decoded.append(1) or real(*args))
    frames, report = read(path, fps=0.5)
    assert [number for _, number in shown(frames)] == [10 + 20 * k for k in range(15)]
    assert report.end_seconds == pytest.approx(30.0)
    assert len(decoded) < 60


def test_a_picture_that_stays_is_shown_at_every_target(render: Render):
    path = render("slides.mp4", pictures=Pictures(times=[0.0, 1.2, 1.3, 4.0, 4.5]))
    frames, _ = read(path, fps=2.0)
    times = [0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.25]
    assert shown(frames)[: len(times)] == list(zip(times, [0, 0, 1, 2, 2, 2, 2, 2, 3], strict=True))


def test_pictures_that_start_late_are_late_on_the_clips_clock(render: Render):
    path = render("late.mp4", pictures=Pictures(start_seconds=1.0), sound=Sound())
    frames, report = read(path, fps=4.0)
    assert shown(frames)[0] == (1.125, 1)
    assert report.end_seconds == pytest.approx(3.0, abs=0.05)


def test_a_clip_whose_timestamps_start_high_starts_at_zero(render: Render):
    path = render("high.mkv", pictures=Pictures(start_seconds=5000.0))
    frames, report = read(path)
    assert shown(frames)[:3] == [(0.05, 0), (0.15, 1), (0.25, 2)]
    assert report.end_seconds == pytest.approx(2.0, abs=0.05)


def test_a_leap_in_the_timestamps_is_closed(render: Render):
    first = render("a.ts", pictures=Pictures())
    second = render("b.ts", pictures=Pictures(start_seconds=30000.0))
    path = first.with_name("both.ts")
    path.write_bytes(first.read_bytes() + second.read_bytes())
    frames, report = read(path)
    assert report.end_seconds == pytest.approx(4.0, abs=0.2)
    assert [number for _, number in shown(frames)][-1] == 19
    assert any("jumps in the timestamps of the pictures" in w for w in report.warnings)


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_pictures_are_upright(render: Render, rotation: int, mirrored: bool):
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:32, :48], upright[:32, 48:], upright[32:, :48] = 250, (250, 0, 0), (0, 0, 250)
    coded = np.rot90(upright[:, ::-1] if mirrored else upright, -rotation // 90)

    def draw(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(coded)

    path = render(
        "turned.mp4",
        pictures=Pictures(
            count=4,
            size=(coded.shape[1], coded.shape[0]),
            rotation=rotation,
            mirrored=mirrored,
            pix_fmt="yuv444p",
            draw=draw,
        ),
    )
    frames, _ = read(path, size=64)
    assert frames[0].pixels.shape == upright.shape
    assert np.abs(frames[0].pixels.astype(int) - upright).mean() < 4


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((2, 2), (48, 48)),
        ((1, 1), (48, 48)),
        ((33, 17), (48, 93)),
        ((17, 33), (93, 48)),
        ((1000, 2), (48, 192)),
        ((2, 1000), (192, 48)),
    ],
)
def test_odd_and_tiny_pictures_are_scaled(render: Render, size, expected):
    def draw(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.full((size[1], size[0], 3), 200, np.uint8)

    path = render(
        "tiny.mkv",
        pictures=Pictures(count=3, codec="ffv1", pix_fmt="bgr0", size=size, draw=draw, options=()),
    )
    frames, _ = read(path)
    assert frames[0].pixels.shape == (*expected, 3)
    assert np.abs(frames[0].pixels.astype(int) - 200).max() <= 2


def test_a_palette_is_looked_up(render: Render):
    path = render(
        "palette.gif", pictures=Pictures(count=10, codec="gif", pix_fmt="rgb8", options=())
    )
    assert [number for _, number in shown(read(path)[0])][:5] == [0, 1, 2, 3, 4]


def test_a_still_is_one_picture_at_its_own_time(render: Render):
    path = render("still.mp4", pictures=Pictures(count=1, rate=25))
    frames, report = read(path, fps=2.0)
    assert shown(frames) == [(0.0, 0)]
    assert 0.0 < report.end_seconds <= 0.1


def test_a_size_that_changes_midway_keeps_the_first_size(render: Render):
    first = render("a.ts", pictures=Pictures(count=20))
    second = render("b.ts", pictures=Pictures(count=20, size=(384, 160), start_seconds=2.0))
    path = first.with_name("both.ts")
    path.write_bytes(first.read_bytes() + second.read_bytes())
    frames, _ = read(path)
    assert {frame.pixels.shape for frame in frames} == {(48, 144, 3)}
    assert [number for _, number in shown(frames)][-1] == 19


def test_a_huge_picture_is_refused_before_it_is_decoded(render: Render):
    path = render("big.mp4", pictures=Pictures(count=2))
    with pytest.raises(FrameTooLarge, match=r"192 x 64 = 12288 pixels; the limit is 10000"):
        read(path, limits=MediaLimits(max_frame_pixels=10000))


def test_a_picture_that_grows_over_the_limit_midway_is_not_decoded(render: Render):
    first = render("a.ts", pictures=Pictures(count=20))
    second = render("b.ts", pictures=Pictures(count=20, size=(768, 512), start_seconds=2.0))
    path = first.with_name("both.ts")
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(FrameTooLarge):
        read(path, limits=MediaLimits(max_frame_pixels=100000))


def test_a_damaged_picture_is_skipped_and_counted(render: Render):
    path = render("clip.mkv", pictures=Pictures(count=40, **MJPEG))
    content = bytearray(path.read_bytes())
    start_of_picture = content.index(b"\xff\xd8", len(content) // 2)
    content[start_of_picture : start_of_picture + 200] = bytes(200)
    path.write_bytes(content)
    frames, report = read(path)
    assert len(frames) >= 38
    assert any("damaged and were skipped" in warning for warning in report.warnings)
    assert all(abs(number - (t * 10 - 0.5)) <= 1.5 for t, number in shown(frames))


def test_more_seconds_than_the_limit_are_refused(render: Render):
    path = render("long.mp4", pictures=Pictures(count=100))
    with pytest.raises(DurationTooLong, match="the limit is 5 s"):
        read(path, limits=MediaLimits(max_duration_seconds=5))


def test_the_deadline_is_kept(render: Render):
    path = render("clip.mp4", pictures=Pictures())
    with pytest.raises(DecodeTimeout):
        read(path, limits=MediaLimits(decode_timeout_seconds=0.0))


class _SlowMachine(Budget):
    """A budget on a machine where decoding a packet takes 20 ms and all else nothing."""

    decoded = 0

    def charge_frame(self, width: int, height: int) -> None:
        self.decoded += 1
        super().charge_frame(width, height)

    @property
    def elapsed_seconds(self) -> float:
        return 0.02 * self.decoded


@pytest.mark.parametrize("declared_seconds", [30.0, None], ids=["declared", "recorded live"])
def test_a_decode_that_falls_behind_turns_to_key_frames(
    render: Render, declared_seconds: float | None
):
    # All 300 pictures would take 6 s.
    limits = MediaLimits(decode_timeout_seconds=3.0)
    options = (("crf", "12"), ("g", "10"), ("sc_threshold", "0"))
    path = render("heavy.mkv", pictures=Pictures(count=300, options=options))
    info = replace(probe(path, limits), declared_duration_seconds=declared_seconds)
    frames, report = read(path, fps=5.0, limits=limits, budget=_SlowMachine(limits), info=info)
    assert len(frames) == 150, "every target is answered"
    assert all(-0.5 <= t * 10 - number <= 10.5 for t, number in shown(frames))
    assert len({number for _, number in shown(frames)}) > 50, "not key frames alone"
    assert report.end_seconds == pytest.approx(30.0, abs=0.1)
    assert any("passed over" in warning for warning in report.warnings)


def test_a_file_without_pictures_says_so(render: Render):
    with pytest.raises(ModalityMissing, match="cannot be seen: the file has no pictures"):
        read(render("a.wav", sound=Sound(codec="pcm_s16le")))


def test_the_test_pictures_tell_their_number():
    for number in (0, 1, 511, 1023):
        assert number_in(numbered(number, (COLUMNS * 16, 64))) == number
