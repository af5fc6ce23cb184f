"""Text encoders of sentence-transformers, from a folder or the hub."""

import os
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.errors import BackboneError


class SentenceTextEncoder:
    """A sentence-transformers model behind `TextEncoder`; calls from several threads take turns.

    Args:
        name: a folder that holds the model, or its name on the hub; what checkpoints and answers
            call the encoder.

    Raises:
        BackboneError: the model's files cannot be had.
    """

    def __init__(self, name: str) -> None:
        # Nothing may be looked up online for a model that lies on the disk.
        offline = os.path.isdir(name)
        # Seconds of import, so it is paid only by those who encode text.
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

        # A service's log is no place for a progress bar.
        disable_progress_bar()  # type: ignore[no-untyped-call]

        try:
            self._model = SentenceTransformer(name, device="cpu", local_files_only=offline)
        except (OSError, ValueError) as error:
            raise BackboneError(
                f"text encoder {name!r} cannot be loaded ({error}); give a folder that holds a "
                "sentence-transformers model, or a hub name while online"
            ) from error
        self.name = name
        self.dim = int(self._model.get_embedding_dimension() or 0)
        # The fast tokenizer refuses to be borrowed by two threads at once.
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: (len(texts), dim) float32, L2-normalised."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        with self._lock:
            vectors = self._model.encode(
                list(texts), normalize_embeddings=True, show_progress_bar=False
            )
        return np.asarray(vectors, dtype=np.float32)
