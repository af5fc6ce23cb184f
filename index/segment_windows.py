"""Where segments lie, in memory: a search asks the database for no more than its best clips."""

from collections.abc import Sequence

import numpy as np

from index.catalogue_records import Window, WindowRows
from index.sorted_ids import contains, without
from index.sorted_rows import SortedRows
from index.vector_store import Ids


class SegmentWindows:
    """The windows of segments by their row ids, 32 bytes each.

    A row's window never changes, and its id is never given again, so a window that is found is
    right whenever it was found; only whether there is one changes. What a reader holds is never
    written to, so that none needs a lock.
    """

    def __init__(self, rows: WindowRows) -> None:
        order = np.argsort(rows.ids)
        self._rows = SortedRows.of(*(column[order] for column in rows))

    def replace(self, changed: Ids, new: WindowRows) -> None:
        """Take the `changed` rows out, save for those that are `new`: these are put in."""
        gone = changed[~contains(np.sort(new.ids), changed)]
        self._rows = self._rows.without_ids(gone).with_rows(*new)

    def find(self, row_ids: Ids) -> list[Window | None]:
        """Return the window of each of row_ids (N,), None for one that there is not."""
        rows = self._rows
        found = rows.contains(row_ids)
        _, clip_rows, starts, ends = rows.find(row_ids[found])
        windows = map(Window, clip_rows.tolist(), starts.tolist(), ends.tolist())
        return [next(windows) if present else None for present in found.tolist()]

    def rows(self) -> WindowRows:
        """Return all windows, ascending by id; what is returned is never written to."""
        return WindowRows(*self._rows.columns())

    def of_clips(self, clip_rows: Sequence[int]) -> Ids:
        """Return the row ids of these clips' segments, ascending."""
        rows = self._rows
        ids, clips_of, *_ = rows.written
        return without(ids[np.isin(clips_of, np.array(clip_rows, np.int64))], rows.gone)

    def __len__(self) -> int:
        return len(self._rows)
