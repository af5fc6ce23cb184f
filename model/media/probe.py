"""The one way in which containers are opened, and what is known of a file before it is decoded."""

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TypeVar

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from model.errors import EmptyFile, FileTooLarge, TooManyStreams, UnsupportedMedia
from model.media.boxes import encrypted_track_ids
from model.media.limits import Budget, MediaLimits

ALLOWED_DEMUXERS = (
    # Containers of sound and pictures.
    *("mov", "matroska", "avi", "asf", "flv", "mpegts", "mpeg", "ogg", "mxf", "nut", "rm", "wtv"),
    # Sound alone.
    *("wav", "w64", "mp3", "flac", "aac", "aiff", "au", "caf", "amr", "amrnb", "amrwb", "ac3"),
    *("eac3", "ape", "wv", "tta", "tak", "mpc", "mpc8", "voc", "dsf", "iamf", "loas", "dts"),
    # Pictures alone.
    *("ivf", "dv", "gif", "apng", "mjpeg", "h264", "hevc", "vvc", "av1", "obu", "vc1", "m4v"),
    *("h263", "mpegvideo", "yuv4mpegpipe"),
)
"""FFmpeg's names of the file formats read here: none of them is a playlist, a script, a device, an
image sequence or a subtitle, so that opening a file never opens another one."""

MAX_CHANNELS = 64
"""Channels that FFmpeg's mixer takes."""

MAX_SAMPLE_RATE = 768_000
"""Samples a second; no recorder has more, and the tables of the resampler grow with it."""

_IMAGE_CODECS = frozenset(
    {"mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpeg2000", "libjxl", "jpegls", "ppm"}
)
"""Codecs of pictures that players store beside music as the cover."""

_NO_PICTURES = "the file has no pictures"

_TrackT = TypeVar("_TrackT", AudioStream, VideoStream)

_OPTIONS = {
    "format_whitelist": ",".join(ALLOWED_DEMUXERS),
    # The bytes come through a Python file object: no protocol at all is needed.
    "protocol_whitelist": "none",
    "enable_drefs": "0",
    "use_absolute_path": "0",
}

