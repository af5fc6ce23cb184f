"""Where segments lie, in memory, against a dictionary; and that searches keep to one state."""

import threading
from pathlib import Path

import numpy as np
import pytest

from index.catalogue_reader import CatalogueReader
from index.catalogue_records import Window, WindowRows
from index.library import Library
from index.segment_index import SegmentIndex
from index.segment_windows import SegmentWindows
from index.types import SearchFilter, Segment
from tests.index.builders import axis, new_clip, unit


def rows_of(windows: dict[int, Window], ids: list[int]) -> WindowRows:
    return WindowRows(
        np.array(ids, np.int64),
        np.array([windows[row].clip_row for row in ids], np.int64),
        np.array([windows[row].start_seconds for row in ids], np.float64),
        np.array([windows[row].end_seconds for row in ids], np.float64),
    )


def test_windows_are_those_of_a_dictionary_after_any_changes() -> None:
    random = np.random.default_rng(0)
    every = {row: Window(row // 3, row / 7, row / 7 + 2) for row in range(200)}
    held: set[int] = {5, 3, 90}
    windows = SegmentWindows(rows_of(every, [90, 5, 3]))
    for _ in range(60):
        changed = random.permutation(200)[:20].tolist()
        new = [row for row in changed if random.random() < 0.6]
        windows.replace(np.array(changed, np.int64), rows_of(every, new))
        held = held - set(changed) | set(new)
        asked = random.permutation(200)
        assert windows.find(asked) == [
            every[row] if row in held else None for row in asked.tolist()
        ]
        clips = random.permutation(66)[:10].tolist()
        assert windows.of_clips(clips).tolist() == sorted(
            row for row in held if every[row].clip_row in clips
        )
    assert len(windows) == len(held)


def test_windows_added_after_all_others_are_found_and_earlier_readers_see_no_change() -> None:
    every = {row: Window(row // 3, row / 7, row / 7 + 2) for row in range(500)}
    windows = SegmentWindows(rows_of(every, []))
    seen = []
    for row in range(0, 500, 2):
        windows.replace(np.array([row + 1, row]), rows_of(every, [row + 1, row]))
        seen.append((windows.rows(), row + 2))
        if row % 50 == 48:
            windows.replace(np.array([row - 20]), rows_of(every, []))
            windows.replace(np.array([row - 20]), rows_of(every, [row - 20]))
    assert windows.find(np.arange(500)) == list(every.values())
    for rows, count in seen:
        assert rows.ids.tolist() == list(range(count))
        assert rows.clip_rows.tolist() == [row // 3 for row in range(count)]


def test_no_windows_have_no_rows() -> None:
    windows = SegmentWindows(rows_of({}, []))
    assert windows.find(np.array([1, 2])) == [None, None]
    assert windows.of_clips([1]).tolist() == []


def test_a_search_asks_the_database_for_its_best_clips_only(
    library: Library, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        library.add_clip(new_clip(unit(number), tags=("b", "a"), filename=f"{number}"), upload)
    asked: list[list[int]] = []
    clips = CatalogueReader.clips

    def recorded(reader: CatalogueReader, row_ids: list[int]) -> object:
        asked.append(row_ids)
        return clips(reader, row_ids)

    monkeypatch.setattr(CatalogueReader, "clips", recorded)
    hits = library.search(unit(3), top_k=2)
    assert [len(row_ids) for row_ids in asked] == [2]
    assert hits[0].clip == library.get_clip(hits[0].clip.clip_id)
    assert (hits[0].clip.tags, hits[0].clip.segment_count) == (("b", "a"), 1)


def test_a_clip_deleted_whose_vectors_are_still_there_gives_way_to_the_next_best(
    library: Library, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [library.add_clip(new_clip(axis(n)), upload) for n in range(3)]
    query = (axis(0) * 3 + axis(1) * 2 + axis(2)) / np.float32(14**0.5)
    committed, searched = threading.Event(), threading.Event()
    publish = SegmentIndex.publish

    def late(*arguments: object) -> None:
        committed.set()
        assert searched.wait(10)
        publish(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SegmentIndex, "publish", late)
    remover = threading.Thread(target=library.remove_clip, args=(kept[0].clip_id,))
    remover.start()
    assert committed.wait(10)
    hits = library.search(query, top_k=2)
    searched.set()
    remover.join()
    assert [hit.clip.clip_id for hit in hits] == [kept[1].clip_id, kept[2].clip_id]
    assert library.search(query, top_k=2) == hits


def test_filters_and_windows_follow_additions_and_removals(library: Library, upload: Path) -> None:
    windows = tuple(Segment(n / 3, n / 3 + 1, axis(n), None) for n in range(4))
    first = library.add_clip(new_clip(axis(0), segments=windows, tags=("x",)), upload)
    second = library.add_clip(new_clip(axis(7), tags=("y",)), upload)
    tagged = SearchFilter(tags=("x",))
    for number in range(4):
        (hit,) = library.search(axis(number), filter=tagged)
        assert (hit.start_seconds, hit.end_seconds) == (number / 3, number / 3 + 1)
        assert hit.clip == first
    library.remove_clip(first.clip_id)
    assert library.search(axis(0), filter=tagged) == []
    assert [hit.clip for hit in library.search(axis(0))] == [second]
    assert len(library._space.segments.windows) == 1
