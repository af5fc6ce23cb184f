"""The contract of `index.vector_store`, on every registered store."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from index.registry import create_store
from index.vector_store import Ids, Vectors, VectorStore
from tests.index.stores import KINDS

DIM = 4


Make = Callable[..., VectorStore]


def ids(*values: int) -> Ids:
    return np.array(values, np.int64)


def vectors(*rows: tuple[float, ...]) -> Vectors:
    return np.array(rows, np.float32).reshape(-1, DIM)


@pytest.fixture(params=KINDS)
def make(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Make]:
    """Makes stores of one kind and of one directory, and closes them when the test is over."""
    directory = tmp_path_factory.mktemp("store")
    made: list[VectorStore] = []

    def make_one(**changes: object) -> VectorStore:
        options = {"dim": DIM, "model_id": "m", "name": "audio", "directory": directory}
        made.append(create_store(request.param, **{**options, **changes}))
        return made[-1]

    yield make_one
    for store in made:
        store.close()


@pytest.fixture
def store(make: Make) -> VectorStore:
    return make()


def random_vectors(count: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def test_a_new_store_is_empty_and_answers_with_no_columns(store: VectorStore) -> None:
    scores, found = store.search(random_vectors(3), 5)
    assert store.count() == 0
    assert scores.shape == found.shape == (3, 0)
    assert scores.dtype == np.float32
    assert found.dtype == np.int64


def test_higher_inner_product_comes_first_whatever_the_length(store: VectorStore) -> None:
    store.add(ids(7, 3, 5), vectors((1, 0, 0, 0), (3, 0, 0, 0), (-9, 0, 0, 0)))
    scores, found = store.search(vectors((2, 0, 0, 0)), 3)
    assert found.tolist() == [[3, 7, 5]]
    assert scores.tolist() == [[6, 2, -18]]


def test_no_query_gets_no_row(store: VectorStore) -> None:
    store.add(ids(1), vectors((1, 0, 0, 0)))
    assert store.search(vectors(), 1)[1].shape[0] == 0


def test_k_beyond_the_candidates_is_not_padded(store: VectorStore) -> None:
    store.add(ids(1, 2), random_vectors(2))
    assert store.search(random_vectors(1), 10**9)[1].shape == (1, 2)


def test_equal_scores_come_by_id_even_across_the_last_place(store: VectorStore) -> None:
    order = np.random.default_rng(0).permutation(300).astype(np.int64)
    store.add(order, np.tile(vectors((1, 2, 3, 4)), (300, 1)))
    store.add(ids(900), vectors((9, 9, 9, 9)))
    for k in (1, 2, 7, 150, 301):
        _, found = store.search(vectors((1, 1, 1, 1)), k)
        assert found.tolist() == [[900, *range(k - 1)]]


def test_each_query_breaks_its_own_ties(store: VectorStore) -> None:
    store.add(ids(4, 2, 9), vectors((1, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0)))
    _, found = store.search(vectors((1, 0, 0, 0), (0, 1, 0, 0)), 2)
    assert found.tolist() == [[2, 4], [9, 2]]


def test_adding_a_present_id_replaces_its_vector(store: VectorStore) -> None:
    store.add(ids(1, 2), random_vectors(2))
    store.add(ids(2, 3), vectors((5, 0, 0, 0), (6, 0, 0, 0)))
    assert store.count() == 3
    assert store.get(ids(3, 2)).tolist() == [[6, 0, 0, 0], [5, 0, 0, 0]]


def test_removal_counts_only_what_was_there(store: VectorStore) -> None:
    store.add(ids(1, 2, 3), random_vectors(3))
    assert store.remove(ids(2, 99)) == 1
    assert store.remove(ids(2)) == 0
    assert store.remove(ids()) == 0
    assert store.count() == 2
    assert set(store.search(random_vectors(1), 9)[1].ravel().tolist()) == {1, 3}


def test_a_removed_id_can_come_back(store: VectorStore) -> None:
    store.add(ids(1), vectors((1, 0, 0, 0)))
    store.remove(ids(1))
    store.add(ids(1), vectors((0, 1, 0, 0)))
    assert store.get(ids(1)).tolist() == [[0, 1, 0, 0]]


def test_only_allowed_ids_are_found_and_unknown_ones_are_no_candidates(store: VectorStore) -> None:
    store.add(np.arange(100, dtype=np.int64), random_vectors(100))
    _, found = store.search(random_vectors(2, seed=1), 50, allowed=ids(3, 8, 8, 1000, 41))
    assert found.shape == (2, 3)
    assert [sorted(row) for row in found.tolist()] == [[3, 8, 41]] * 2


def test_nothing_allowed_finds_nothing(store: VectorStore) -> None:
    store.add(ids(1), random_vectors(1))
    assert store.search(random_vectors(1), 5, allowed=ids())[1].shape == (1, 0)
    assert store.search(random_vectors(1), 5, allowed=ids(77))[1].shape == (1, 0)


def test_getting_an_absent_id_names_it(store: VectorStore) -> None:
    store.add(ids(1), random_vectors(1))
    with pytest.raises(KeyError, match="no id 42"):
        store.get(ids(1, 42))
    assert store.get(ids()).shape == (0, DIM)


@pytest.mark.parametrize(
    ("bad_ids", "bad_vectors"),
    [
        (ids(1, 2), random_vectors(1)),
        (ids(1, 1), random_vectors(2)),
        (ids(-1), random_vectors(1)),
        (ids(1).astype(np.int32), random_vectors(1)),
        (ids(1), random_vectors(1).astype(np.float64)),
        (ids(1), random_vectors(1)[:, :3]),
        (ids(1), random_vectors(1)[0]),
        (ids(1), vectors((np.nan, 0, 0, 0))),
        (ids(1), vectors((np.inf, 0, 0, 0))),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    store: VectorStore, bad_ids: Ids, bad_vectors: Vectors
) -> None:
    store.add(ids(1), vectors((1, 0, 0, 0)))
    with pytest.raises(ValueError, match="got"):
        store.add(bad_ids, bad_vectors)
    assert store.get(ids(1)).tolist() == [[1, 0, 0, 0]]
    assert store.count() == 1


def test_bad_searches_are_refused(store: VectorStore) -> None:
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        store.search(random_vectors(1), 0)
    with pytest.raises(ValueError, match="finite"):
        store.search(vectors((np.nan, 0, 0, 0)), 1)
    with pytest.raises(ValueError, match="int64"):
        store.search(random_vectors(1), 1, allowed=ids(1).astype(np.int32))


def test_filling_adds_every_part(store: VectorStore) -> None:
    store.add(ids(1), random_vectors(1, seed=9))
    parts = [(ids(4, 2), random_vectors(2)), (ids(9, 1, 3), random_vectors(3, seed=1))]
    with store.filling():
        for part_ids, part in parts:
            store.add(part_ids, part)
    assert store.count() == 5
    for part_ids, part in parts:
        assert np.array_equal(store.get(part_ids), part)


def test_a_generation_may_be_any_large_number(
    make: Make, store: VectorStore, tmp_path: Path
) -> None:
    store.save(tmp_path / "a", generation=2**120 + 1)
    assert make().load(tmp_path / "a") == 2**120 + 1


def test_what_is_saved_is_loaded_with_its_generation(
    make: Make, store: VectorStore, tmp_path: Path
) -> None:
    store.add(ids(5, 1, 8), random_vectors(3))
    store.remove(ids(1))
    store.save(tmp_path / "a", generation=7)
    other = make()
    other.add(ids(99), random_vectors(1))
    assert other.load(tmp_path / "a") == 7
    assert other.count() == 2
    assert np.array_equal(other.get(ids(8, 5)), store.get(ids(8, 5)))
    other.add(ids(1), random_vectors(1))
    assert other.count() == 3


def test_an_empty_store_is_saved_and_loaded(make: Make, store: VectorStore, tmp_path: Path) -> None:
    store.save(tmp_path / "a", generation=0)
    assert make().load(tmp_path / "a") == 0


def test_saving_replaces_the_file_and_leaves_no_other(store: VectorStore, tmp_path: Path) -> None:
    store.save(tmp_path / "a", generation=1)
    store.add(ids(1), random_vectors(1))
    store.save(tmp_path / "a", generation=2)
    assert store.load(tmp_path / "a") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("changes", [{"model_id": "other"}, {"dim": 5}, {"name": "video"}])
def test_a_file_of_another_model_dimension_or_name_is_refused(
    make: Make, store: VectorStore, tmp_path: Path, changes: dict[str, object]
) -> None:
    store.add(ids(1), random_vectors(1))
    store.save(tmp_path / "a", generation=1)
    with pytest.raises(ValueError, match="expected"):
        make(**changes).load(tmp_path / "a")


def test_a_missing_file_is_refused(store: VectorStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a"):
        store.load(tmp_path / "a")


def test_any_damage_to_a_file_is_noticed_and_leaves_the_store_as_it_was(
    store: VectorStore, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    store.add(ids(1, 2), random_vectors(2))
    store.save(path, generation=1)
    whole = path.read_bytes()
    flipped = [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 7)
    ]
    for content in [b"", whole[:-1], whole[: len(whole) // 2], whole + b"x", *flipped]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="a"):
            store.load(path)
    assert store.count() == 2


def test_readers_never_see_half_of_a_write(store: VectorStore) -> None:
    """All vectors are replaced again and again: a reader must see all old ones or all new ones."""
    count = 1000
    everyone = np.arange(count, dtype=np.int64)
    low = np.ones((count, DIM), np.float32)
    store.add(everyone, low)
    torn: list[tuple[int, list[float]]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            scores, _ = store.search(vectors((1, 0, 0, 0)), count)
            if scores.shape != (1, count) or len(np.unique(scores)) != 1:
                torn.append((scores.shape[1], np.unique(scores).tolist()))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(60):
        store.add(everyone, low * (turn % 2 + 1))
    done.set()
    for reader in readers:
        reader.join()
    assert torn == []


def test_a_store_may_be_closed_twice_and_what_it_saved_stays(
    make: Make, store: VectorStore, tmp_path: Path
) -> None:
    store.add(ids(1), vectors((1, 2, 3, 4)))
    store.save(tmp_path / "a", generation=5)
    store.close()
    store.close()
    other = make()
    assert other.load(tmp_path / "a") == 5
    assert other.get(ids(1)).tolist() == [[1, 2, 3, 4]]


def test_a_store_describes_how_it_answers(store: VectorStore) -> None:
    store.add(np.arange(5, dtype=np.int64), random_vectors(5))
    store.remove(ids(0))
    status = store.describe()
    assert (status.vectors, status.training) == (4, False)
    assert status.kind
    assert status.recall == 1
