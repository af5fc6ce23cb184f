"""Every registered store, driven at random, answers as a sorted Python list does.

The vectors hold small integers, so every inner product is exact and ties are common.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from index.registry import create_store
from index.vector_store import Ids, VectorStore
from tests.index.stores import KINDS

DIM = 3
EXAMPLES = {"milvus": 10}  # Making a collection takes half a second.
row_ids = st.integers(0, 30)
vector = st.tuples(*[st.integers(-2, 2)] * DIM)


def ids(values: list[int]) -> Ids:
    return np.array(values, np.int64)


class StoreMachine(RuleBasedStateMachine):
    kind: str

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.store = self.empty()
        self.model: dict[int, tuple[int, ...]] = {}

    def empty(self) -> VectorStore:
        return create_store(
            self.kind, dim=DIM, model_id="m", name="both", directory=Path(self.directory.name)
        )

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()

    @rule(pairs=st.dictionaries(row_ids, vector, max_size=12))
    def add(self, pairs: dict[int, tuple[int, ...]]) -> None:
        vectors = np.array(list(pairs.values()), np.float32).reshape(-1, DIM)
        self.store.add(ids(list(pairs)), vectors)
        self.model.update(pairs)

    @rule(gone=st.sets(row_ids, max_size=8))
    def remove(self, gone: set[int]) -> None:
        assert self.store.remove(ids(list(gone))) == len(gone & self.model.keys())
        for row_id in gone:
            self.model.pop(row_id, None)

    @rule(
        queries=st.lists(vector, min_size=1, max_size=3),
        k=st.integers(1, 12),
        allowed=st.none() | st.sets(row_ids),
    )
    def search(self, queries: list[tuple[int, ...]], k: int, allowed: set[int] | None) -> None:
        scores, found = self.store.search(
            np.array(queries, np.float32),
            k,
            allowed=None if allowed is None else ids(sorted(allowed)),
        )
        for query, row_scores, row_found in zip(queries, scores, found, strict=True):
            ranked = sorted(
                (-sum(a * b for a, b in zip(query, held, strict=True)), row_id)
                for row_id, held in self.model.items()
                if allowed is None or row_id in allowed
            )[:k]
            assert row_found.tolist() == [row_id for _, row_id in ranked]
            assert row_scores.tolist() == [-negated for negated, _ in ranked]

    @rule()
    def save_and_load(self) -> None:
        path = Path(self.directory.name) / "vectors"
        self.store.save(path, generation=3)
        self.store.close()
        self.store = self.empty()
        assert self.store.load(path) == 3

    @invariant()
    def holds_the_same(self) -> None:
        assert self.store.count() == len(self.model)
        held = self.store.get(ids(sorted(self.model)))
        assert held.tolist() == [list(self.model[row_id]) for row_id in sorted(self.model)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_answers_as_brute_force_does(kind: str) -> None:
    machine = type("Machine", (StoreMachine,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES.get(kind, 25),
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
