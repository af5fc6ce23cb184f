"""What a store in Milvus does beyond the contract: parts, owners, a place that others use too."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from index.errors import VectorStoreUnavailable
from index.exact_store import ExactStore
from index.registry import create_store
from index.vector_store import Ids, Vectors
from tests.index.stores import missing_packages

if missing := missing_packages("milvus"):
    pytest.skip(f"the store 'milvus' needs {' and '.join(missing)}", allow_module_level=True)

from pymilvus import MilvusClient

from index import milvus_store
from index.milvus_store import MilvusStore

DIM = 3
Make = Callable[..., MilvusStore]


def ids(*values: int) -> Ids:
    return np.array(values, np.int64)


def grid_vectors(count: int, seed: int = 0) -> Vectors:
    """Small integers: every inner product is exact, and ties are common."""
    return np.random.default_rng(seed).integers(-2, 3, (count, DIM)).astype(np.float32)


@pytest.fixture
def shared(tmp_path: Path) -> str:
    """A Milvus Lite file that several directories use."""
    return str(tmp_path / "shared.db")


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[MilvusStore] = []

    def make_one(directory: Path, source: str | None = None, name: str = "audio") -> MilvusStore:
        made.append(
            MilvusStore(dim=DIM, model_id="m", name=name, source=source, directory=directory)
        )
        return made[-1]

    yield make_one
    for store in made:
        store.close()


@pytest.fixture
def collections(shared: str) -> Callable[[], set[str]]:
    def listed() -> set[str]:
        client = MilvusClient(shared)
        names = set(client.list_collections())
        client.close()
        return names

    return listed


def test_what_is_asked_in_parts_is_answered_as_at_once(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_store, "PART", 4)
    monkeypatch.setattr(milvus_store, "LARGEST_REACH", 8)
    monkeypatch.setattr(milvus_store, "QUERIES_AT_ONCE", 2)
    store, exact = make(tmp_path), ExactStore(dim=DIM, model_id="m", name="audio")
    everyone, queries = np.arange(0, 100, 2, dtype=np.int64), grid_vectors(5, seed=1)
    for either in (store, exact):
        either.add(everyone, grid_vectors(50))
        assert either.remove(ids(*range(10, 40))) == 15
    assert store.count() == 35
    assert np.array_equal(store.get(everyone[:5]), exact.get(everyone[:5]))
    for k in (1, 3, 8, 20, 100):
        for allowed in (None, np.arange(0, 90, dtype=np.int64)):
            scores, found = store.search(queries, k, allowed=allowed)
            expected_scores, expected = exact.search(queries, k, allowed=allowed)
            assert found.tolist() == expected.tolist()
            assert scores.tolist() == expected_scores.tolist()


def test_a_new_store_changes_nothing_until_a_vector_comes(
    make: Make, tmp_path: Path, shared: str, collections: Callable[[], set[str]]
) -> None:
    first = make(tmp_path / "a", shared)
    first.add(ids(1), grid_vectors(1))
    before = collections()
    second = make(tmp_path / "a", shared)
    assert second.remove(ids(1)) == second.count() == 0
    assert collections() == before
    second.add(ids(2), grid_vectors(1))
    assert len(collections()) == 2
    assert (first.count(), second.count()) == (1, 1)
    assert first.search(grid_vectors(1), 5)[1].tolist() == [[1]]


def test_directories_that_share_a_file_keep_out_of_each_others_vectors(
    make: Make, tmp_path: Path, shared: str
) -> None:
    here, there = make(tmp_path / "a", shared), make(tmp_path / "b", shared)
    here.add(ids(1), grid_vectors(1))
    there.add(ids(2, 3), grid_vectors(2))
    here.save(tmp_path / "a" / "audio.vectors", generation=1)
    here.close()
    there.save(tmp_path / "b" / "audio.vectors", generation=1)
    with pytest.raises(ValueError, match="of another library's directory"):
        there.load(tmp_path / "a" / "audio.vectors")
    assert there.count() == 2
    again = make(tmp_path / "a", shared)
    assert again.load(tmp_path / "a" / "audio.vectors") == 1
    assert again.count() == 1


def test_a_copied_directory_is_another_one(make: Make, tmp_path: Path, shared: str) -> None:
    store = make(tmp_path / "a", shared)
    store.add(ids(1), grid_vectors(1))
    store.save(tmp_path / "a" / "audio.vectors", generation=1)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    with pytest.raises(ValueError, match="of another library's directory"):
        make(tmp_path / "copy", shared).load(tmp_path / "copy" / "audio.vectors")
    (tmp_path / "a").rename(tmp_path / "moved")
    moved = make(tmp_path / "moved", shared)
    assert moved.load(tmp_path / "moved" / "audio.vectors") == 1


def test_collections_that_nobody_holds_any_more_are_dropped(
    make: Make, tmp_path: Path, shared: str, collections: Callable[[], set[str]]
) -> None:
    make(tmp_path / "b", shared).add(ids(1), grid_vectors(1))
    for name in ("audio", "both-0.5"):
        crashed = make(tmp_path / "a", shared, name)
        crashed.add(ids(1), grid_vectors(1))
        crashed.close()
    assert len(collections()) == 3
    store = make(tmp_path / "a", shared)
    store.add(ids(1), grid_vectors(1))
    assert len(collections()) == 3  # The new one has taken the place of its own former one.
    store.save(tmp_path / "audio.vectors", generation=1)
    assert len(collections()) == 2
    assert store.count() == 1


def test_a_saved_file_is_refused_once_its_collection_is_another_or_gone(
    make: Make, tmp_path: Path
) -> None:
    path = tmp_path / "audio.vectors"
    store = make(tmp_path)
    store.add(ids(1, 2), grid_vectors(2))
    store.save(path, generation=1)
    store.remove(ids(1))
    with pytest.raises(ValueError, match=r"is of 2 vectors; .* holds 1"):
        make(tmp_path).load(path)
    store.close()
    make(tmp_path).add(ids(1), grid_vectors(1))
    with pytest.raises(ValueError, match=r"a collection that .* does not hold"):
        make(tmp_path).load(path)


def test_a_server_out_of_reach_is_named_without_its_password(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(VectorStoreUnavailable, match="check that Milvus runs") as caught:
        create_store(
            "milvus:http://root:secret@127.0.0.1:1/clips",
            dim=DIM,
            model_id="m",
            name="audio",
            directory=tmp_path,
        )
    assert "http://root:***@127.0.0.1:1/clips" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 2 * milvus_store.CONNECT_SECONDS


def test_a_server_that_goes_away_is_told_to_be_out_of_reach(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_store, "CALL_SECONDS", 0.5)
    monkeypatch.setattr(milvus_store, "CONNECT_SECONDS", 0.5)
    store = make(tmp_path)
    store.add(ids(1), grid_vectors(1))
    milvus_store._stop_local_server(store._uri)
    for call in (
        lambda: store.search(grid_vectors(1), 1),
        lambda: store.add(ids(2), grid_vectors(1)),
        lambda: store.remove(ids(1)),
        store.count,
    ):
        with pytest.raises(VectorStoreUnavailable, match=r"Could not .*milvus\.db"):
            call()


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("ftp://root:secret@host", "http:// or https://; got 'ftp://root:\\*\\*\\*@host'"),
        ("http://", "http:// or https://"),
        ("vectors.sqlite", "ends in .db"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(
    tmp_path: Path, source: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        MilvusStore(dim=DIM, model_id="m", name="audio", source=source, directory=tmp_path)
