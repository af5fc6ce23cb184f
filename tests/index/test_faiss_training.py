"""The FAISS store beyond the size at which it trains an index."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from index.exact_store import ExactStore
from index.faiss_ivf import IvfIndex, Training
from index.faiss_store import FaissStore
from index.vector_store import Ids, Vectors
from tests.index.builders import new_class, new_clip, open_library, unit
from tests.index.stores import TRAINED

DIM = 16
NAMES = {"dim": DIM, "model_id": "m", "name": "audio"}


def ids(*values: int) -> Ids:
    return np.array(values, np.int64)


def numbers(first: int, last: int) -> Ids:
    return np.arange(first, last, dtype=np.int64)


def clustered(count: int, *, seed: int = 0, clusters: int = 20) -> Vectors:
    """Return unit vectors (count, DIM) around centres that are the same for every seed."""
    centres = np.random.default_rng(99).standard_normal((clusters, DIM))
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(0, clusters, count)]
    vectors = vectors + 0.5 * random.standard_normal((count, DIM))
    unit_vectors: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(
        np.float32
    )
    return unit_vectors


def store_of(count: int, **options: object) -> FaissStore:
    """Return a store that holds vectors under 0 .. count - 1, once it is trained on them."""
    store = FaissStore(**{**NAMES, "train_at": 500, **options})  # type: ignore[arg-type]
    store.add(numbers(0, count), clustered(count))
    store.wait_for_training()
    return store


def exact_of(count: int) -> ExactStore:
    store = ExactStore(**NAMES)  # type: ignore[arg-type]
    store.add(numbers(0, count), clustered(count))
    return store


def recall_at_10(store: FaissStore, oracle: ExactStore, queries: Vectors) -> float:
    found, wanted = store.search(queries, 10)[1], oracle.search(queries, 10)[1]
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)]))


@contextmanager
def training_held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Keep new indexes, whole but not yet in use, back until the event or the end."""
    reached, released = threading.Event(), threading.Event()
    build = IvfIndex.build

    def held_up(*arguments: object, **options: Callable[[], None]) -> IvfIndex:
        index = build(*arguments, **options)  # type: ignore[arg-type]
        reached.set()
        while not released.wait(0.005):
            options["check"]()
        return index

    monkeypatch.setattr(IvfIndex, "build", held_up)
    try:
        yield reached
    finally:
        released.set()


def test_below_the_size_a_store_is_exact() -> None:
    status = store_of(499).describe()
    assert (status.kind, status.vectors, status.recall, status.training) == ("exact", 499, 1, False)


def test_from_the_size_on_an_index_is_trained_and_its_recall_is_measured() -> None:
    store = store_of(4000)
    status = store.describe()
    assert (status.kind, status.vectors, status.training) == ("ivf", 4000, False)
    assert 0.99 <= status.recall <= 1
    assert recall_at_10(store, exact_of(4000), clustered(200, seed=1)) >= 0.97


def test_the_fewest_lists_are_probed_that_give_the_recall_asked_for() -> None:
    eager, lazy = (store_of(4000, recall=recall) for recall in (0.99, 0.5))
    queries, oracle = clustered(200, seed=1), exact_of(4000)
    assert 0.5 <= lazy.describe().recall < eager.describe().recall
    assert recall_at_10(lazy, oracle, queries) < recall_at_10(eager, oracle, queries)


def test_more_lists_are_probed_for_more_results() -> None:
    training = Training(count=10**6, lists=2000, probes={10: 2, 40: 3}, recall=0.99)
    assert [training.lists_for(k) for k in (1, 10, 11, 40, 41)] == [2, 2, 3, 3, 2000]


def test_a_store_made_exact_is_never_trained() -> None:
    assert store_of(4000, exact=True).describe().kind == "exact"


def test_what_is_found_has_its_exact_score_best_first() -> None:
    store, oracle, queries = store_of(4000, recall=0.5), exact_of(4000), clustered(20, seed=1)
    scores, found = store.search(queries, 10)
    for query, row_scores, row_found in zip(queries, scores, found, strict=True):
        assert row_scores.tolist() == sorted(row_scores.tolist(), reverse=True)
        np.testing.assert_allclose(row_scores, oracle.get(row_found) @ query, atol=1e-6)


def test_lists_too_short_for_k_are_made_up_for_by_others() -> None:
    """A recall of nearly 0 is had from one list, which holds some 30 of 1000 vectors."""
    store = store_of(1000, recall=0.001)
    assert store.search(clustered(5, seed=1), 150)[1].shape == (5, 150)
    assert (store.search(clustered(5, seed=1), 150)[1] >= 0).all()


