"""Small media files, made on the spot."""

import io
import wave
from fractions import Fraction
from functools import cache

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000


def tone(seconds: float, hertz: float = 440.0) -> NDArray[np.int16]:
    times = np.arange(int(seconds * RATE)) / RATE
    return (12_000 * np.sin(2 * np.pi * hertz * times)).astype(np.int16)


def wav(seconds: float = 1.0, *, hertz: float = 440.0, silent: bool = False) -> bytes:
    samples = tone(seconds, hertz) * (0 if silent else 1)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


@cache
def mp4(*, sound: bool = True, blank: bool = False, seed: int = 0) -> bytes:
    """Two seconds of noise to see and, if asked for, a tone to hear."""
    random = np.random.default_rng(seed)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=RATE) if sound else None
        for _ in range(20):
            pixels = random.integers(0, 1 if blank else 255, (48, 64, 3), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
        if audio is not None:
            samples = tone(2.0, 300.0 + 100 * seed)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return buffer.getvalue()
