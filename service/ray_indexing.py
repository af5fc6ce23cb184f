"""Embedding files on a Ray cluster: decoders feed copies of the model, chunk by chunk.

Rows of Ray Data are parts of files, `(source, part, payload)`. A file's chunks are decoded in
order, embedded wherever there is room, and put together again by whoever started it. Decoders are
actors, since each keeps a process that decodes and can be killed.
"""

import logging
import os
import pickle
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from index.media_store import file_digest
from model.embedding import ClipEmbedding, ForwardedChunk, WindowEmbedding, whole_clip
from model.errors import MediaError, OutOfMemory
from model.media.tasks import ClipHead, ClipTail, decode_clip
from model.media.types import ClipChunk, DecodeSpec
from service.cancellation import Cancellation
from service.decoding import DecodePool
from service.errors import PROBLEMS, ModelFailed, NotReady
from service.folder_indexing import reason_of
from service.media_source import local_file
from service.pipeline import THUMBNAIL_SIZE
from service.ray_cluster import model_resources
from service.ray_model import HostedModel, LoadEmbedder, ModelDescription, described
from service.resources import job_limits
from service.settings import Settings

FILES_PER_TASK = 16
"""Files that one task decodes, and begins anew where its node is lost."""

MOST_TASKS = 20_000
"""Each is an object that the driver holds."""

CHUNKS_PER_CALL = 8
"""Chunks that a copy of the model is given at once; its batcher makes batches of them."""

BLOCK_BYTES = 32 * 2**20
"""Decoded chunks are handed on when they are so many bytes: a long clip is never held whole."""

SCHEMA = pa.schema([("source", pa.binary()), ("part", pa.int64()), ("payload", pa.large_binary())])


@dataclass(frozen=True, slots=True)
class EmbeddedFile:
    """A file's embeddings, the SHA-256 of the bytes that they are of, and its thumbnail."""

    source: str
    sha256: str
    embedding: ClipEmbedding
    thumbnail: bytes | None


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file whose bytes were known before, by their SHA-256."""

    source: str
    sha256: str


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that cannot be embedded, and why."""

    source: str
    code: str
    detail: str


FileResult = EmbeddedFile | KnownFile | FailedFile


@dataclass(frozen=True, slots=True)
class _Decoded:
    """The bytes' SHA-256, and what is known of a clip besides its chunks."""

    sha256: str
    tail: ClipTail


@dataclass(frozen=True, slots=True)
class _End:
    """A file's last part; its number says how many chunks come besides."""

    of: _Decoded | KnownFile | FailedFile


def describe_model(settings: Settings, load: LoadEmbedder) -> ModelDescription:
    """Load the model once on the cluster and return what is known of it. Raises ModelError."""
    task = ray.remote(**model_resources(settings))(_described)
    try:
        description: ModelDescription = ray.get(task.remote(settings, load))
    except ray.exceptions.RayTaskError as error:
        # Without the traceback of the worker, which is in its log.
        raise error.cause from None
    return description


