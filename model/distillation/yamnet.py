"""The second sound teacher: YAMNet, a MobileNet trained on AudioSet by other people.

This file owns its running and the way from its 521 classes to AudioSet's 527. Weights and class
map: TensorFlow Model Garden, Apache-2.0.
"""

import csv
from pathlib import Path

import numpy as np
import scipy.signal
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
PATCH = 15_600
HOP = 7_800

# YAMNet's logits spread more than mn04's and lie lower. This line (fitted once over the recordings
# here) brings them to the same scale, so that an average does not shift the scores.
SCALE = 0.61
SHIFT = -2.0


class Yamnet:
    """Runs YAMNet on one thread."""

    def __init__(self, teachers: Path) -> None:
        """Read `yamnet.tflite` and both class maps from a folder."""
        self._interpreter = Interpreter(str(teachers / "yamnet.tflite"), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        mids = _read_mids(teachers / "mn04_class_labels.csv")
        ours = [mids.index(mid) for mid in _read_mids(teachers / "yamnet_class_map.csv")]
        self._columns = np.array(ours)
        self.known = np.isin(np.arange(len(mids)), self._columns)
        """(527,) bool: the classes that YAMNet has."""

    def logits(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) float32 at 32 kHz -> (527,) float32 on mn04's scale; 0 where it has no class.

        The probability of a class is its mean over half-overlapping patches of 0.975 s.
        """
        sound = scipy.signal.resample_poly(waveform, 1, 2).astype(np.float32)
        sound = np.pad(sound, (0, max(0, PATCH - sound.size)))
        starts = range(0, sound.size - PATCH + 1, HOP)
        mean = np.mean([self._patch(sound[start : start + PATCH]) for start in starts], axis=0)
        probability = mean.clip(1e-6, 1 - 1e-6)
        logits = np.zeros(self.known.size, np.float32)
        logits[self._columns] = SCALE * np.log(probability / (1 - probability)) + SHIFT
        return logits

    def _patch(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        self._interpreter.set_tensor(self._input, sound)
        self._interpreter.invoke()
        scores: NDArray[np.float32] = self._interpreter.get_tensor(self._output)[0]
        return scores


def _read_mids(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row["mid"] for row in csv.DictReader(file)]
