"""Where segments lie, in memory: a search asks the database for no more than its best clips."""

from collections.abc import Sequence

import numpy as np

from index.catalogue_records import Window, WindowRows
from index.sorted_ids import contains, put_behind
from index.vector_store import Ids


class SegmentWindows:
    """The windows of segments by their row ids, 32 bytes each.

    A row's window never changes, and its id is never given again, so a window that is found is
    right whenever it was found; only whether there is one changes. What a reader holds is never
    written to, so that none needs a lock.
    """

    def __init__(self, rows: WindowRows) -> None:
        # Ascending by id, and the beginning of the room.
        self._rows = self._room = _ascending(rows)

    def replace(self, changed: Ids, new: WindowRows) -> None:
        """Take the `changed` rows out, save for those that are `new`: these are put in."""
        rows = self._rows
        gone = changed[contains(rows.ids, changed)]
        if gone.size:
            places = np.searchsorted(rows.ids, gone)
            rows = self._room = WindowRows._make(np.delete(column, places) for column in rows)
        if new.ids.size:
            rows = self._with(rows, _ascending(new))
        self._rows = rows

    def _with(self, rows: WindowRows, new: WindowRows) -> WindowRows:
        count, total = len(rows.ids), len(rows.ids) + len(new.ids)
        places = np.searchsorted(rows.ids, new.ids)
        if places[0] < count:
            self._room = WindowRows._make(
                np.insert(column, places, added) for column, added in zip(rows, new, strict=True)
            )
            return self._room
        self._room = WindowRows._make(
            put_behind(column, count, added) for column, added in zip(self._room, new, strict=True)
        )
        return WindowRows._make(column[:total] for column in self._room)

    def find(self, row_ids: Ids) -> list[Window | None]:
        """Return the window of each of row_ids (N,), None for one that there is not."""
        rows = self._rows
        found = contains(rows.ids, row_ids)
        places = np.searchsorted(rows.ids, row_ids[found])
        windows = map(
            Window,
            rows.clip_rows[places].tolist(),
            rows.starts[places].tolist(),
            rows.ends[places].tolist(),
        )
        return [next(windows) if present else None for present in found.tolist()]

    def rows(self) -> WindowRows:
        """Return all windows, ascending by id; what is returned is never written to."""
        return self._rows

    def of_clips(self, clip_rows: Sequence[int]) -> Ids:
        """Return the row ids of these clips' segments, ascending."""
        rows = self._rows
        ids: Ids = rows.ids[np.isin(rows.clip_rows, np.array(clip_rows, np.int64))]
        return ids

    def __len__(self) -> int:
        return len(self._rows.ids)


def _ascending(rows: WindowRows) -> WindowRows:
    order = np.argsort(rows.ids)
    return WindowRows._make(column[order] for column in rows)
