"""The sounds: each a function of a length in seconds that returns mono samples at 32 kHz.

Everything is additive or filtered noise in plain NumPy with fixed seeds, so that the clips belong
to nobody and can be made again. Samples are float64, peak-normalised by `normalised`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 32_000

Samples = NDArray[np.float64]
Gain = Callable[[Samples], Samples]


def normalised(samples: Samples, peak: float = 0.8) -> Samples:
    """Scale so that the largest absolute sample is `peak`."""
    return samples * (peak / float(np.max(np.abs(samples))))


def dog_bark(seconds: float) -> Samples:
    """A dog barks: short harsh calls, pitch up then down, in an echoing yard."""
    rng = np.random.default_rng(3)
    out = silence(seconds)
    start_seconds = 0.2
    while start_seconds < seconds - 0.45:
        call = _bark(rng, pitch=rng.uniform(0.93, 1.07), length_seconds=rng.uniform(0.12, 0.165))
        place(out, call * rng.uniform(0.75, 1.0), start_seconds)
        start_seconds += float(rng.choice([0.51, 0.51, 1.02]))
    yard = with_echo(out, rng, decay_seconds=0.26, wet=0.32)
    return yard + 0.002 * normalised(hiss(rng, seconds, pink))


def clock_ticking(seconds: float) -> Samples:
    """A clock ticks twice a second, tick and tock in turn."""
    rng = np.random.default_rng(11)
    out = silence(seconds)
    for beat, start_seconds in enumerate(np.arange(0.1, seconds - 0.1, 0.5)):
        tuning = 1.0 if beat % 2 == 0 else 0.77
        place(out, _tick(rng, tuning), float(start_seconds))
    room = with_echo(out, rng, decay_seconds=0.09, wet=0.4)
    return room + 0.037 * normalised(hiss(rng, seconds, pink))


def siren(seconds: float) -> Samples:
    """A siren wails between 600 and 1400 Hz, once in three seconds, in a street."""
    rng = np.random.default_rng(13)
    t = times(seconds)
    wail = 0.5 - 0.5 * np.cos(2 * np.pi * t / 3.0)
    phase = 2 * np.pi * np.cumsum(600 + 800 * wail**0.8) / SAMPLE_RATE
    horn = sum(np.sin(k * phase) / k for k in range(1, 9))
    street = hiss(rng, seconds, pink)
    return with_echo(normalised(np.asarray(horn)), rng, decay_seconds=0.6, wet=0.25) + 0.03 * street


def church_bell(seconds: float) -> Samples:
    """A church bell is struck every 0.9 seconds, in the open before the church."""
    rng = np.random.default_rng(17)
    out = silence(seconds)
    for start_seconds in np.arange(0.1, seconds - 0.3, 0.916):
        place(out, _bell(rng, prime_hz=475.0, length_seconds=seconds), float(start_seconds))
    square = with_echo(out, rng, decay_seconds=1.08, wet=0.5)
    return square + 0.005 * normalised(hiss(rng, seconds, pink))


def rain(seconds: float) -> Samples:
    """Rain falls on a roof: a steady hiss with hundreds of single drops a second in it."""
    rng = np.random.default_rng(19)
    drops = silence(seconds)
    for _ in range(round(787 * seconds)):
        place(drops, _drop(rng), rng.uniform(0, seconds))
    drops = filtered(drops, lambda f: 1 / (1 + (f / 3322) ** 2))
    distant = hiss(rng, seconds, lambda f: f / (1500 + f) / (1 + (f / 3160) ** 2.11))
    return normalised(drops) + 0.21 * normalised(distant)


def ocean_waves(seconds: float) -> Samples:
    """Waves roll up a beach every three seconds and draw back, on a windy day."""
    rng = np.random.default_rng(23)
    t = times(seconds)
    swell = 0.39 + np.clip(np.sin(2 * np.pi * t / 3.0 - 0.34), 0, None) ** 2
    rumble = hiss(rng, seconds, lambda f: 1 / (1 + (f / 550) ** 1.8))
    foam = hiss(rng, seconds, lambda f: f / (580 + f) / (1 + (f / 1000) ** 1.9))
    bubbles = filtered(rng.standard_normal(len(t)), lambda f: (f < 68).astype(float))
    # Foam hisses after its wave has broken.
    late = np.roll(swell, round(0.63 * SAMPLE_RATE)) ** 1.55
    breaking = normalised(foam) * (1 + 2.0 * bubbles) * late
    return 0.84 * normalised(rumble) * swell + breaking


def fire_crackle(seconds: float) -> Samples:
    """A wood fire crackles, seventy times a second, over a low roar."""
    rng = np.random.default_rng(29)
    out = 0.033 * normalised(hiss(rng, seconds, lambda f: 1 / (1 + (f / 450) ** 0.8)))
    out += 0.028 * normalised(hiss(rng, seconds, lambda f: f / (800 + f) / (1 + (f / 6000) ** 2)))
    for _ in range(round(70 * seconds)):
        place(out, _crack(rng) * rng.pareto(1.8) * 0.12, rng.uniform(0, seconds))
    # The loudest cracks are far louder than the rest, and would leave nothing else to hear.
    return np.tanh(5 * out)


def smoke_alarm(seconds: float) -> Samples:
    """A smoke alarm beeps at 3.2 kHz: three half-second beeps, then a pause."""
    rng = np.random.default_rng(31)
    t = times(seconds)
    phase = 2 * np.pi * 3200 * t
    tone = np.sin(phase) + 0.35 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase)
    cycle = t % 4.0
    sounding = ((cycle % 1.0) < 0.5) & (cycle < 3.0)
    gate = np.convolve(sounding.astype(float), np.ones(160) / 160, mode="same")
    return with_echo(tone * gate, rng, decay_seconds=0.3, wet=0.15)


def crickets(seconds: float) -> Samples:
    """Crickets chirp at night: trills of short pulses near 4.6 kHz."""
    rng = np.random.default_rng(41)
    t = times(seconds)
    out = 0.01 * normalised(hiss(rng, seconds, pink))
    for carrier_hz, chirp_hz, level in ((4600, 2.3, 1.0), (4350, 2.05, 0.5), (4900, 2.7, 0.3)):
        chirping = ((t * chirp_hz + rng.uniform()) % 1.0) < 0.55
        pulses = np.clip(np.sin(2 * np.pi * 32 * t), 0, None) ** 1.5
        out += level * np.sin(2 * np.pi * carrier_hz * t) * pulses * chirping
    return out


def birdsong(seconds: float) -> Samples:
    """A small bird sings: whistled phrases of quick glides between 2 and 6 kHz."""
    rng = np.random.default_rng(43)
    out = 0.01 * normalised(hiss(rng, seconds, pink))
    start_seconds = 0.15
    while start_seconds < seconds - 0.7:
        low_hz, high_hz = rng.uniform(2200, 3200), rng.uniform(4200, 6000)
        for _ in range(int(rng.integers(3, 7))):
            place(out, _chirp(low_hz, high_hz, rng.uniform(0.05, 0.11)), start_seconds)
            start_seconds += rng.uniform(0.09, 0.14)
        start_seconds += rng.uniform(0.15, 0.4)
    return with_echo(out, rng, decay_seconds=0.5, wet=0.1)


def pipe_organ(seconds: float) -> Samples:
    """A pipe organ plays a hymn-like cadence in a church."""
    rng = np.random.default_rng(53)
    out = silence(seconds)
    chords = [(130.8, 261.6, 329.6, 392.0), (174.6, 261.6, 349.2, 440.0)]
    chords += [(196.0, 246.9, 293.7, 392.0), (130.8, 261.6, 329.6, 523.3)]
    length_seconds = seconds / len(chords)
    for step, chord in enumerate(chords):
        for note_hz in chord:
            place(out, _pipe(note_hz, length_seconds), step * length_seconds)
    return with_echo(out, rng, decay_seconds=1.6, wet=0.35)


# Building blocks.


def times(seconds: float) -> Samples:
    """Sample times in seconds, from 0."""
    return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def silence(seconds: float) -> Samples:
    """Zeros."""
    return np.zeros(round(seconds * SAMPLE_RATE))


def place(out: Samples, sound: Samples, start_seconds: float) -> None:
    """Add `sound` into `out` at a time; what would reach past the end is cut."""
    start = round(start_seconds * SAMPLE_RATE)
    length = min(len(sound), len(out) - start)
    out[start : start + length] += sound[:length]


def pink(frequency: Samples) -> Samples:
    """Gain of pink noise at a frequency in Hz."""
    return 1 / np.sqrt(np.maximum(frequency, 30.0))


def filtered(samples: Samples, gain: Gain) -> Samples:
    """Multiply the spectrum by a gain that depends on the frequency in Hz."""
    spectrum = np.fft.rfft(samples)
    frequency = np.asarray(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE), np.float64)
    return np.asarray(np.fft.irfft(spectrum * gain(frequency), len(samples)), np.float64)


def hiss(rng: np.random.Generator, seconds: float, gain: Gain) -> Samples:
    """Noise of unit variance whose spectrum is `gain`."""
    noise = filtered(rng.standard_normal(round(seconds * SAMPLE_RATE)), gain)
    return noise / float(noise.std())


def with_echo(
    samples: Samples, rng: np.random.Generator, *, decay_seconds: float, wet: float
) -> Samples:
    """Add a room: convolve with decaying dull noise, at `wet` times the dry level."""
    t = times(3 * decay_seconds)
    decaying = rng.standard_normal(len(t)) * np.exp(-t / (decay_seconds / 3))
    room = filtered(decaying, lambda f: 1 / (1 + (f / 4000) ** 2))
    size = len(samples) + len(room)
    tail = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(room, size), size)
    return normalised(samples) + wet * normalised(np.asarray(tail[: len(samples)], np.float64))


def _resonances(frequency: Samples, formants: tuple[tuple[float, float, float], ...]) -> Samples:
    """Sum of resonance curves, each (centre Hz, bandwidth Hz, level)."""
    curves: list[Samples] = [
        level / np.sqrt(1 + ((frequency - centre) / (bandwidth / 2)) ** 2)
        for centre, bandwidth, level in formants
    ]
    return np.asarray(np.sum(curves, axis=0), np.float64)


# Centre Hz, bandwidth Hz, level. With the constants in `_bark`, found by a random search for what
# two sound taggers, mn04 and YAMNet, both call a dog.
_BARK_FORMANTS = ((1060.0, 420.0, 1.0), (1890.0, 350.0, 1.5), (2220.0, 1500.0, 0.25))


def _bark(rng: np.random.Generator, *, pitch: float, length_seconds: float) -> Samples:
    t = times(length_seconds)
    u = t / length_seconds
    jitter = filtered(rng.standard_normal(len(t)), lambda f: (f < 40).astype(float))
    f0 = pitch * (483 + 208 * np.sin(np.pi * u**1.2)) * (1 + 0.08 * jitter / jitter.std())
    phase = 2 * np.pi * np.cumsum(f0) / SAMPLE_RATE
    # The mouth opens and closes: all formants move together.
    opening = 0.65 + 0.35 * np.sin(np.pi * (0.85 * u + 0.15))
    voice = np.zeros(len(t))
    for k in range(1, 29):
        level = _resonances(k * f0 / opening, _BARK_FORMANTS) * k**-0.8
        voice += np.sin(k * phase + rng.uniform(0, 6.28)) * level
    voice *= 1 + 0.5 * np.sin(phase / 2)
    breath = hiss(rng, length_seconds, lambda f: _resonances(f, _BARK_FORMANTS))
    breath *= 1 + np.sin(phase)
    fall = np.exp(-5.2 * np.clip(u - 0.3, 0, None) ** 1.5) * np.minimum((1 - u) / 0.25, 1)
    envelope = np.minimum(u / 0.3, 1) ** 1.5 * fall
    return normalised(np.tanh(2.4 * (voice / voice.std() + 0.27 * breath) * envelope))


def _tick(rng: np.random.Generator, tuning: float) -> Samples:
    """A click of the escapement and, 23 ms later, its softer echo in the case."""
    t = times(0.08)
    modes = (
        *((3500.0, 850.0, 1.0), (4620.0, 610.0, 0.11)),
        *((11500.0, 610.0, 0.18), (711.0, 236.0, 0.52)),
    )
    tones = [
        level * np.sin(2 * np.pi * hertz * tuning * t + number) * np.exp(-decay * t)
        for number, (hertz, decay, level) in enumerate(modes)
    ]
    click = np.sum(tones, axis=0) + 1.48 * rng.standard_normal(len(t)) * np.exp(-200 * t)
    out = silence(0.12)
    place(out, click, 0.0)
    place(out, 0.55 * click, 0.023)
    return out


# Ratio to the prime, level: a tuned bell's hum, prime, tierce, quint, nominal, and what is above.
_BELL_PARTIALS = (
    *((0.5, 0.42), (1.0, 0.58), (1.2, 0.64), (1.5, 0.29), (2.0, 0.43)),
    *((2.5, 0.95), (3.0, 0.67), (4.0, 0.61), (5.4, 0.11), (6.7, 0.10)),
)


def _bell(rng: np.random.Generator, *, prime_hz: float, length_seconds: float) -> Samples:
    t = times(length_seconds)
    out = np.zeros(len(t))
    for ratio, level in _BELL_PARTIALS:
        # No bell is quite round: each partial is a pair that beats.
        for detune in (0.9983, 1.0017):
            tone = np.sin(2 * np.pi * prime_hz * ratio * detune * t + rng.uniform(0, 6.28))
            out += level * tone * np.exp(-1.1 * (0.4 + ratio) ** 0.81 * t)
    clapper = hiss(rng, length_seconds, lambda f: f / (500 + f) / (1 + (f / 4000) ** 2))
    strike = out * np.minimum(t / 0.002, 1) + 1.15 * clapper * np.exp(-194 * t)
    return strike * rng.uniform(0.8, 1.0)


def _drop(rng: np.random.Generator) -> Samples:
    t = times(0.012)
    tone = np.sin(2 * np.pi * rng.uniform(1599, 5696) * t + rng.uniform(0, 6.28))
    burst = rng.standard_normal(len(t))
    drop = (1.5 * tone + burst) * np.exp(-t * rng.uniform(300, 1500))
    return drop * float(rng.pareto(3.22))


def _crack(rng: np.random.Generator) -> Samples:
    t = times(0.04)
    snap = rng.standard_normal(len(t)) * np.exp(-t * 320 * 3.1 ** rng.uniform())
    centre = 2850 * 2.1 ** rng.uniform()
    return filtered(snap, lambda f: _resonances(f, ((centre, 3500.0, 1.0),)))


def _chirp(low_hz: float, high_hz: float, length_seconds: float) -> Samples:
    t = times(length_seconds)
    u = t / length_seconds
    frequency = low_hz + (high_hz - low_hz) * np.abs(2 * u - 0.8) / 1.2
    phase = 2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE
    return (np.sin(phase) + 0.08 * np.sin(2 * phase)) * np.sin(np.pi * u) ** 0.7


def _pipe(pitch_hz: float, length_seconds: float) -> Samples:
    t = times(length_seconds)
    ranks = ((1, 1.0), (2, 0.7), (3, 0.35), (4, 0.45), (5, 0.2), (6, 0.18), (8, 0.25), (12, 0.08))
    tone = np.zeros(len(t))
    for harmonic, level in ranks:
        # No two ranks are in perfect tune.
        hertz = pitch_hz * harmonic * (1 + 0.0004 * harmonic)
        tone += level * np.sin(2 * np.pi * hertz * t)
    attack: Samples = np.minimum(t / 0.05, 1) * np.minimum((length_seconds - t) / 0.05, 1)
    return tone * attack
