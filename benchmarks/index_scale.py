"""How the vector index fares as the library grows: time, memory and recall, beside bare FAISS.

    python benchmarks/index_scale.py --segments 100000 [--json FILE] [--peers]

The vectors are 384-d, of unit length, around the centres of 1,200 classes: five windows of each
clip, which resemble each other (cosine 0.9), as clips of one class do less (cosine 0.6). Half of
the queries are other clips of the classes, half are the centres themselves. Every contender runs in
a process of its own, whose libraries compute on one thread (`ONE_THREAD`), and makes the same
vectors again, so that memory is its own.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import create_engine, insert

from index.database import sqlite_url
from index.faiss_ivf import LISTS_PER_ROOT
from index.faiss_store import FaissStore
from index.library import Library
from index.registry import create_store
from index.tables import ClipRow, ClipTagRow, ClipVectorRow, SegmentRow
from index.types import ModalityRecord, NewClass, NewClip, SearchFilter, Segment
from index.vector_store import VectorStore

DIM = 384
CLASSES = 1200
WINDOWS = 5
CLIP_NOISE = 0.8
WINDOW_NOISE = 0.4
QUERIES = 400
FILTERED_QUERIES = 40
CLIPS_WRITTEN = 40
K = 10
CHUNK = 10_000
TAGS = 100
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LANCE_CPU_THREADS"), "1")
FILLED = "filled"
"""Mark in a library's folder: its catalogue is whole."""
SAVED = "vector_store"
"""Mark in a library's folder: of which kind its saved vectors are, once they are."""
MODEL = "benchmark"
START = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first clip was added; each further one a second later."""

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]
Search = Callable[[Vectors], tuple[NDArray[np.float32], Ids]]
"""Returns scores and ids (1, K) of the nearest to a query (1, DIM), best first."""


def unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def noise(random: np.random.Generator, count: int, length: float) -> Vectors:
    return random.standard_normal((count, DIM), np.float32) * np.float32(length / DIM**0.5)


def centres() -> Vectors:
    return unit(np.random.default_rng(1).standard_normal((CLASSES, DIM), np.float32))


def clips(count: int, seed: int) -> Vectors:
    random = np.random.default_rng(seed)
    return centres()[random.integers(0, CLASSES, count)] + noise(random, count, CLIP_NOISE)


def batches(segments: int) -> Iterator[tuple[Ids, Vectors]]:
    """Yield ids from 1 and vectors, alike in every process."""
    for number, start in enumerate(range(0, segments, CHUNK)):
        count = min(CHUNK, segments - start)
        random = np.random.default_rng((2, number))
        windows = np.repeat(clips(-(-count // WINDOWS), 1000 + number), WINDOWS, axis=0)[:count]
        vectors = unit(windows + noise(random, count, WINDOW_NOISE))
        yield np.arange(start + 1, start + 1 + count, dtype=np.int64), vectors


def queries() -> Vectors:
    return unit(np.concatenate([clips(QUERIES // 2, 3), centres()[: QUERIES // 2]]))


class Truth(NamedTuple):
    """Scores and ids (QUERIES, K) of the nearest windows, best first."""

    scores: NDArray[np.float32]
    ids: Ids

    @classmethod
    def of(cls, segments: int) -> "Truth":
        """Compare every query with every window, part by part, so that they need not fit."""
        asked = queries()
        best = cls(np.full((QUERIES, K), -np.inf, np.float32), np.zeros((QUERIES, K), np.int64))
        for ids, vectors in batches(segments):
            scores, places = faiss.knn(asked, vectors, K, faiss.METRIC_INNER_PRODUCT)
            both = cls(np.hstack([best.scores, scores]), np.hstack([best.ids, ids[places]]))
            order = np.argsort(-both.scores, axis=1, kind="stable")[:, :K]
            best = cls(*(np.take_along_axis(found, order, axis=1) for found in both))
        return best

    @classmethod
    def read(cls, path: Path) -> "Truth":
        with np.load(path) as saved:
            return cls(saved["scores"], saved["ids"])


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    return {
        "p50_ms": float(np.median(milliseconds)),
        "p95_ms": float(np.quantile(milliseconds, 0.95)),
    }


def timed(search: Callable[[Vectors], object], asked: int = QUERIES) -> dict[str, float]:
    """Return percentiles of one query's time."""
    taken = []
    for query in queries()[:asked]:
        started = time.perf_counter()
        search(query[None])
        taken.append(1000 * (time.perf_counter() - started))
    return percentiles(taken)


