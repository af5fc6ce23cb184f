"""Sets of ids as ascending arrays: 8 bytes an id, where a Python set takes ten times as much."""

import numpy as np
from numpy.typing import NDArray

from index.vector_store import Ids

NO_IDS: Ids = np.empty(0, np.int64)


def contains(held: Ids, ids: Ids) -> NDArray[np.bool_]:
    """Return for each of `ids` (N,) whether the ascending `held` (M,) has it; O(N log M)."""
    if not held.size:
        return np.zeros(len(ids), np.bool_)
    places = np.searchsorted(held, ids).clip(max=len(held) - 1)
    found: NDArray[np.bool_] = held[places] == ids
    return found


def without(held: Ids, ids: Ids) -> Ids:
    """Return the ascending `held` (M,) less those of `ids` (N,); itself where that is all."""
    gone = ids[contains(held, ids)]
    return np.delete(held, np.searchsorted(held, gone)) if gone.size else held


def distinct(ids: Ids) -> Ids:
    """Return `ids` ascending, each once. `np.unique` hashes, which takes several times as long."""
    ascending = np.sort(ids)
    first: NDArray[np.bool_] = np.ones(len(ids), np.bool_)
    first[1:] = ascending[1:] != ascending[:-1]
    return ascending[first]
