"""What general model servers are given to serve in `serving.py`: this model and its whole path.

The same upload is decoded by the same code, embedded in batches and ranked among the whole
vocabulary. Each peer runs two workers of one thread each and forms batches as it offers to.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.embedder import Embedder
from model.embedding import PreparedChunk
from model.media.clip import ClipReader
from model.media.limits import MediaLimits
from model.scoring import rank_labels
from model.vectors import mean_vector

WORKERS = 2
BATCH = 8
WAIT_SECONDS = 0.005
TOP_K = 5


class Classifier:
    """The whole path of one process: a file's bytes in, ranked names out."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.embedder = Embedder.load()
        self.embedder.warm_up()
        vocabulary = self.embedder.vocabulary()
        self.names = [entry.name for entry in vocabulary]
        self.vectors = np.stack([entry.vector for entry in vocabulary])
        self.seen = np.ones(len(vocabulary), bool)

    def decode(self, content: bytes, name: str) -> list[PreparedChunk]:
        with tempfile.NamedTemporaryFile(suffix=Path(name).suffix) as file:
            file.write(content)
            file.flush()
            reader = ClipReader(Path(file.name), self.embedder.decode_spec, MediaLimits())
            return [self.embedder.prepare(chunk) for chunk in reader.chunks()]

    def classify(self, clips: Sequence[Sequence[PreparedChunk]]) -> list[dict[str, Any]]:
        forwarded = iter(self.embedder.forward([chunk for clip in clips for chunk in clip]))
        answers = []
        for clip in clips:
            windows = [w for _ in clip for w in self.embedder.finish(next(forwarded))]
            vectors = {
                "audio": mean_vector([w.audio for w in windows if w.audio is not None]),
                "video": mean_vector([w.video for w in windows if w.video is not None]),
            }
            similarities = {m: self.vectors @ v for m, v in vectors.items() if v is not None}
            ranking = rank_labels(similarities, self.seen, self.embedder.calibration)
            best = np.argsort(-ranking.score)[:TOP_K]
            labels = [
                {"name": self.names[i], "probability": float(ranking.probability[i])} for i in best
            ]
            answers.append({"labels": labels})
        return answers
