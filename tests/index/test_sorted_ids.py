"""Sets of ids that grow without a copy, and never under a reader."""

import numpy as np

from index.sorted_ids import GrowingIds
from index.vector_store import Ids


def ids(*values: int) -> Ids:
    return np.array(values, np.int64)


def test_it_holds_what_a_set_would() -> None:
    random = np.random.default_rng(0)
    held, expected = GrowingIds.of(), set[int]()
    for round_number in range(200):
        low = 10 * round_number if round_number % 3 else 0
        part = np.unique(random.integers(low, low + 40, 10))
        if round_number % 5 == 4:
            held, expected = held.without_ids(part), expected - set(part.tolist())
        else:
            held, expected = held.with_ids(random.permutation(part)), expected | set(part.tolist())
        assert held.ids.tolist() == sorted(expected)


def test_what_a_reader_holds_stays_as_it_was() -> None:
    first = GrowingIds.of().with_ids(ids(1, 2, 3))
    second = first.with_ids(ids(7, 5))
    third = second.with_ids(ids(4)).without_ids(ids(1))

    assert first.ids.tolist() == [1, 2, 3]
    assert second.ids.tolist() == [1, 2, 3, 5, 7]
    assert third.ids.tolist() == [2, 3, 4, 5, 7]


def test_an_addition_that_was_given_up_leaves_nothing() -> None:
    held = GrowingIds.of().with_ids(np.arange(100))
    held.with_ids(ids(200, 201))

    assert held.with_ids(ids(150)).ids.tolist() == [*range(100), 150]


def test_greater_ids_are_mostly_added_without_a_copy() -> None:
    held = GrowingIds.of().with_ids(np.arange(1000))
    rooms = set()
    for number in range(1000, 2000):
        held = held.with_ids(ids(number))
        rooms.add(id(held.room))

    assert len(rooms) <= 10