def embedded_files(
    sources: Sequence[str],
    *,
    known: Collection[str],
    settings: Settings,
    spec: DecodeSpec,
    load: LoadEmbedder,
) -> Generator[FileResult, None, None]:
    """Yield what becomes of each source, in the order in which they are done.

    Args:
        sources: absolute paths, which every node must see, and URLs of fsspec; each once.
        known: SHA-256 of bytes that are not to be embedded, hexadecimal.
        settings: how to decode, and how many copies of the model there may be.
        spec: how the model wants clips cut.
        load: makes the model.

    Raises what would befall every file: the model cannot be loaded or is broken, or a file system
    refuses.
    """
    if not sources:
        return
    # It tells what it does, and what is raised here, in lines of its own besides.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.target_max_block_size = BLOCK_BYTES
    tasks = min(-(-len(sources) // FILES_PER_TASK), MOST_TASKS)
    items = [os.fsencode(source) for source in sources]
    parts = (
        ray.data.from_items(items, override_num_blocks=tasks)
        .map_batches(
            _Decoder,
            fn_args=(ray.put(_sorted_digests(known)),),
            fn_constructor_args=(settings, spec),
            compute=ray.data.ActorPoolStrategy(min_size=1),
            batch_format="pyarrow",
            num_cpus=1,
        )
        .map_batches(
            _ChunkEmbedder,
            fn_constructor_args=(settings, load),
            # Of two calls at once one prepares while the other waits for the device.
            compute=ray.data.ActorPoolStrategy(
                min_size=settings.ray_min_models,
                max_size=settings.most_models,
                max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True,
            ),
            batch_size=CHUNKS_PER_CALL,
            batch_format="pyarrow",
            **model_resources(settings),
        )
    )
    files: dict[str, _Gathered] = {}
    for table in parts.iter_batches(batch_size=None, batch_format="pyarrow"):
        for row in table.to_pylist():
            source = os.fsdecode(row["source"])
            gathered = files.setdefault(source, _Gathered(source))
            result = gathered.add(row["part"], pickle.loads(row["payload"]))
            if result is not None:
                del files[source]
                yield result


class _Gathered:
    """The parts of one file that have come."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._chunks: dict[int, list[WindowEmbedding] | FailedFile] = {}
        self._end: _End | None = None
        self._count = -1

    def add(self, part: int, payload: Any) -> FileResult | None:
        """Take a part in; return what became of the file once all are there."""
        if isinstance(payload, _End):
            self._end, self._count = payload, part
        else:
            self._chunks[part] = payload
        if self._end is None or len(self._chunks) < self._count:
            return None
        return self._end.of if not isinstance(self._end.of, _Decoded) else self._whole(self._end.of)

    def _whole(self, decoded: _Decoded) -> FileResult:
        windows: list[WindowEmbedding] = []
        for _, of_chunk in sorted(self._chunks.items()):
            if isinstance(of_chunk, FailedFile):
                return of_chunk
            windows += of_chunk
        embedding = whole_clip(windows, decoded.tail.summary)
        return EmbeddedFile(self._source, decoded.sha256, embedding, decoded.tail.thumbnail)


class _Decoder:
    """An actor of Ray Data: sources in, their parts out."""

    def __init__(self, settings: Settings, spec: DecodeSpec) -> None:
        self._limits = job_limits(settings)
        self._spec = spec
        self._processes = DecodePool(
            workers=1,
            memory_bytes=settings.decode_memory_bytes,
            clips_per_worker=settings.decode_clips_per_worker,
        )

    def __call__(self, batch: pa.Table, known_ref: "ray.ObjectRef[Any]") -> Iterator[pa.Table]:
        # In the node's shared memory: once, however many decoders there are.
        known: NDArray[np.bytes_] = ray.get(known_ref)
        for source in batch.column("item").to_pylist():
            chunks = 0
            for part in self._parts(os.fsdecode(source), known):
                if isinstance(part, ClipHead):
                    continue
                yield _table([source], [chunks], [part])
                chunks += 1

    def _parts(
        self, source: str, known: NDArray[np.bytes_]
    ) -> Iterator[ClipHead | ClipChunk | _End]:
        try:
            yield _End((yield from self._decoded(source, known)))
        except OSError as error:
            yield _End(FailedFile(source, "unreadable_file", reason_of(error)))
        except MediaError as error:
            yield _End(FailedFile(source, error.code, str(error)))

    def _decoded(
        self, source: str, known: NDArray[np.bytes_]
    ) -> Generator[ClipHead | ClipChunk, None, _Decoded | KnownFile]:
        with local_file(source, self._limits) as path:
            sha256 = file_digest(path)
            if _is_among(sha256, known):
                return KnownFile(source, sha256)
            tail = yield from self._processes.stream(
                decode_clip,
                *(path, self._limits, self._spec, "auto", THUMBNAIL_SIZE),
                silence_seconds=self._limits.decode_timeout_seconds,
                cancellation=Cancellation(),
            )
            return _Decoded(sha256, tail)


class _ChunkEmbedder:
    """An actor of Ray Data: chunks become their windows' embeddings, other parts stay."""

    def __init__(self, settings: Settings, load: LoadEmbedder) -> None:
        self._broken: str | None = None
        self._model = HostedModel(settings, load, on_broken=self._give_up)

    def __call__(self, batch: pa.Table) -> pa.Table:
        sources, numbers = batch.column("source").to_pylist(), batch.column("part").to_pylist()
        parts = [pickle.loads(payload) for payload in batch.column("payload").to_pylist()]
        futures = {
            place: self._model.submit(part)
            for place, part in enumerate(parts)
            if isinstance(part, ClipChunk)
        }
        for place, future in futures.items():
            parts[place] = self._embedded(os.fsdecode(sources[place]), future)
        self._require_health()
        return _table(sources, numbers, parts)

    def _embedded(
        self, source: str, future: Future[ForwardedChunk]
    ) -> list[WindowEmbedding] | FailedFile:
        try:
            return self._model.finish(future.result())
        except (ModelFailed, OutOfMemory) as error:
            return FailedFile(source, PROBLEMS[type(error)].code, str(error))

    def _require_health(self) -> None:
        """Raise ModelFailed where the model is to blame, and not the files that it failed on."""
        chunks = self._model.engine.chunks
        while self._broken is None and not chunks.is_healthy:
            try:
                chunks.check().exception()
            except NotReady as error:
                raise ModelFailed("The model has not answered and was given up.") from error
        if self._broken is not None:
            raise ModelFailed(self._broken)

    def _give_up(self, reason: str) -> None:
        self._broken = reason


def _described(settings: Settings, load: LoadEmbedder) -> ModelDescription:
    return described(load(settings))


def _table(sources: list[bytes], numbers: list[int], parts: list[Any]) -> pa.Table:
    payloads = [pickle.dumps(part, pickle.HIGHEST_PROTOCOL) for part in parts]
    return pa.table([sources, numbers, payloads], schema=SCHEMA)


def _sorted_digests(hashes: Collection[str]) -> NDArray[np.bytes_]:
    """Return SHA-256 as an ascending array of 32 bytes each: shared memory takes it as it is."""
    return np.sort(np.array([bytes.fromhex(digest) for digest in hashes], "S32"))


def _is_among(digest: str, ascending: NDArray[np.bytes_]) -> bool:
    wanted = np.array(bytes.fromhex(digest), "S32")
    place = np.searchsorted(ascending, wanted)
    return bool(place < len(ascending) and ascending[place] == wanted)
