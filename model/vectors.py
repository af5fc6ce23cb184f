"""Arithmetic of unit vectors that embedders share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows (N, D) to unit length; a row of zeros stays zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)


def mean_vector(vectors: Sequence[Vector]) -> Vector | None:
    """Normalised mean (D,) float32 of unit vectors, or None of nothing."""
    if not vectors:
        return None
    mean = np.stack(vectors).mean(axis=0, keepdims=True)
    return np.asarray(unit_rows(mean)[0])