@pytest.mark.parametrize("stride", [1, 10**9])
@pytest.mark.parametrize("allowed", [5, 300])
def test_a_search_among_allowed_ids_is_exact(allowed: int, stride: int) -> None:
    """Few or many, in close order or scattered: each is another way through the store."""
    count = 1000
    store = FaissStore(**NAMES, train_at=500, recall=0.001)  # type: ignore[arg-type]
    oracle = ExactStore(**NAMES)  # type: ignore[arg-type]
    for each in (store, oracle):
        each.add(numbers(0, count) * stride, clustered(count))
    store.wait_for_training()
    assert store.describe().kind == "ivf"
    chosen = np.random.default_rng(0).choice(count, allowed, replace=False) * stride
    queries = clustered(20, seed=1)
    for k in (3, allowed, 10 * allowed):
        found, wanted = (each.search(queries, k, allowed=chosen) for each in (store, oracle))
        assert np.array_equal(found[1], wanted[1])
        np.testing.assert_allclose(found[0], wanted[0], atol=1e-6)


@pytest.mark.parametrize("changes", [3, 150])
def test_what_changes_during_a_training_is_in_the_new_index(
    monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    """Some are few enough for the last moment, some are caught up with before."""
    store = FaissStore(**NAMES, train_at=500, recall=1.0)  # type: ignore[arg-type]
    oracle = ExactStore(**NAMES)  # type: ignore[arg-type]
    with training_held_up(monkeypatch) as reached:
        for each in (store, oracle):
            each.add(numbers(0, 600), clustered(600))
        assert reached.wait(10)
        assert store.describe().training
        for each in (store, oracle):
            each.remove(numbers(0, changes))
            each.add(numbers(200, 200 + changes), clustered(changes, seed=2))
            each.add(numbers(700, 700 + changes), clustered(changes, seed=3))
            each.remove(ids(200, 701))
            each.add(ids(1), clustered(1, seed=4))
        assert store.describe().kind == "exact"
        queries = clustered(20, seed=1)
        assert np.array_equal(store.search(queries, 50)[1], oracle.search(queries, 50)[1])
    store.wait_for_training()
    assert store.describe().kind == "ivf"
    assert store.count() == oracle.count()
    assert np.array_equal(store.search(queries, 1000)[1], oracle.search(queries, 1000)[1])


def test_an_index_is_trained_anew_once_the_store_has_doubled() -> None:
    store = store_of(600)
    lists = len(next(iter(next(store._index.sections()))))
    store.add(numbers(600, 1199), clustered(599, seed=2))
    store.wait_for_training()
    assert len(next(iter(next(store._index.sections())))) == lists
    store.add(numbers(1199, 1200), clustered(1, seed=3))
    store.wait_for_training()
    assert len(next(iter(next(store._index.sections())))) > lists


def test_a_store_that_is_filled_is_trained_once_and_on_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build, trained = IvfIndex.build, []

    def counted(ids: Ids, *arguments: object, **options: object) -> IvfIndex:
        trained.append(len(ids))
        return build(ids, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(IvfIndex, "build", counted)
    store = FaissStore(**NAMES, train_at=500)  # type: ignore[arg-type]
    vectors = clustered(2500)
    with store.filling():
        for start in range(0, 2500, 250):
            store.add(numbers(start, start + 250), vectors[start : start + 250])
    store.wait_for_training()
    assert trained == [2500]
    assert np.array_equal(store.get(numbers(0, 2500)), vectors)


def test_a_store_whose_filling_breaks_off_is_trained_by_the_next_addition() -> None:
    store = FaissStore(**NAMES, train_at=500)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="unplugged"), store.filling():  # noqa: PT012
        store.add(numbers(0, 600), clustered(600))
        raise OSError("unplugged")
    store.add(numbers(600, 601), clustered(1))
    store.wait_for_training()
    assert store.describe().kind != "exact"


def test_a_store_that_has_shrunk_is_exact_again() -> None:
    store = store_of(600)
    store.remove(numbers(150, 600))
    store.wait_for_training()
    assert (store.describe().kind, store.count()) == ("exact", 150)
    assert np.array_equal(store.get(numbers(0, 150)), clustered(600)[:150])


def test_a_training_that_fails_is_logged_and_the_exact_index_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> IvfIndex:
        raise MemoryError("no room")

    with monkeypatch.context() as failing, caplog.at_level(logging.ERROR):
        failing.setattr(IvfIndex, "build", fail)
        store = store_of(600)
        assert "The index of the 'audio' vectors could not be trained" in caplog.text
        caplog.clear()
        store.add(numbers(600, 1199), clustered(599))
        store.wait_for_training()
        assert not caplog.text, "tried again too early"
    status = store.describe()
    assert (status.kind, status.vectors, status.training) == ("exact", 1199, False)
    store.add(numbers(1199, 1200), clustered(1))
    store.wait_for_training()
    assert store.describe().kind == "ivf"


def test_without_a_thread_the_exact_index_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    status = store_of(600).describe()
    assert (status.kind, status.vectors, status.training) == ("exact", 600, False)
    assert "No thread to train" in caplog.text


def test_closing_stops_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FaissStore(**NAMES, train_at=500)  # type: ignore[arg-type]
    with training_held_up(monkeypatch) as reached:
        store.add(numbers(0, 600), clustered(600))
        assert reached.wait(10)
        store.close()
    status = store.describe()
    assert (status.kind, status.training) == ("exact", False)
    assert store.search(clustered(1), 5)[1].shape == (1, 5)


def test_a_program_that_ends_during_a_training_ends_well() -> None:
    code = """
import numpy as np
from index.faiss_store import FaissStore
store = FaissStore(dim=128, model_id="m", name="audio", train_at=40000)
store.add(np.arange(40000), np.random.default_rng(0).standard_normal((40000, 128), np.float32))
print(store.describe().training)
"""
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")
    assert time.monotonic() - started < 30


def test_a_trained_index_is_saved_and_loaded_as_such(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, queries = store_of(4000), clustered(50, seed=1)
    store.add(ids(10**12), clustered(1, seed=5))
    store.remove(numbers(0, 100))
    store.save(tmp_path / "a", generation=7)

    def refuse(*_: object, **__: object) -> IvfIndex:
        raise AssertionError("trained again")

    monkeypatch.setattr(IvfIndex, "build", refuse)
    loaded = FaissStore(**NAMES, train_at=500)  # type: ignore[arg-type]
    assert loaded.load(tmp_path / "a") == 7
    assert loaded.describe() == store.describe()
    for mine, theirs in zip(loaded.search(queries, 30), store.search(queries, 30), strict=True):
        assert np.array_equal(mine, theirs)
    loaded.add(ids(5, 200), clustered(2, seed=6))
    assert loaded.remove(ids(10**12, 101, 0)) == 2
    assert loaded.count() == 4000 - 100 + 1 - 1


def test_a_large_file_without_a_trained_index_is_trained_on_once_loaded(tmp_path: Path) -> None:
    exact_of(600).save(tmp_path / "a", generation=1)
    store = FaissStore(**NAMES, train_at=500)  # type: ignore[arg-type]
    store.load(tmp_path / "a")
    store.wait_for_training()
    assert (store.describe().kind, store.count()) == ("ivf", 600)


@pytest.mark.parametrize("lacking", [True, False])
def test_a_training_that_another_version_described_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lacking: bool
) -> None:
    store = store_of(600)
    training = store._index.training
    assert training is not None
    described = training.as_json() | {"metric": "dot"}
    if lacking:
        described = {"count": 600, "lists": 10}
    monkeypatch.setattr(Training, "as_json", lambda _: described)
    store.save(tmp_path / "a", generation=1)
    with pytest.raises(ValueError, match="another version"):
        store.load(tmp_path / "a")


def test_a_file_of_a_trained_index_is_refused_where_it_would_not_be_exact(tmp_path: Path) -> None:
    store_of(600).save(tmp_path / "a", generation=1)
    for store in (ExactStore(**NAMES), FaissStore(**NAMES, exact=True)):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="trained"):
            store.load(tmp_path / "a")