_WAVE_OPTIONS = {"max_probe_packets": "8"}
"""FFmpeg looks for compressed sound among the samples of WAV: in 32 packets, for longer than it
decodes them. A frame of it is some kB, so that the first packets tell."""


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """The audio stream that is read: FFmpeg's stream index and what the header says of it."""

    index: int
    codec: str
    sample_rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """The video stream that is read: FFmpeg's stream index and what the header says of it."""

    index: int
    codec: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a file declares; nothing of it is decoded yet, so none of it is certain.

    Attributes:
        container: FFmpeg's name of the format.
        declared_duration_seconds: what the header claims, or None.
        origin_seconds: timestamp at which the clip's clock is 0: where its first track starts.
        audio: the audio track that is read, or None for the cause in `audio_reason`.
        audio_reason: a sentence, or None where there is a track.
        video: the video track that is read, or None for the cause in `video_reason`.
        video_reason: a sentence, or None where there is a track.
        encrypted: no track can be used, and at least one of them because it is encrypted.
    """

    container: str
    declared_duration_seconds: float | None
    origin_seconds: float
    audio: AudioTrack | None
    audio_reason: str | None
    video: VideoTrack | None
    video_reason: str | None
    encrypted: bool


class _BoundedFile:
    """A file that ends for FFmpeg once the budget is used up, so that no parser reads on for ever.

    It ends rather than raises: an exception inside a read callback may reach nobody.
    """

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self.name = str(file.name)
        self.seek = file.seek
        self.tell = file.tell
        self._file = file
        self._budget = budget

    def read(self, size: int) -> bytes:
        return b"" if self._budget.expired else self._file.read(size)


def _refuse_reference(url: str, flags: int, options: dict[str, str]) -> None:
    raise UnsupportedMedia(
        "The file refers to another file or address, which is never followed; send one "
        "self-contained file."
    )


@contextmanager
def open_container(
    path: Path, limits: MediaLimits, *, budget: Budget | None = None
) -> Iterator[InputContainer]:
    """Open the media file at `path` for reading and close it at the end, whatever happens.

    Only file formats in ALLOWED_DEMUXERS are opened, from the file's own bytes: no protocol, no
    reference to another file. PyAV discards FFmpeg's log by default, and that is left as it is.

    Raises:
        EmptyFile: the file has no bytes.
        FileTooLarge: it has more than `limits.max_bytes`.
        UnsupportedMedia: it is not a media container that is read here, or its header is broken.
        TooManyStreams: it declares more than `limits.max_streams`.
        DecodeTimeout: reading its header took too long.
    """
    budget = budget or Budget(limits)
    _check_file(path, limits)
    with path.open("rb") as file:
        container = _open(file, limits, budget)
        try:
            if len(container.streams) > limits.max_streams:
                raise TooManyStreams(
                    f"The container declares {len(container.streams)} streams; the limit is "
                    f"{limits.max_streams}; keep only the sound and the pictures that matter."
                )
            yield container
        finally:
            container.close()


def probe(path: Path, limits: MediaLimits, *, budget: Budget | None = None) -> MediaInfo:
    """Choose the audio and the video track of the file at `path`, or say why there is none.

    The audio track is the first that has a decoder; the video track the first that has one and is
    no cover art. Encrypted tracks are passed over.

    Raises:
        EmptyFile, FileTooLarge, UnsupportedMedia, TooManyStreams, DecodeTimeout: as
            `open_container` does.
    """
    with open_container(path, limits, budget=budget) as container:
        encrypted_ids = _encrypted_ids(path, container)
        streams = container.streams
        audio, audio_reason = _choose(streams.audio, "the file has no sound", encrypted_ids)
        pictures = [s for s in streams.video if not _is_marked_cover(s)]
        if audio is not None:
            pictures = [s for s in pictures if not _is_lone_image(s, container)]
        nothing = "the file's only picture is its cover" if streams.video else _NO_PICTURES
        video, video_reason = _choose(pictures, nothing, encrypted_ids)
        starts = [_start_seconds(track) for track in (audio, video) if track is not None]
        return MediaInfo(
            container=container.format.name,
            declared_duration_seconds=_declared_duration(container),
            origin_seconds=min((start for start in starts if start is not None), default=0.0),
            audio=_audio_track(audio) if audio else None,
            audio_reason=audio_reason,
            video=_video_track(video) if video else None,
            video_reason=video_reason,
            encrypted=not starts and any(s.id in encrypted_ids for s in streams),
        )


def _check_file(path: Path, limits: MediaLimits) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnsupportedMedia("This is not a regular file; send an audio or video file.")
    check_size(status.st_size, limits)


def check_size(size_bytes: int, limits: MediaLimits) -> None:
    """Raise EmptyFile or FileTooLarge where a file of this size is not read."""
    if size_bytes == 0:
        raise EmptyFile("The file has 0 bytes; send an audio or video file.")
    if size_bytes > limits.max_bytes:
        raise FileTooLarge(
            f"The file has {size_bytes} bytes; the limit is {limits.max_bytes}; send a shorter "
            "clip or a stronger compression."
        )


def _open(file: BufferedReader, limits: MediaLimits, budget: Budget) -> InputContainer:
    options = _OPTIONS | {"max_pixels": str(limits.max_frame_pixels)}
    if file.peek(12)[8:12] == b"WAVE":
        options |= _WAVE_OPTIONS
    try:
        container = av.open(
            _BoundedFile(file, budget),
            "r",
            options=options,
            metadata_errors="ignore",
            timeout=limits.decode_timeout_seconds,
            io_open=_refuse_reference,
        )
    # PyAV raises Python's own MemoryError too: a broken header asks for absurd amounts.
    except (av.error.FFmpegError, MemoryError) as error:
        budget.check_deadline()
        raise UnsupportedMedia(
            "The file is no audio or video container that is read here, or its header is broken "
            f"({_cause(error)}); send for example MP4, WebM, MKV, WAV, MP3, FLAC or Ogg."
        ) from error
    budget.check_deadline()
    return container


def _cause(error: BaseException) -> str:
    if isinstance(error, av.error.FFmpegError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _encrypted_ids(path: Path, container: InputContainer) -> frozenset[int]:
    if "mp4" not in container.format.name.split(","):
        return frozenset()
    with path.open("rb") as file:
        return encrypted_track_ids(file)


def _choose(
    streams: Sequence[_TrackT], nothing: str, encrypted_ids: frozenset[int]
) -> tuple[_TrackT | None, str | None]:
    """Return the first stream that can be read, or the obstacle of the first stream there is."""
    obstacles = []
    for stream in streams:
        obstacle = _obstacle(stream, encrypted_ids)
        if obstacle is None:
            return stream, None
        obstacles.append(obstacle)
    return None, obstacles[0] if obstacles else nothing


def _obstacle(stream: AudioStream | VideoStream, encrypted_ids: frozenset[int]) -> str | None:
    what, verb = ("sound", "is") if isinstance(stream, AudioStream) else ("pictures", "are")
    if stream.id in encrypted_ids:
        return f"the {what} {verb} encrypted"
    # PyAV leaves the context out where FFmpeg has no decoder.
    if stream.codec_context is None:
        return f"the {what} {verb} in a codec without a decoder here"
    return _audio_obstacle(stream) if isinstance(stream, AudioStream) else None


def _audio_obstacle(stream: AudioStream) -> str | None:
    context = stream.codec_context
    if context.channels > MAX_CHANNELS:
        return f"the sound has {context.channels} channels, more than {MAX_CHANNELS}"
    if context.sample_rate > MAX_SAMPLE_RATE:
        return f"the sound has {context.sample_rate} samples a second, over {MAX_SAMPLE_RATE}"
    return None


def _is_marked_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _is_lone_image(stream: VideoStream, container: InputContainer) -> bool:
    """Whether `stream` is one image: a cover that its container does not mark as such.

    Only codecs of images are looked into, as this reads up to the second packet.
    """
    if stream.codec_context is None or stream.codec_context.name not in _IMAGE_CODECS:
        return False
    if stream.frames == 1:
        return True
    packets = 0
    try:
        for packet in container.demux(stream):
            packets += packet.size > 0
            if packets > 1:
                break
        container.seek(0)
    except av.error.FFmpegError:
        return packets < 2
    return packets < 2


def _start_seconds(stream: AudioStream | VideoStream) -> float | None:
    if stream.start_time is None or stream.time_base is None:
        return None
    return float(stream.start_time * stream.time_base)


def _declared_duration(container: InputContainer) -> float | None:
    if container.duration is None or container.duration <= 0:
        return None
    return container.duration / av.time_base


def _audio_track(stream: AudioStream) -> AudioTrack:
    context = stream.codec_context
    return AudioTrack(stream.index, context.name, context.sample_rate, context.channels)


def _video_track(stream: VideoStream) -> VideoTrack:
    context = stream.codec_context
    return VideoTrack(stream.index, context.name, context.width, context.height)
