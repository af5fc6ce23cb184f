"""What one clip needs is read by keys, however many others there are: SQLite's own plans tell."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from index.library import Library
from index.types import Segment
from tests.index.builders import new_clip, unit

WINDOWS = 12
"""SQLite chooses another plan for five rows and more than for fewer."""


@contextmanager
def recorded(library: Library) -> Iterator[list[tuple[str, Any]]]:
    """Give the statements that are run meanwhile, with their values."""
    statements: list[tuple[str, Any]] = []

    def record(_: object, __: object, statement: str, values: Any, *___: object) -> None:
        statements.append((statement, values))

    engine = library._catalogue.engine
    event.listen(engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", record)


def plans(library: Library, statements: list[tuple[str, Any]]) -> list[str]:
    found: list[str] = []
    with library._catalogue.engine.connect() as connection:
        for statement, values in statements:
            if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                one = values[0] if isinstance(values, list) else values
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", one)
                found += [f"{row[3]} of {statement}" for row in rows]
    return found


def add(library: Library, upload: Path) -> None:
    windows = tuple(Segment(n, n + 1.0, unit(n), None) for n in range(WINDOWS))
    library.add_clip(new_clip(unit(3), segments=windows), upload)


def remove(library: Library, _: Path) -> None:
    library.remove_clip(library.list_clips(limit=1).items[0].clip_id)


def search(library: Library, _: Path) -> None:
    assert library.search(unit(1), top_k=3)


def read_whole_vectors(library: Library, _: Path) -> None:
    with library._catalogue.read() as reader:
        assert len(reader.vectors_of_segments(range(1, 30))) >= WINDOWS


@pytest.mark.parametrize("operation", [add, remove, search, read_whole_vectors])
def test_no_operation_on_a_clip_reads_all_segments(
    library: Library, upload: Path, operation: Callable[[Library, Path], None]
) -> None:
    for _ in range(2):
        add(library, upload)
    with recorded(library) as statements:
        operation(library, upload)

    of_segments = [plan for plan in plans(library, statements) if "segments" in plan]

    assert of_segments
    whole = [
        plan
        for plan in of_segments
        if plan.startswith("SCAN segments") or "(model_id=?) of" in plan
    ]
    assert whole == []
