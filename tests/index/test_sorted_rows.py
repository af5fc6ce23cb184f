"""Rows that come and go without a copy of all, and never under a reader."""

from collections.abc import Iterable

import numpy as np

from index.sorted_ids import NO_IDS
from index.sorted_rows import SortedRows
from index.vector_store import Ids


def ids(*values: int) -> Ids:
    return np.array(values, np.int64)


def rows(*values: int) -> tuple[Ids, Ids]:
    """Ids and a column that tells whose row it is."""
    return ids(*values), -ids(*values)


def held(kept: SortedRows) -> list[int]:
    """The ids, by whichever way one asks."""
    found, column = kept.columns()
    assert column.tolist() == (-found).tolist()
    assert found.tolist() == kept.ids.tolist()
    assert len(kept) == len(found)
    return found.tolist()


def changed(kept: SortedRows, *, gone: Iterable[int] = (), new: Iterable[int] = ()) -> SortedRows:
    return kept.without_ids(ids(*gone)).with_rows(*rows(*new))


def test_they_are_those_of_a_set_after_any_changes() -> None:
    random = np.random.default_rng(0)
    kept, expected = SortedRows.of(NO_IDS, NO_IDS), set[int]()
    for round_number in range(600):
        low = 10 * round_number if round_number % 3 else 0
        part = random.permutation(np.unique(random.integers(low, low + 40, 10))).tolist()
        if round_number % 5 == 4:
            kept, expected = kept.without_ids(ids(*part)), expected - set(part)
        else:
            kept, expected = kept.with_rows(*rows(*part)), expected | set(part)
        assert held(kept) == sorted(expected)
        asked = random.permutation(low + 60)
        present = kept.contains(asked)
        assert present.tolist() == [number in expected for number in asked.tolist()]
        assert [column.tolist() for column in kept.find(asked[present])] == [
            asked[present].tolist(),
            (-asked[present]).tolist(),
        ]


def test_what_a_reader_holds_stays_as_it_was() -> None:
    first = SortedRows.of(*rows(1, 2, 3, 9))
    second = first.with_rows(*rows(17, 15))
    third = changed(second, gone=[1], new=[4])
    fourth = changed(third, gone=[9, 17], new=[20])
    fifth = changed(fourth, new=[9])

    assert held(first) == [1, 2, 3, 9]
    assert held(second) == [1, 2, 3, 9, 15, 17]
    assert held(third) == [2, 3, 4, 9, 15, 17]
    assert held(fourth) == [2, 3, 4, 15, 20]
    assert held(fifth) == [2, 3, 4, 9, 15, 20]


def test_an_addition_that_was_given_up_leaves_nothing() -> None:
    kept = SortedRows.of(*rows(*range(100)))
    kept.with_rows(*rows(200, 201))

    assert held(kept.with_rows(*rows(150))) == [*range(100), 150]


def test_greater_ids_are_mostly_added_without_a_copy() -> None:
    kept = SortedRows.of(*rows(*range(1000)))
    copies = 0
    for number in range(1000, 2000):
        before, kept = kept, kept.with_rows(*rows(number))
        copies += not np.shares_memory(kept.written[0], before.written[0])

    assert 1 <= copies <= 10


def test_rows_are_mostly_taken_out_without_a_copy() -> None:
    kept = SortedRows.of(*rows(*range(10_000)))
    copies = 0
    for number in range(1000):
        before, kept = kept, kept.without_ids(ids(7 * number))
        copies += kept.written is not before.written

    assert 1 <= copies <= 1000 // 90
    assert held(kept) == sorted({*range(10_000)} - {7 * number for number in range(1000)})
