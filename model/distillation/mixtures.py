"""Training windows for the audio backbone: recordings and synthesised sounds, mixed and degraded.

This file owns the synthesised sounds, the mixing, and what a bad microphone, room or line does to a
sound.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from model.distillation.sounds import SAMPLE_RATE, Clip

Waveform = NDArray[np.float32]

# How often a source is drawn from each collection. Berklee comes first because its variety is what
# keeps the student general; the rest of the draws are synthesised.
GROUP_SHARES = {"berklee": 0.5, "esc10": 0.17, "animals": 0.17, "speech_digits": 0.04}


# --- synthesised sounds --------------------------------------------------------------------------


def coloured_noise(rng: np.random.Generator, length: int) -> Waveform:
    """Noise whose power falls as 1/f^a, a from -0.5 (bluish) to 2.5 (brown): (length,)."""
    size = scipy.fft.next_fast_len(length, real=True)
    spectrum = rng.standard_normal(2 * (size // 2 + 1), dtype=np.float32).view(np.complex64)
    frequency = np.arange(1, spectrum.size + 1, dtype=np.float32)
    spectrum *= frequency ** np.float32(-0.5 * rng.uniform(-0.5, 2.5))
    noise: Waveform = scipy.fft.irfft(spectrum, size)[:length]
    return noise


def slow_envelope(rng: np.random.Generator, length: int) -> Waveform:
    """Loudness that wanders or beats at 0.2 to 25 Hz: (length,) in [0, 1]."""
    rate = 10 ** rng.uniform(-0.7, 1.4)
    knots = rng.uniform(0.0, 1.0, max(2, int(rate * length / SAMPLE_RATE) + 2))
    positions = np.linspace(0, knots.size - 1, length)
    envelope: Waveform = np.interp(positions, np.arange(knots.size), knots).astype(np.float32)
    return envelope


def gliding_tone(rng: np.random.Generator, length: int) -> Waveform:
    """Harmonic tone, steady, swept or wailing like a siren: (length,)."""
    seconds = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    pitch = 10 ** rng.uniform(1.7, 3.6)
    octaves = rng.uniform(0.0, 1.0) * np.sin(
        2 * math.pi * 10 ** rng.uniform(-0.8, 0.9) * seconds + rng.uniform(0, 6.28)
    )
    if rng.random() < 0.4:
        octaves = np.float32(0.0) * seconds
    phase = np.cumsum(pitch * np.exp2(octaves), dtype=np.float64) * (2 * math.pi / SAMPLE_RATE)
    tone = np.zeros(length, dtype=np.float32)
    for harmonic in range(1, int(rng.integers(1, 8))):
        if pitch * harmonic * 2 > SAMPLE_RATE / 2:
            break
        tone += (rng.uniform(0.2, 1.0) / harmonic) * np.sin(phase * harmonic).astype(np.float32)
    return tone


def pulse_train(rng: np.random.Generator, length: int) -> Waveform:
    """Decaying bursts at 0.7 to 80 a second, from clock ticks to an engine: (length,)."""
    period = SAMPLE_RATE / 10 ** rng.uniform(-0.15, 1.9)
    starts = np.arange(rng.uniform(0, period), length, period)
    starts += rng.normal(0.0, 0.1 * rng.random(), starts.size) * period
    train = np.zeros(length, dtype=np.float32)
    train[np.clip(starts.astype(np.int64), 0, length - 1)] = rng.uniform(0.6, 1.0, starts.size)
    ring = np.arange(4096, dtype=np.float32)
    burst = np.exp(ring / -(10 ** rng.uniform(0.5, 3.0)))
    if rng.random() < 0.6:
        burst *= np.sin(ring * 10 ** rng.uniform(-2.0, 0.3))
    else:
        burst *= rng.standard_normal(ring.size, dtype=np.float32)
    return convolve(train, burst.astype(np.float32))[:length]


def plucked_notes(rng: np.random.Generator, length: int) -> Waveform:
    """Melody of decaying harmonic notes on a twelve-tone scale: (length,)."""
    step = int(SAMPLE_RATE * rng.uniform(0.12, 0.7))
    decay = rng.uniform(0.05, 1.0)
    partials = rng.uniform(0.0, 1.0, 6) / np.arange(1, 7)
    base = 10 ** rng.uniform(1.8, 2.9)
    melody = np.zeros(length + 2 * step, dtype=np.float32)
    seconds = np.arange(2 * step, dtype=np.float32) / SAMPLE_RATE
    fade = np.exp(-seconds / decay) * np.minimum(1.0, seconds / 0.004)
    fade *= np.linspace(1.0, 0.0, fade.size, dtype=np.float32) ** 0.3
    for start in range(0, length, step):
        for _ in range(rng.choice([1, 1, 3])):
            pitch = base * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
            phase = np.float32(2 * math.pi * pitch) * seconds
            note = sum(p * np.sin(phase * (k + 1)) for k, p in enumerate(partials))
            melody[start : start + 2 * step] += fade * note
    return melody[:length]


def synthesise(rng: np.random.Generator, length: int) -> Waveform:
    """One sound that no recording holds: (length,) float32, of any level."""
    match rng.integers(6):
        case 0:
            return coloured_noise(rng, length)
        case 1:
            return coloured_noise(rng, length) * slow_envelope(rng, length)
        case 2:
            return gliding_tone(rng, length) * slow_envelope(rng, length)
        case 3:
            return gliding_tone(rng, length)
        case 4:
            return pulse_train(rng, length)
        case _:
            return plucked_notes(rng, length)


def convolve(signal: Waveform, response: Waveform) -> Waveform:
    """Linear convolution by Fourier transform, in float32: (N + M - 1,)."""
    length = signal.size + response.size - 1
    size = scipy.fft.next_fast_len(length, real=True)
    product = scipy.fft.rfft(signal, size) * scipy.fft.rfft(response, size)
    result: Waveform = scipy.fft.irfft(product, size)[:length]
    return result


def room_response(rng: np.random.Generator) -> Waveform:
    """Direct sound and a tail of exponentially decaying noise, 0.1 to 1.2 s: (M,)."""
    seconds = rng.uniform(0.1, 1.2)
    time_axis = np.arange(int(seconds * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    tail = rng.standard_normal(time_axis.size, dtype=np.float32)
    tail *= np.exp(-6.9 * time_axis / seconds) * np.float32(rng.uniform(0.01, 0.08))
    tail[0] = 1.0
    return tail


def equalise(rng: np.random.Generator, signal: Waveform) -> Waveform:
    """Colour a sound as microphones and codecs do: random gains, at times a band limit: (N,)."""
    size = scipy.fft.next_fast_len(signal.size, real=True)
    spectrum = scipy.fft.rfft(signal, size)
    octave = np.log2(np.linspace(20.0, SAMPLE_RATE / 2, spectrum.size, dtype=np.float32))
    knots = np.linspace(octave[0], octave[-1], 9)
    decibels = np.interp(octave, knots, rng.normal(0.0, 5.0, knots.size))
    if rng.random() < 0.3:
        decibels -= 24.0 * np.maximum(0.0, octave - rng.uniform(10.5, 13.5))
    if rng.random() < 0.2:
        decibels -= 24.0 * np.maximum(0.0, rng.uniform(5.0, 9.5) - octave)
    gain = np.exp(decibels * (math.log(10) / 20)).astype(np.float32)
    result: Waveform = scipy.fft.irfft(spectrum * gain, size)[: signal.size]
    return result


def change_speed(signal: Waveform, factor: float) -> Waveform:
    """Play faster (factor > 1, higher pitch) or slower by linear interpolation: (N / factor,)."""
    positions = np.arange(0, signal.size - 1, factor, dtype=np.float64)
    whole = positions.astype(np.int64)
    fraction = (positions - whole).astype(np.float32)
    return signal[whole] * (1 - fraction) + signal[whole + 1] * fraction


class Mixture(NamedTuple):
    """A clean window, and the recording that is loudest in it (None: a synthesised sound)."""

    waveform: Waveform
    main: Clip | None
    alone: bool
    """Whether nothing else is in the window."""


class Mixer:
    """Endless source of training windows."""

    def __init__(self, clips: Sequence[Clip], window_samples: int, seed: int) -> None:
        self.window = window_samples
        self.rng = np.random.default_rng(seed)
        self.groups: dict[str, dict[str, list[Clip]]] = {group: {} for group in GROUP_SHARES}
        for clip in clips:
            if clip.samples.size > 1:
                self.groups[clip.group].setdefault(clip.label, []).append(clip)

    def draw(self) -> Waveform:
        """One degraded mixture: (window,) float32 in [-1, 1]."""
        return degrade(self.rng, self.mix().waveform)

    def mix(self) -> Mixture:
        """One clean mixture of one to three sources, with its peak at full scale."""
        rng = self.rng
        main, mixture = self._source()
        others = rng.choice(3, p=[0.65, 0.25, 0.1])
        for _ in range(others):
            mixture += self._source()[1] * np.float32(10 ** (rng.uniform(-20, -3) / 20))
        return Mixture(_to_unit_peak(mixture), main, not others)

    def _source(self) -> tuple[Clip | None, Waveform]:
        """One sound at a random speed, placed in the window at unit peak."""
        rng = self.rng
        group = str(rng.choice([*GROUP_SHARES, ""], p=self._shares()))
        if group:
            labels = list(self.groups[group].values())
            members = labels[rng.integers(len(labels))]
            clip = members[rng.integers(len(members))]
            return clip, _to_unit_peak(self._place(self._stretch(clip)))
        signal = synthesise(rng, int(self.window * rng.choice([0.1, 0.4, 1.0, 1.0])))
        return None, _to_unit_peak(self._place(signal))

    def _shares(self) -> list[float]:
        shares = list(GROUP_SHARES.values())
        return [*shares, 1.0 - sum(shares)]

    def _stretch(self, clip: Clip) -> Waveform:
        """Random stretch of a clip, at times faster or slower."""
        rng = self.rng
        factor = 2 ** rng.uniform(-0.4, 0.4) if rng.random() < 0.4 else 1.0
        wanted = math.ceil(self.window * factor) + 1
        start = rng.integers(max(1, clip.samples.size - wanted + 1))
        signal = clip.samples[start : start + wanted].astype(np.float32) / 32768.0
        return change_speed(signal, factor) if factor != 1.0 else signal

    def _place(self, signal: Waveform) -> Waveform:
        """Cut a long sound; repeat a short one or set it somewhere in silence: (window,)."""
        rng = self.rng
        if signal.size >= self.window:
            return signal[: self.window].copy()
        if rng.random() < 0.3:
            gap = np.zeros(int(rng.uniform(0, 0.5) * SAMPLE_RATE), dtype=np.float32)
            unit = np.concatenate([signal, gap])
            return np.resize(unit, self.window)
        placed = np.zeros(self.window, dtype=np.float32)
        start = rng.integers(self.window - signal.size + 1)
        placed[start : start + signal.size] = signal
        return placed


# --- degrading -----------------------------------------------------------------------------------


def degrade(rng: np.random.Generator, clean: Waveform) -> Waveform:
    """Hear a window as through a bad line: (N,) float32 in [-1, 1] -> the same.

    Each fault comes at random: pitch, tone, room, a part only, noise, loudness; at times there is
    none but loudness.
    """
    signal = clean
    if rng.random() < 0.7:
        if rng.random() < 0.25:
            signal = _refit(change_speed(signal, 2 ** rng.uniform(-0.2, 0.2)), clean.size)
        if rng.random() < 0.5:
            signal = equalise(rng, signal)
        if rng.random() < 0.25:
            signal = convolve(signal, room_response(rng))[: clean.size]
        if rng.random() < 0.3:
            signal = keep_part(rng, signal)
        signal = _to_unit_peak(signal)
        if rng.random() < 0.35:
            noise = _to_unit_peak(coloured_noise(rng, clean.size))
            signal = signal + noise * np.float32(10 ** (rng.uniform(-50, -12) / 20))
    loudness = np.float32(10 ** (rng.uniform(-30, 3) / 20))
    heard: Waveform = np.clip(_to_unit_peak(signal) * loudness, -1.0, 1.0)
    return heard


def keep_part(rng: np.random.Generator, signal: Waveform) -> Waveform:
    """Move a random part of a window to its start, silence after it: (N,).

    A part with less than half of the energy is not taken, as the sound may not be in it.
    """
    size = int(signal.size * rng.uniform(0.25, 0.9))
    start = rng.integers(signal.size - size + 1)
    part = signal[start : start + size]
    if np.square(part).sum() < 0.5 * np.square(signal).sum():
        return signal
    return _refit(part, signal.size)


def _refit(signal: Waveform, length: int) -> Waveform:
    """Cut a signal at its end or pad it with silence."""
    return np.pad(signal[:length], (0, max(0, length - signal.size)))


def _to_unit_peak(signal: Waveform) -> Waveform:
    """Scale to a peak of 1; near silence, which has no shape to keep, stays as it is."""
    peak = float(np.abs(signal).max(initial=0.0))
    return signal / np.float32(peak) if peak > 1e-4 else signal
