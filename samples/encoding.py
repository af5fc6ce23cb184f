"""Writing samples and pictures to media files with PyAV, the same way each time."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image

from samples.sounds import SAMPLE_RATE, Samples

FRAMES_PER_SECOND = 12

# Per file ending: the sound's encoder, sample rate in Hz, sample format, bits per second.
AUDIO_ENCODERS: dict[str, tuple[str, int, str, int | None]] = {
    ".wav": ("pcm_s16le", 22_050, "s16", None),
    ".flac": ("flac", 22_050, "s16", None),
    ".mp3": ("libmp3lame", 32_000, "fltp", 96_000),
    ".m4a": ("aac", 32_000, "fltp", 96_000),
    ".mp4": ("aac", 32_000, "fltp", 96_000),
    ".ogg": ("vorbis", 32_000, "fltp", 96_000),
    ".opus": ("libopus", 48_000, "flt", 64_000),
    ".webm": ("libopus", 48_000, "flt", 64_000),
}

# Per file ending: the pictures' encoder and its options.
VIDEO_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("libx264", {"crf": "25", "preset": "slow", "threads": "1"}),
    ".webm": ("libvpx-vp9", {"crf": "36", "b": "0", "cpu-used": "3", "threads": "1"}),
}


def write_clip(
    path: Path, *, samples: Samples | None = None, frames: Iterable[Image.Image] | None = None
) -> None:
    """Write mono samples at 32 kHz, or frames at 12 a second, or both, as the ending says."""
    # "bitexact" leaves out dates, random ids and the encoder's version.
    with av.open(path, "w", format=_container_format(path), options={"fflags": "+bitexact"}) as out:
        # All streams must exist before the first packet, which writes the header.
        video = _add_video(out, path.suffix) if frames is not None else None
        audio = _add_audio(out, path.suffix) if samples is not None else None
        if video is not None and frames is not None:
            _encode_frames(out, video, frames)
        if audio is not None and samples is not None:
            _encode_samples(out, audio, samples)


def _container_format(path: Path) -> str | None:
    # FFmpeg would otherwise choose a container of its own for this ending.
    return "ipod" if path.suffix == ".m4a" else None


def _add_video(out: OutputContainer, suffix: str) -> VideoStream:
    codec, options = VIDEO_ENCODERS[suffix]
    stream = out.add_stream(codec, rate=FRAMES_PER_SECOND, options=options)
    assert isinstance(stream, VideoStream)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, FRAMES_PER_SECOND)
    return stream


def _add_audio(out: OutputContainer, suffix: str) -> AudioStream:
    codec, rate, sample_format, bit_rate = AUDIO_ENCODERS[suffix]
    stream = out.add_stream(codec, rate=rate, options={"strict": "experimental"})
    assert isinstance(stream, AudioStream)
    # FFmpeg's own Vorbis encoder, the one in PyAV's packages, is experimental and stereo only.
    stream.layout = "stereo" if codec == "vorbis" else "mono"
    stream.format = av.AudioFormat(sample_format)
    if bit_rate is not None:
        stream.bit_rate = bit_rate
    return stream


def _encode_frames(
    out: OutputContainer, stream: VideoStream, frames: Iterable[Image.Image]
) -> None:
    for number, picture in enumerate(frames):
        if number == 0:
            stream.width, stream.height = picture.size
        frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        frame.pts = number
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _encode_samples(out: OutputContainer, stream: AudioStream, samples: Samples) -> None:
    frame = av.AudioFrame.from_ndarray(
        samples.astype(np.float32)[None, :], format="fltp", layout="mono"
    )
    frame.sample_rate = SAMPLE_RATE
    resampler = av.AudioResampler(
        stream.format, stream.layout, stream.rate, stream.codec_context.frame_size or None
    )
    pieces = [piece for source in (frame, None) for piece in resampler.resample(source)]
    elapsed = 0
    for piece in (*pieces, None):
        for packet in stream.encode(piece):
            # FFmpeg's Vorbis encoder leaves time stamps out, and the file would claim 0.3 s.
            if packet.pts is None:
                packet.pts = packet.dts = elapsed
            elapsed += packet.duration or 0
            out.mux(packet)
