"""Rows in memory, ascending by id: 8 bytes a number, where Python's own take ten times as much.

What a `SortedRows` holds is never changed in place, so who holds one holds a snapshot.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.sorted_ids import NO_IDS, contains, without
from index.vector_store import Ids

Columns = tuple[NDArray[Any], ...]

GROWTH = 8
"""Room is made for one in so many more, so that most additions copy nothing."""


@dataclass(frozen=True, slots=True)
class SortedRows:
    """Columns (N,) each, the first of which are the rows' ids: ascending, each once.

    Neither an addition nor a removal mostly copies more than a few rows: ids greater than all, as
    new ones mostly are, are written into room behind the others, and what is taken out is only
    named as gone until that is more than the square root of all.

    Snapshots share their room, so only the latest of them may be changed, by one thread.

    Attributes:
        written: (M,) each, the rows that are gone among them.
        gone: (G,) ascending; ids of `written`.
        room: columns whose beginnings `written` are.
    """

    written: Columns
    gone: Ids
    room: Columns

    @classmethod
    def of(cls, *columns: NDArray[Any]) -> "SortedRows":
        """Take columns (N,) that ascend by the first, the ids."""
        return cls(columns, NO_IDS, columns)

    def __len__(self) -> int:
        return len(self.written[0]) - len(self.gone)

    @property
    def ids(self) -> Ids:
        """All ids (N,), ascending."""
        return without(self.written[0], self.gone)

    def columns(self) -> Columns:
        """Return the columns (N,) of all rows, ascending by id."""
        if not self.gone.size:
            return self.written
        places = np.searchsorted(self.written[0], self.gone)
        return tuple(np.delete(column, places) for column in self.written)

    def contains(self, ids: Ids) -> NDArray[np.bool_]:
        """Return for each of `ids` (Q,) whether there is a row of it."""
        return contains(self.written[0], ids) & ~contains(self.gone, ids)

    def find(self, ids: Ids) -> Columns:
        """Return the columns (Q,) of rows that are all there, in the order of `ids`."""
        places = np.searchsorted(self.written[0], ids)
        return tuple(column[places] for column in self.written)

    def with_rows(self, *columns: NDArray[Any]) -> "SortedRows":
        """Return the rows and those of the columns (Q,), of distinct ids, which they lack."""
        if contains(self.gone, columns[0]).any():
            return self._compact().with_rows(*columns)
        new = np.flatnonzero(~self.contains(columns[0]))
        new = new[np.argsort(columns[0][new])]
        added = tuple(column[new] for column in columns)
        held, ids = self.written[0], added[0]
        if ids.size and held.size and ids[0] < held[-1]:
            places = np.searchsorted(held, ids)
            both = zip(self.written, added, strict=True)
            inserted = tuple(np.insert(column, places, values) for column, values in both)
            return SortedRows(inserted, self.gone, inserted)
        count, total = len(held), len(held) + len(ids)
        behind = zip(self.room, added, strict=True)
        room = tuple(_put_behind(column, count, values) for column, values in behind)
        return SortedRows(tuple(column[:total] for column in room), self.gone, room)

    def without_ids(self, ids: Ids) -> "SortedRows":
        """Return the rows of other ids than `ids` (Q,), which are distinct."""
        new = np.sort(ids[self.contains(ids)])
        gone = np.insert(self.gone, np.searchsorted(self.gone, new), new)
        rows = replace(self, gone=gone)
        return rows if len(gone) ** 2 <= len(self.written[0]) else rows._compact()

    def _compact(self) -> "SortedRows":
        return SortedRows.of(*self.columns())


def _put_behind(room: NDArray[Any], count: int, new: NDArray[Any]) -> NDArray[Any]:
    """Write `new` (N,) behind the first `count` of `room`; return it, or a larger copy."""
    total = count + len(new)
    if total > len(room):
        room = np.concatenate([room[:count], np.empty(len(new) + total // GROWTH, room.dtype)])
    room[count:total] = new
    return room