def measured(search: Search, truth: Truth) -> dict[str, float]:
    """Return percentiles of a search's time, and how good the answers are.

    `recall_at_10` counts by score, since which of two equal windows comes first is nobody's fault;
    `identical` is the share of queries whose windows are the same in the same order.
    """
    scores, ids = (
        np.concatenate(parts) for parts in zip(*(search(q[None]) for q in queries()), strict=True)
    )
    recall = (scores[:, :K] >= truth.scores[:, -1:] - 1e-5).sum(axis=1).clip(max=K).mean() / K
    identical = (ids[:, :K] == truth.ids).all(axis=1).mean()
    return {**timed(search), "recall_at_10": float(recall), "identical": float(identical)}


class Stopwatch:
    def __init__(self) -> None:
        self._memory = resident()
        self._started = time.perf_counter()

    def result(self, segments: int, name: str = "build") -> dict[str, float]:
        return {
            f"{name}_seconds": time.perf_counter() - self._started,
            "memory_ratio": (resident() - self._memory) / (4 * DIM * segments),
        }


# Contenders: each returns its figures.


def faiss_flat(segments: int, truth_file: Path) -> dict[str, Any]:
    watch = Stopwatch()
    index = faiss.IndexFlatIP(DIM)
    for _, vectors in batches(segments):
        index.add(vectors)
    built = watch.result(segments)
    return {**built, **measured(_by_place(index), Truth.read(truth_file))}


def _by_place(index: Any) -> Search:
    """Search an index without ids, to which `batches` were added: ids are places, from 1."""

    def search(query: Vectors) -> tuple[NDArray[np.float32], Ids]:
        scores, places = index.search(query, K)
        return scores, places + 1

    return search


