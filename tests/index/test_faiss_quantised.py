"""The store that keeps a byte for each number, and the library that makes good for it."""

from pathlib import Path

import numpy as np
import pytest

from index.exact_store import ExactStore
from index.faiss_store import FaissStore
from index.library import Library
from index.registry import STORES, Entry
from index.types import ModalityWeights, SearchModality, Segment
from index.vector_store import Ids, Vectors
from index.verification import verify_library
from tests.index.builders import DIM as LIBRARY_DIM
from tests.index.builders import MODEL, new_clip, open_library, unit
from tests.index.test_faiss_training import DIM, clustered, numbers, recall_at_10, store_of
from tests.index.trained_store import TrainedStore

BIG = 4000
OF_A_BYTE = 1 / 4
CLIPS = 60


class TrainedQuantisedStore(TrainedStore):
    """Trained on a handful of vectors, and quantised."""

    def __init__(self, *, dim: int, model_id: str, name: str, exact: bool) -> None:
        super().__init__(dim=dim, model_id=model_id, name=name, exact=exact)
        self._quantised = True


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch) -> str:
    entry = Entry(f"{__name__}:TrainedQuantisedStore", trained=True)
    monkeypatch.setitem(STORES, "sq8-trained", entry)
    return "sq8-trained"


def exact_of(ids: Ids, vectors: Vectors) -> ExactStore:
    store = ExactStore(dim=DIM, model_id="m", name="audio")
    store.add(ids, vectors)
    return store


def test_it_finds_what_is_nearest_among_what_it_holds() -> None:
    store = store_of(BIG, quantised=True, recall=1.0)

    oracle = exact_of(numbers(0, BIG), store.get(numbers(0, BIG)))

    assert (store.describe().kind, store.rounds) == ("ivf-sq8", True)
    queries = clustered(50, seed=1)
    assert recall_at_10(store, oracle, queries) == 1.0
    scores, ids = store.search(queries, 10)
    own = np.einsum("qd,qkd->qk", queries, store.get(ids.ravel()).reshape(50, 10, DIM))
    np.testing.assert_allclose(scores, own, atol=1e-5)
    few = numbers(0, 20)
    assert set(store.search(queries, 20, allowed=few)[1][0].tolist()) == set(range(20))


def test_numbers_are_kept_to_a_step_of_256() -> None:
    store = store_of(BIG, quantised=True)
    whole = clustered(BIG)

    held = store.get(numbers(0, BIG))

    assert held.tobytes() == store.rounded(whole).tobytes()
    step = 2 * 1.25 * np.abs(whole).max() / 255
    assert 0 < np.abs(held - whole).max() <= step / 2 + 1e-6


def test_a_training_anew_rounds_nothing_twice() -> None:
    store = store_of(BIG, quantised=True)
    before = store.get(numbers(0, BIG))

    store.add(numbers(BIG, 2 * BIG), clustered(BIG, seed=2))
    store.wait_for_training()

    assert store.describe().vectors == 2 * BIG
    np.testing.assert_array_equal(store.get(numbers(0, BIG)), before)


def test_what_was_rounded_is_never_called_exact_however_few_are_left() -> None:
    store = store_of(BIG, quantised=True)
    kept = numbers(0, 100)
    before = store.get(kept)

    store.remove(numbers(100, BIG))
    store.wait_for_training()

    assert (store.describe().kind, store.rounds) == ("ivf-sq8", True)
    np.testing.assert_array_equal(store.get(kept), before)
    np.testing.assert_array_equal(store.rounded(clustered(BIG)[:100]), before)

    assert store.remove(kept) == 100
    store.wait_for_training()
    assert store.search(clustered(1), 5)[1].shape == (1, 0)
    store.add(numbers(0, 10), clustered(10))
    assert store.search(clustered(1), 5)[1].shape == (1, 5)
    store.close()


