"""What sound looks like: true to the samples, and no larger for a longer file."""

import io
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.errors import DurationTooLong, ModalityMissing
from model.media.limits import MAX_BUCKETS, MediaLimits
from model.media.sound_views import Waveform, _Cells, _mel_filters, draw_spectrogram, read_waveform
from tests.service.media import RATE, mp4, tone, wav


def result_of(task: Generator[Any, None, Any]) -> Any:
    with pytest.raises(StopIteration) as stop:
        next(task)
    return stop.value.value


def waveform(path: Path, buckets: int) -> Waveform:
    found = result_of(read_waveform(path, MediaLimits(), buckets))
    assert isinstance(found, Waveform)
    return found


def spectrogram(path: Path, width: int, height: int) -> np.ndarray[Any, Any]:
    """Palette indices (height, width): 0 is silence, 255 the loudest."""
    png = result_of(draw_spectrogram(path, MediaLimits(), width, height))
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("buckets", [1, 7, 100, MAX_BUCKETS])
def test_a_waveform_holds_the_extremes_of_each_part(tmp_path: Path, buckets: int) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(wav(3.0, hertz=5.0))
    samples = tone(3.0, 5.0) / 32768

    found = waveform(path, buckets)

    parts = np.array_split(samples, buckets)
    assert len(found.lowest) == len(found.highest) == buckets
    # Parts begin on cells of a few samples, of a slow tone.
    np.testing.assert_allclose(found.lowest, [part.min() for part in parts], atol=0.03)
    np.testing.assert_allclose(found.highest, [part.max() for part in parts], atol=0.03)
    assert found.duration_seconds == pytest.approx(3.0, abs=1e-3)


def test_a_short_sound_has_no_more_parts_than_samples(tmp_path: Path) -> None:
    path = tmp_path / "click.wav"
    path.write_bytes(wav(10 / RATE))

    assert len(waveform(path, 4000).lowest) == 10


@pytest.mark.parametrize("rows", [1, 5, 16, 17, 100, 1000])
@pytest.mark.parametrize("step", [1, 3, 64, 1000])
def test_cells_condense_a_stream_whole_however_it_comes(rows: int, step: int) -> None:
    values = np.arange(rows, dtype=np.float32)[:, None]
    cells = _Cells(4, lambda groups: groups.max(axis=1))
    for start in range(0, rows, step):
        cells.add(values[start : start + step])

    found = cells.rows()[:, 0]

    assert len(found) <= 8
    per_cell = 1
    while rows // per_cell >= 8:
        per_cell *= 2
    expected = [values[start : start + per_cell].max() for start in range(0, rows, per_cell)]
    assert found.tolist() == expected


def test_a_spectrogram_shows_a_tone_at_its_pitch(tmp_path: Path) -> None:
    for hertz in (300.0, 1000.0, 3000.0):
        path = tmp_path / "tone.wav"
        path.write_bytes(wav(2.0, hertz=hertz))

        picture = spectrogram(path, 60, 64)

        assert picture.shape == (64, 60)
        lowest_first = picture[::-1].mean(axis=1)
        filters = _mel_filters(64)
        loudest = filters[round(hertz / (RATE / 1024))].argmax()
        assert abs(int(lowest_first.argmax()) - int(loudest)) <= 1


def test_a_spectrogram_shows_when_it_is_loud(tmp_path: Path) -> None:
    path = tmp_path / "late.wav"
    path.write_bytes(joined_wav(np.concatenate([np.zeros(2 * RATE, np.int16), tone(2.0)])))

    picture = spectrogram(path, 100, 32)

    assert picture[:, :45].max() == 0
    assert picture[:, 55:].max() == 255


def joined_wav(samples: np.ndarray[Any, Any]) -> bytes:
    whole = bytearray(wav(len(samples) / RATE))
    whole[-2 * len(samples) :] = samples.astype("<i2").tobytes()
    return bytes(whole)


def test_every_band_of_pitch_hears_something() -> None:
    for bands in (16, 128, 256):
        assert (_mel_filters(bands).sum(axis=0) > 0).all()


def test_silence_is_black(tmp_path: Path) -> None:
    path = tmp_path / "silent.wav"
    path.write_bytes(wav(1.0, silent=True))

    assert len(np.unique(spectrogram(path, 50, 16))) == 1
    assert waveform(path, 10).highest.tolist() == [0.0] * 10


def test_without_sound_there_is_nothing_to_show(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    path.write_bytes(mp4(sound=False))

    with pytest.raises(ModalityMissing):
        next(read_waveform(path, MediaLimits(), 10))
    with pytest.raises(ModalityMissing):
        next(draw_spectrogram(path, MediaLimits(), 100, 16))


def test_the_limits_hold_here_too(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(wav(3.0))

    with pytest.raises(DurationTooLong):
        next(read_waveform(path, MediaLimits(max_duration_seconds=1.0), 10))