def faiss_ivf(segments: int, truth_file: Path) -> dict[str, Any]:
    """FAISS as one uses it: its own training, the fewest lists with a recall of 0.99."""
    truth = Truth.read(truth_file)
    watch = Stopwatch()
    vectors = np.concatenate([part for _, part in batches(segments)])
    quantizer = faiss.IndexFlatIP(DIM)
    lists = int(LISTS_PER_ROOT * segments**0.5)
    index = faiss.IndexIVFFlat(quantizer, DIM, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = 64
    index.train(vectors)
    index.add(vectors)
    del vectors
    built = watch.result(segments)
    figures: dict[str, Any] = {}
    for probed in (1, 2, 4, 8, 16, 32, 64, 128):
        index.nprobe = probed
        figures = measured(_by_place(index), truth)
        if figures["recall_at_10"] >= 0.99:
            break
    return {**built, **figures, "lists": lists, "probed": index.nprobe}


def faiss_hnsw(segments: int, truth_file: Path) -> dict[str, Any]:
    truth = Truth.read(truth_file)
    watch = Stopwatch()
    index = faiss.IndexHNSWFlat(DIM, 32, faiss.METRIC_INNER_PRODUCT)
    for _, vectors in batches(segments):
        index.add(vectors)
    built = watch.result(segments)
    figures: dict[str, Any] = {}
    for effort in (16, 32, 64, 128, 256, 512):
        index.hnsw.efSearch = effort
        figures = measured(_by_place(index), truth)
        if figures["recall_at_10"] >= 0.99:
            break
    return {**built, **figures, "ef_search": effort}


def faiss_store(segments: int, truth_file: Path) -> dict[str, Any]:
    truth = Truth.read(truth_file)
    watch = Stopwatch()
    store = FaissStore(dim=DIM, model_id=MODEL, name="audio")
    for ids, vectors in batches(segments):
        store.add(ids, vectors)
    added = watch.result(segments, "add")["add_seconds"]
    store.wait_for_training()
    built = watch.result(segments)
    status = store.describe()

    def search(query: Vectors) -> tuple[NDArray[np.float32], Ids]:
        return store.search(query, K)

    figures = measured(search, truth)
    done = threading.Event()
    writes: list[float] = []

    def write() -> None:
        ids, vectors = next(batches(WINDOWS))
        while not done.is_set():
            begun = time.perf_counter()
            store.add(ids + segments, vectors)
            store.remove(ids + segments)
            writes.append(1000 * (time.perf_counter() - begun))

    writer = threading.Thread(target=write)
    writer.start()
    started = time.perf_counter()
    beside = timed(search)
    rate = len(writes) / (time.perf_counter() - started)
    done.set()
    writer.join()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audio.vectors"
        started = time.perf_counter()
        store.save(path, generation=1)
        saved = time.perf_counter() - started
        watch = Stopwatch()
        loaded = FaissStore(dim=DIM, model_id=MODEL, name="audio")
        loaded.load(path)
        load_seconds = watch.result(segments, "load")["load_seconds"]
    return {
        **built,
        **figures,
        "add_seconds": added,
        "kind": status.kind,
        "recall_as_described": status.recall,
        "p50_beside_writer_ms": beside["p50_ms"],
        "p95_beside_writer_ms": beside["p95_ms"],
        "writes_per_second": rate,
        **{f"write_{key}": value for key, value in percentiles(writes).items()},
        "save_seconds": saved,
        "load_seconds": load_seconds,
    }


def library(
    segments: int, truth_file: Path, *, vector_store: str = "faiss", kept: Path | None = None
) -> dict[str, Any]:
    """Clips that have sound only: the stores `audio` and `both` hold all their windows.

    Where `kept` is the folder of an earlier run, its library is opened as it was left.
    """
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = kept or Path(folder)
        # In a process of its own, or what making it has freed would count in the memory's favour.
        if not (directory / FILLED).exists():
            figures |= run_alone(partial(_make, directory, segments, vector_store))
        elif not _is_of(directory, vector_store):
            figures |= run_alone(partial(_remade, directory, segments, vector_store))
        if "failed" in figures:
            return figures
        memory, started = resident(), time.perf_counter()
        with Library.open(directory, model_id=MODEL, dim=DIM, vector_store=vector_store) as opened:
            figures["start_seconds"] = time.perf_counter() - started
            figures["memory_ratio"] = (resident() - memory) / (4 * DIM * 2 * segments)
            opened.wait_for_sweep()
            figures |= _clips_found(opened, Truth.read(truth_file))
            for name, filter in _filters(segments).items():
                found = partial(opened.search, modality="audio", top_k=K, filter=filter)
                started = time.perf_counter()
                found(queries()[0])
                figures[f"{name}_first_ms"] = 1000 * (time.perf_counter() - started)
                taken = timed(lambda query, found=found: found(query[0]), FILTERED_QUERIES)
                figures |= {f"{name}_{key}": value for key, value in taken.items()}
            figures |= _clips_written(opened)
    return figures


def _is_of(directory: Path, vector_store: str) -> bool:
    """Whether the vectors that an earlier run left are this store's; a mark in the folder tells."""
    mark = directory / SAVED
    return mark.exists() and mark.read_text() == vector_store


def _make(directory: Path, segments: int, vector_store: str) -> dict[str, float]:
    shutil.rmtree(directory, ignore_errors=True)  # what a run that was killed has begun
    directory.mkdir(parents=True, exist_ok=True)
    with Library.open(directory, model_id=MODEL, dim=DIM) as empty:
        empty.seed_classes(MODEL, _classes())
    started = time.perf_counter()
    _insert(directory, segments)
    inserted = time.perf_counter() - started
    (directory / FILLED).touch()
    return {"insert_seconds": inserted, **_remade(directory, segments, vector_store)}


def _remade(directory: Path, segments: int, vector_store: str) -> dict[str, float]:
    (directory / SAVED).unlink(missing_ok=True)
    shutil.rmtree(directory / "vectors", ignore_errors=True)
    watch = Stopwatch()
    opened = Library.open(directory, model_id=MODEL, dim=DIM, vector_store=vector_store)
    rebuilt = watch.result(segments, "rebuild")["rebuild_seconds"]
    _wait(opened)
    trained = watch.result(2 * segments)["build_seconds"]
    closing = time.perf_counter()
    opened.close()
    (directory / SAVED).write_text(vector_store)
    return {
        "rebuild_seconds": rebuilt,
        "rebuilt_and_trained_seconds": trained,
        "save_seconds": time.perf_counter() - closing,
    }


def _clips_found(opened: Library, truth: Truth) -> dict[str, float]:
    """Return a search's time for K clips, and how often it finds the best of all windows."""
    find = partial(opened.search, modality="audio", top_k=K)
    best = np.array([find(query)[0].score for query in queries()])
    recall = float((best >= truth.scores[:, 0] - 1e-5).mean())
    return {**timed(lambda query: find(query[0])), "recall_at_1": recall}


def _clips_written(opened: Library) -> dict[str, float]:
    """Return the time that a clip with its file takes to be stored, and to be deleted again."""
    _, vectors = next(batches(WINDOWS * CLIPS_WRITTEN))
    stored, deleted = [], []
    with tempfile.TemporaryDirectory() as folder:
        media = Path(folder) / "clip.wav"
        for number in range(CLIPS_WRITTEN):
            media.write_bytes(b"clip %d" % number)
            new = _new_clip(vectors[number * WINDOWS : (number + 1) * WINDOWS])
            begun = time.perf_counter()
            clip = opened.add_clip(new, media)
            stored.append(1000 * (time.perf_counter() - begun))
            begun = time.perf_counter()
            opened.remove_clip(clip.clip_id)
            deleted.append(1000 * (time.perf_counter() - begun))
    return {
        **{f"store_{key}": value for key, value in percentiles(stored).items()},
        **{f"delete_{key}": value for key, value in percentiles(deleted).items()},
    }


def _new_clip(windows: Vectors) -> NewClip:
    return NewClip(
        filename="clip.wav",
        content_type="audio/wav",
        duration_seconds=float(WINDOWS + 1),
        segments=tuple(
            Segment(float(place), place + 2.0, vector, None) for place, vector in enumerate(windows)
        ),
        audio=windows[0],
        video=None,
        modalities={"audio": ModalityRecord(True), "video": ModalityRecord(False, "no video")},
    )


def _filters(segments: int) -> dict[str, SearchFilter]:
    """A hundredth of the clips, the newest half of them, and those of one of the classes."""
    half = START + timedelta(seconds=segments / WINDOWS / 2)
    return {
        "tag": SearchFilter(tags=("tag 7",)),
        "time": SearchFilter(created_after=half),
        "class": SearchFilter(class_name="class 3"),
    }


def _insert(directory: Path, segments: int) -> None:
    """Write rows as the catalogue would, thousands at a time, without media files."""
    engine = create_engine(sqlite_url(directory / "catalogue.sqlite"))
    for ids, vectors in batches(segments):
        clip_rows = (ids - 1) // WINDOWS + 1
        distinct, first = np.unique(clip_rows, return_index=True)
        clip_vectors = [
            {"clip_row": int(row), "model_id": MODEL, "audio": vector, "video": None}
            for row, vector in zip(distinct, vectors[first], strict=True)
        ]
        with engine.begin() as connection:
            connection.execute(insert(ClipRow), [_clip(int(row)) for row in distinct])
            connection.execute(insert(ClipVectorRow), clip_vectors)
            connection.execute(insert(ClipTagRow), [_tag(int(row)) for row in distinct])
            connection.execute(
                insert(SegmentRow),
                [
                    {
                        "id": int(row),
                        "clip_row": int(clip_row),
                        "model_id": MODEL,
                        "start_seconds": float(row % WINDOWS),
                        "end_seconds": float(row % WINDOWS + 2),
                        "audio": vector,
                        "video": None,
                    }
                    for row, clip_row, vector in zip(ids, clip_rows, vectors, strict=True)
                ],
            )
    engine.dispose()


def _classes() -> list[NewClass]:
    return [NewClass(f"class {number}", vector) for number, vector in enumerate(centres())]


def _tag(row: int) -> dict[str, Any]:
    """One clip in TAGS has each tag."""
    return {"clip_row": row, "tag": f"tag {row % TAGS}", "position": 0}


def _clip(row: int) -> dict[str, Any]:
    return {
        "id": row,
        "clip_id": f"{row:032x}",
        "filename": f"{row}.wav",
        "content_type": "audio/wav",
        "content_hash": f"{row:064x}",
        "thumbnail_hash": None,
        "size_bytes": 1,
        "duration_seconds": float(WINDOWS + 1),
        "modalities": {"audio": {"used": True}, "video": {"used": False, "reason": "no video"}},
        "warnings": [],
        "created_at": START + timedelta(seconds=row),
        "model_id": MODEL,
    }


def _wait(opened: Library) -> None:
    while any(index.training for index in opened.status().indexes.values()):
        time.sleep(0.5)


def milvus_lite(segments: int, truth_file: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        watch = Stopwatch()
        store: VectorStore = create_store(
            "milvus", dim=DIM, model_id=MODEL, name="audio", directory=Path(folder)
        )
        for ids, vectors in batches(segments):
            store.add(ids, vectors)
        built = watch.result(segments)
        figures = measured(lambda query: store.search(query, K), Truth.read(truth_file))
        store.close()
    return {**built, **figures}


def lancedb(segments: int, truth_file: Path) -> dict[str, Any]:
    """LanceDB's own advice for more than 100,000 vectors: an IVF index, here with whole vectors."""
    import lancedb as lance  # noqa: PLC0415
    import pyarrow  # noqa: PLC0415

    def rows() -> Iterator[Any]:
        for ids, vectors in batches(segments):
            column = pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), DIM)
            yield pyarrow.record_batch({"id": ids, "vector": column})

    truth = Truth.read(truth_file)
    with tempfile.TemporaryDirectory() as folder:
        watch = Stopwatch()
        table = lance.connect(folder).create_table(
            "audio",
            rows(),
            schema=pyarrow.schema(
                [("id", pyarrow.int64()), ("vector", pyarrow.list_(pyarrow.float32(), DIM))]
            ),
        )
        lists = int(LISTS_PER_ROOT * segments**0.5)
        table.create_index(metric="dot", index_type="IVF_FLAT", num_partitions=lists)
        built = watch.result(segments)
        figures: dict[str, Any] = {}
        for probed in (1, 2, 4, 8, 16, 32, 64, 128):

            def search(query: Vectors, probed: int = probed) -> tuple[NDArray[np.float32], Ids]:
                asked = table.search(query[0]).distance_type("dot").nprobes(probed).limit(K)
                found = asked.select(["id", "_distance"]).to_arrow()
                return 1 - found["_distance"].to_numpy()[None], found["id"].to_numpy()[None]

            figures = measured(search, truth)
            if figures["recall_at_10"] >= 0.99:
                break
    return {**built, **figures, "lists": lists, "probed": probed}


