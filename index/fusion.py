"""How a sound's vector and a picture's vector become one."""

import numpy as np

from index.types import ModalityWeights, Vector


def check_weights(weights: ModalityWeights) -> None:
    """Raise ValueError unless both weights are finite, none is negative and one is positive."""
    pair = (weights.audio, weights.video)
    if not np.isfinite(pair).all() or min(pair) < 0 or sum(pair) <= 0:
        raise ValueError(f"Modality weights must be >= 0, finite and not both 0; got {weights}.")


def weighted_mean(
    audio: Vector | None, video: Vector | None, weights: ModalityWeights
) -> Vector | None:
    """Return the weighted mean (D,) of the modalities present, None where there is neither.

    It is not renormalised, so its inner product with a query is exactly the weighted mean of the
    two similarities.
    """
    if audio is None or video is None:
        return video if audio is None else audio
    total = weights.audio + weights.video
    mean = (weights.audio / total) * audio + (weights.video / total) * video
    return mean.astype(np.float32)


def unit_length(vector: Vector) -> Vector | None:
    """Return the vector (D,) at length 1, None where it has no direction."""
    length = float(np.linalg.norm(vector))
    return (vector / length).astype(np.float32) if length > 1e-6 else None
