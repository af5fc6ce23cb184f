"""Sets of ids as ascending arrays: 8 bytes an id, where a Python set takes ten times as much.

What an array holds is never changed in place, so who holds one holds a snapshot.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from index.vector_store import Ids

T = TypeVar("T", bound=np.generic)

NO_IDS: Ids = np.empty(0, np.int64)

GROWTH = 8
"""Room is made for one in so many more, so that most additions copy nothing."""


def contains(held: Ids, ids: Ids) -> NDArray[np.bool_]:
    """Return for each of `ids` (N,) whether the ascending `held` (M,) has it; O(N log M)."""
    if not held.size:
        return np.zeros(len(ids), np.bool_)
    places = np.searchsorted(held, ids).clip(max=len(held) - 1)
    found: NDArray[np.bool_] = held[places] == ids
    return found


def put_behind(room: NDArray[T], count: int, new: NDArray[T]) -> NDArray[T]:
    """Write `new` (N,) behind the first `count` of `room`; return it, or a larger copy."""
    total = count + len(new)
    if total > len(room):
        room = np.concatenate([room[:count], np.empty(len(new) + total // GROWTH, room.dtype)])
    room[count:total] = new
    return room


@dataclass(frozen=True, slots=True)
class GrowingIds:
    """Ascending ids, and room behind them: ids greater than all, as rows' mostly are, take no copy.

    Sets share their room, so only the latest of them may be grown, by one thread.

    Attributes:
        ids: (N,) ascending; never written to.
        room: whose beginning `ids` is.
    """

    ids: Ids
    room: Ids

    @classmethod
    def of(cls, ids: Ids = NO_IDS) -> "GrowingIds":
        """Take ids (N,) that ascend."""
        return cls(ids, ids)

    def with_ids(self, ids: Ids) -> "GrowingIds":
        """Return the union with the distinct `ids` (N,)."""
        new = np.sort(ids[~contains(self.ids, ids)])
        count, total = len(self.ids), len(self.ids) + len(new)
        if new.size and count and new[0] < self.ids[-1]:
            return self.of(np.insert(self.ids, np.searchsorted(self.ids, new), new))
        room = put_behind(self.room, count, new)
        return GrowingIds(room[:total], room)

    def without_ids(self, ids: Ids) -> "GrowingIds":
        """Return the difference from `ids` (N,)."""
        return self.of(np.delete(self.ids, np.searchsorted(self.ids, ids[contains(self.ids, ids)])))


def distinct(ids: Ids) -> Ids:
    """Return `ids` ascending, each once. `np.unique` hashes, which takes several times as long."""
    ascending = np.sort(ids)
    first: NDArray[np.bool_] = np.ones(len(ids), np.bool_)
    first[1:] = ascending[1:] != ascending[:-1]
    return ascending[first]