Task = Callable[[], dict[str, Any]]
Contender = Callable[[int, Path], dict[str, Any]]

CONTENDERS: dict[str, Contender] = {
    "faiss flat": faiss_flat,
    "faiss ivf": faiss_ivf,
    "faiss hnsw": faiss_hnsw,
    "FaissStore": faiss_store,
    "Library": library,
    "Library sq8": partial(library, vector_store="faiss-sq8"),
}
PEERS: dict[str, tuple[Contender, str]] = {
    "milvus lite": (milvus_lite, "pymilvus"),
    "lancedb": (lancedb, "lancedb"),
}


def _run(task: Task, result: Any) -> None:
    faiss.omp_set_num_threads(1)
    result.put(task())


def run_alone(task: Task) -> dict[str, Any]:
    """Run a task in a new process, whose memory holds nothing else."""
    context = multiprocessing.get_context("spawn")
    result = context.SimpleQueue()
    process = context.Process(target=_run, args=(task, result))
    process.start()
    process.join()
    if process.exitcode:
        return {"failed": process.exitcode}
    figures: dict[str, Any] = result.get()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--peers", action="store_true", help="run Milvus Lite and LanceDB too")
    parser.add_argument("--keep", type=Path, help="where libraries stay for another run")
    parser.add_argument("--only", nargs="+", choices=[*CONTENDERS, *PEERS], help="these alone")
    options = parser.parse_args()
    os.environ.update(ONE_THREAD)  # read by a contender's process as it starts
    kept = options.keep and options.keep / str(options.segments)
    contenders: dict[str, Contender] = {
        **CONTENDERS,
        "Library": partial(library, kept=kept and kept / "library"),
        "Library sq8": partial(library, vector_store="faiss-sq8", kept=kept and kept / "library"),
    }
    for name, (peer, package) in PEERS.items():
        if options.peers or name in (options.only or ()):
            if find_spec(package) is None:
                print(f"{name}: not installed; pip install {package}")
            else:
                contenders[name] = peer
    if options.only:
        contenders = {name: run for name, run in contenders.items() if name in options.only}
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        truth_file = (kept or Path(folder)) / "truth.npz"
        if not truth_file.exists():
            truth_file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(truth_file, **Truth.of(options.segments)._asdict())
        for name, contender in contenders.items():
            figures[name] = run_alone(partial(contender, options.segments, truth_file))
            shown = "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in figures[name].items()
            )
            print(f"{name:12} {shown}", flush=True)
    if options.json:
        report = {
            "segments": options.segments,
            "faiss": faiss.__version__,
            "machine": platform.machine(),
            "figures": figures,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