def test_readers_see_whole_states_while_indexes_are_trained_and_swapped() -> None:
    """All of 600 vectors have one length, which changes; 0 to 400 more come and go beside them."""
    store = FaissStore(**NAMES, train_at=300, recall=1.0)  # type: ignore[arg-type]
    vectors = clustered(600)
    store.add(numbers(0, 600), vectors)
    beside = np.zeros((1800, DIM), np.float32)
    kinds: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            scores, found = store.search(vectors[:3], 2400)
            kinds.add(store.describe().kind)
            for number in range(3):
                assert len(set(found[number].tolist())) == found.shape[1]
                own = scores[number][found[number] == number]
                expected = own * (vectors @ vectors[number])
                mine = found[number] < 600
                np.testing.assert_allclose(
                    scores[number][mine], expected[found[number][mine]], rtol=1e-4, atol=1e-5
                )
                assert mine.sum() == 600

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for turn in range(12):
                store.add(numbers(0, 600), vectors * np.float32(turn % 3 + 1))
                store.add(numbers(600, 2400), beside)
                time.sleep(0.05)
                store.remove(numbers(600, 2400))
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert "ivf" in kinds


def test_a_library_trains_its_clips_index_but_not_its_classes(
    directory: Path, upload: Path
) -> None:
    with open_library(directory, vector_store=TRAINED) as library:
        library.seed_classes("v", [new_class(f"class {number}") for number in range(10)])
        for number in range(6):
            library.add_clip(new_clip(unit(number)), upload)
        indexes = library.status().indexes
        assert {name: status.kind for name, status in indexes.items()} == {
            "labels": "exact",
            "both": "ivf",
            "audio": "ivf",
            "video": "exact",
        }
        assert library.search(unit(3), top_k=1)[0].score == pytest.approx(1)
    with open_library(directory, vector_store=TRAINED) as library:
        assert library.status().indexes == indexes