def test_it_is_trained_while_it_is_filled_so_that_the_whole_vectors_need_not_fit() -> None:
    store = FaissStore(dim=DIM, model_id="m", name="audio", train_at=500, quantised=True)
    whole: list[bool] = []

    with store.filling():
        for start in range(0, BIG, 500):
            store.add(numbers(start, start + 500), clustered(500, seed=start))
            whole.append(not store.rounds)

    assert whole[1:] == [False] * 7
    assert store.count() == BIG
    store.close()


def test_its_file_is_a_quarter_and_is_no_other_stores(tmp_path: Path) -> None:
    quantised, whole = store_of(BIG, quantised=True), store_of(BIG)
    quantised.save(tmp_path / "quantised.vectors", generation=7)
    whole.save(tmp_path / "whole.vectors", generation=7)

    loaded = FaissStore(dim=DIM, model_id="m", name="audio", train_at=500, quantised=True)

    sizes = [(tmp_path / f"{name}.vectors").stat().st_size for name in ("quantised", "whole")]
    ids_and_lists = 8 * BIG + 4 * DIM * quantised._index.training.lists  # type: ignore[union-attr]
    assert sizes[0] < ids_and_lists + OF_A_BYTE * (sizes[1] - ids_and_lists) + 4096
    assert loaded.load(tmp_path / "quantised.vectors") == 7
    np.testing.assert_array_equal(loaded.get(numbers(0, BIG)), quantised.get(numbers(0, BIG)))
    for store, file in ((loaded, "whole"), (whole, "quantised")):
        with pytest.raises(ValueError, match="another kind"):
            store.load(tmp_path / f"{file}.vectors")


def test_a_number_out_of_its_steps_is_held_as_the_nearest() -> None:
    store = store_of(BIG, quantised=True)
    far = np.full((1, DIM), 9.0, np.float32)

    store.add(numbers(BIG, BIG + 1), far)

    held = store.get(numbers(BIG, BIG + 1))
    np.testing.assert_array_equal(held, store.rounded(far))
    assert 0 < held.max() < 9


def fill(library: Library, upload: Path) -> None:
    for number in range(CLIPS):
        windows = [unit(1000 * number + window, LIBRARY_DIM) for window in range(3)]
        segments = tuple(
            Segment(2.0 * n, 2.0 * n + 2, vector, vector[::-1].copy())
            for n, vector in enumerate(windows)
        )
        clip = new_clip(
            windows[0], windows[0][::-1].copy(), segments=segments, filename=f"{number}"
        )
        library.add_clip(clip, upload)


def found(library: Library) -> tuple[list[tuple[str, float]], list[float]]:
    """Return which windows many searches find, and their scores."""
    modalities: tuple[SearchModality, ...] = ("audio", "video", "both")
    hits = [
        hit
        for seed in range(20)
        for modality in modalities
        for hit in library.search(unit(seed), modality=modality, top_k=7)
    ]
    return [(hit.clip.filename, hit.start_seconds) for hit in hits], [hit.score for hit in hits]


def test_a_library_over_it_answers_as_one_of_whole_vectors(
    kind: str, directory: Path, upload: Path, tmp_path: Path
) -> None:
    weights = ModalityWeights(0.6, 0.4)
    with open_library(tmp_path / "whole", vector_store="exact", weights=weights) as library:
        fill(library, upload)
        expected, expected_scores = found(library)
    with open_library(directory, vector_store=kind, weights=weights) as library:
        fill(library, upload)
        assert library.status().indexes["audio"].kind == "ivf-sq8"
        assert library.status().indexes["labels"].kind == "exact"
        windows, scores = found(library)
        assert windows == expected
        assert scores == pytest.approx(expected_scores, abs=1e-5)
        library.remove_clip(library.list_clips().items[0].clip_id)

    with open_library(directory, vector_store=kind, weights=weights) as library:
        assert library.status().indexes["both"].kind == "ivf-sq8"
        assert library.status().clips == CLIPS - 1
    report = verify_library(directory, vector_store=kind)
    assert (report.findings, report.model_id) == ((), MODEL)
