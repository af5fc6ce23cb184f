"""A vector store in Milvus: on a server, or in a file by Milvus Lite inside this process."""

import hashlib
import json
import re
import threading
import uuid
import weakref
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient, MilvusException

from index.durable import make_directory, replace_file, storage_errors
from index.errors import VectorStoreUnavailable
from index.read_write_lock import ReadWriteLock
from index.types import StoreStatus
from index.vector_store import Ids, Vectors, check_ids, check_pairs, check_search

LARGEST_REACH = 16_384
"""Results that Milvus gives to one query at most (`quotaAndLimits.limits.topK`)."""

PART = 4096
"""Ids in one filter and rows in one message: 16 MiB at 1,024 dimensions, where gRPC takes 64."""

QUERIES_AT_ONCE = 100
"""Queries in one search: at `LARGEST_REACH` results each, 20 MB, where Milvus gives 100."""

LOCAL_ROWS = 1000
"""Rows that Milvus Lite may hold unflushed: it searches those 50 times more slowly than its files.

A server is left to flush by itself: it limits how often it may be asked to.
"""

CONNECT_SECONDS = 10.0
CALL_SECONDS = 60.0

OWN_FILE = "milvus.db"
OWNER_FILE = "milvus.owner"


@dataclass(frozen=True, slots=True)
class _Marker:
    """What a saved file says: which collection holds the vectors; None where there are none."""

    name: str
    model_id: str
    dim: int
    count: int
    generation: int
    collection: str | None


class MilvusStore:
    """A `VectorStore` over a Milvus collection with a FLAT index: exact, as the contract wants.

    Where: `source` is a server's address, `http://USER:PASSWORD@HOST:19530/DATABASE`, or the path
    of a Milvus Lite file that ends in `.db`; by default `milvus.db` in `directory`.

    Whose: a collection belongs to the `directory` whose store made it, and no other store writes
    to it. So several libraries, or replicas of one, can use the same server: each fills a
    collection of its own, as each would fill its own memory with another kind of store. A copied
    directory counts as another one. A new store makes its collection, under a name never used
    before, when the first vector comes; until then it changes nothing on the server.

    Saving: the vectors stay in Milvus. `save` flushes them and writes a small file that names the
    collection; `load` goes back to the one that a file names, if it still holds as many vectors.
    Two stores that have loaded one file share its collection, so only the last of them may write.
    Collections that no open store holds any more are dropped at the next `save`, and those of the
    same name when a new one is made: a crash leaves none behind for good.

    Limits: a search whose k, or whose ties at the last place, reach past 16,384 results, and one
    with more than 4,096 `allowed` ids, is asked in parts of 4,096 ids and merged: exact too, but
    it takes a call for each part. A write is atomic to this process's readers by a lock; should the
    server fail halfway through it, StorageError is raised and the store must be rebuilt.

    Every method that asks the server raises VectorStoreUnavailable where that cannot be reached or
    refuses; no question waits longer than `CALL_SECONDS` and the `CONNECT_SECONDS` of a new
    connection.
    """

    def __init__(
        self, *, dim: int, model_id: str, name: str, source: str | None, directory: Path
    ) -> None:
        self.dim = dim
        self.model_id = model_id
        self.name = name
        self._local = source is None or "://" not in source
        self._uri = _checked_uri(source, directory)
        self._shown = _without_password(self._uri)
        self._owned = f"avgzsl_{'own' if source is None else _owner(directory)}_"
        digest = hashlib.sha256(f"{model_id}\n{name}".encode()).hexdigest()[:12]
        self._prefix = f"{self._owned}{re.sub(r'[^A-Za-z0-9]', '_', name)[:40]}_{digest}_"
        self._lock = ReadWriteLock()
        self._collection: str | None = None
        self._unflushed = 0
        with self._server_errors("connect to"), _opening:
            self._client = MilvusClient(self._uri, timeout=CONNECT_SECONDS)
            _open_stores.add(self)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Insert or replace. Raises ValueError for a wrong shape, dtype or a value not finite."""
        check_pairs(ids, vectors, self.dim)
        if not ids.size:
            return
        with self._lock.writing(), self._server_errors("write to"):
            collection = self._collection or self._create()
            for start in range(0, len(ids), PART):
                part = slice(start, start + PART)
                rows = zip(ids[part].tolist(), vectors[part], strict=True)
                self._client.upsert(
                    collection,
                    [{"id": row_id, "vector": vector} for row_id, vector in rows],
                    timeout=CALL_SECONDS,
                )
            self._unflushed += len(ids)
            if self._local and self._unflushed >= LOCAL_ROWS:
                self._flush(collection)

    def filling(self) -> AbstractContextManager[None]:
        """Do nothing: the index is FLAT."""
        return nullcontext()

    def remove(self, ids: Ids) -> int:
        """Delete; return how many of the ids were present."""
        check_ids(ids)
        with self._lock.writing(), self._server_errors("delete from"):
            present = [row["id"] for row in self._rows(ids, "id")]
            for start in range(0, len(present), PART):
                part = present[start : start + PART]
                self._client.delete(self._collection, ids=part, timeout=CALL_SECONDS)
        return len(present)

    def search(
        self, queries: Vectors, k: int, *, allowed: Ids | None = None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return scores (Q, K) float32 and ids (Q, K) int64, best first, equal scores by id."""
        check_search(queries, k, self.dim, allowed)
        with self._lock.reading(), self._server_errors("search"):
            if self._collection is None or not len(queries):
                return _nothing(len(queries))
            found = [
                _ranked(*self._nearest(queries[start : start + QUERIES_AT_ONCE], k, allowed), k)
                for start in range(0, len(queries), QUERIES_AT_ONCE)
            ]
        scores, ids = (np.concatenate(rows) for rows in zip(*found, strict=True))
        return scores, ids

    def get(self, ids: Ids) -> Vectors:
        """Return the vectors (N, dim) of ids that are all present. Raises KeyError."""
        check_ids(ids)
        with self._lock.reading(), self._server_errors("read from"):
            vectors = {row["id"]: row["vector"] for row in self._rows(np.unique(ids), "vector")}
        wanted: list[int] = ids.tolist()
        missing = set(wanted) - vectors.keys()
        if missing:
            raise KeyError(f"The {self.name!r} vectors hold no id {min(missing)}.")
        return np.array([vectors[row_id] for row_id in wanted], np.float32).reshape(-1, self.dim)

    @property
    def rounds(self) -> bool:
        """Vectors are kept whole."""
        return False

    def rounded(self, vectors: Vectors) -> Vectors:
        """Return vectors (N, dim) as they are held: these."""
        return vectors

    def count(self) -> int:
        """How many vectors are held."""
        with self._lock.reading(), self._server_errors("count in"):
            return self._count(self._collection)

    def describe(self) -> StoreStatus:
        """Say that every vector is compared with. Raises StorageError."""
        return StoreStatus(kind="exact", vectors=self.count(), recall=1.0, training=False)

    def save(self, path: Path, *, generation: int) -> None:
        """Make the vectors durable and write which collection holds them. Raises OSError."""
        with self._lock.reading(), self._server_errors("save"):
            collection = self._collection
            if collection is not None:
                self._flush(collection)
            count = self._count(collection)
            self._drop_unused(self._owned)
        _write_marker(
            path, _Marker(self.name, self.model_id, self.dim, count, generation, collection)
        )

    def load(self, path: Path) -> int:
        """Go back to the collection that a file names; return its generation.

        Raises ValueError also where that collection is gone, or holds another number of vectors.
        """
        marker = _read_marker(path)
        expected = (self.name, self.model_id, self.dim)
        found = (marker.name, marker.model_id, marker.dim)
        if found != expected:
            raise ValueError(f"{path.name} holds (name, model, dim) {found}; expected {expected}.")
        with self._lock.writing(), self._server_errors("load"):
            if marker.collection is not None:
                self._check_collection(path, marker.collection, marker.count)
            self._collection = marker.collection
        return marker.generation

    def close(self) -> None:
        """Leave the server; stop it where it is Milvus Lite's and no other store uses it."""
        with _opening:
            if self not in _open_stores:
                return
            _open_stores.discard(self)
            self._client.close()
            if self._local and all(store._uri != self._uri for store in _open_stores):
                _stop_local_server(self._uri)

    # The collection

    def _create(self) -> str:
        """Make an empty collection and drop those that crashed processes left of this name."""
        self._drop_unused(self._prefix)
        collection = self._prefix + uuid.uuid4().hex
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dim)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")
        self._client.create_collection(
            collection,
            schema=schema,
            index_params=index,
            consistency_level="Strong",
            timeout=CALL_SECONDS,
        )
        self._collection = collection
        return collection

    def _flush(self, collection: str) -> None:
        self._client.flush(collection, timeout=CALL_SECONDS)
        self._unflushed = 0

    def _drop_unused(self, prefix: str) -> None:
        with _opening:
            used = {store._collection for store in _open_stores if store._uri == self._uri}
        for collection in self._client.list_collections(timeout=CALL_SECONDS):
            if collection.startswith(prefix) and collection not in used:
                self._client.drop_collection(collection, timeout=CALL_SECONDS)

    def _check_collection(self, path: Path, collection: str, count: int) -> None:
        if not collection.startswith(self._prefix):
            raise ValueError(f"{path.name} names a collection of another library's directory.")
        if not self._client.has_collection(collection, timeout=CALL_SECONDS):
            raise ValueError(f"{path.name} names a collection that {self._shown} does not hold.")
        self._client.load_collection(collection, timeout=CALL_SECONDS)
        found = self._count(collection)
        if found != count:
            raise ValueError(f"{path.name} is of {count} vectors; {self._shown} holds {found}.")

    # Questions to the server

    def _count(self, collection: str | None) -> int:
        if collection is None:
            return 0
        (row,) = self._query(collection, filter="", output_fields=["count(*)"])
        return int(row["count(*)"])

    def _query(self, collection: str, **options: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._client.query(
            collection, consistency_level="Strong", timeout=CALL_SECONDS, **options
        )
        return rows

    def _rows(self, ids: Ids, field: str) -> Iterator[dict[str, Any]]:
        """Yield the id and the field of those ids that are present, in any order."""
        if self._collection is None:
            return
        for part in _parts(ids):
            yield from self._query(
                self._collection, filter=_is_one_of(part), output_fields=["id", field]
            )

    def _all_ids(self) -> Ids:
        pages = self._client.query_iterator(
            self._collection,
            batch_size=LARGEST_REACH,
            output_fields=["id"],
            consistency_level="Strong",
            timeout=CALL_SECONDS,
        )
        ids: list[int] = []
        while page := pages.next():
            ids += [row["id"] for row in page]
        pages.close()
        return np.array(ids, np.int64)

    def _nearest(
        self, queries: Vectors, k: int, allowed: Ids | None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return in any order at least the k best of each query, and all that tie with the k-th."""
        if allowed is None:
            scores, ids, complete = self._search_past_ties(queries, k, LARGEST_REACH, "")
            if complete:
                return scores, ids
            allowed = self._all_ids()
        found = [_nothing(len(queries))]
        for part in _parts(np.unique(allowed)):
            # Asked for as many as there are candidates, a part is always complete.
            scores, ids, _ = self._search_past_ties(queries, k, len(part), _is_one_of(part))
            found.append((scores, ids))
        all_scores, all_ids = (np.concatenate(rows, axis=1) for rows in zip(*found, strict=True))
        return all_scores, all_ids

    def _search_past_ties(
        self, queries: Vectors, k: int, most: int, filter: str
    ) -> tuple[NDArray[np.float32], Ids, bool]:
        """Search with ever more results, up to `most`, until a tie for the last place is broken.

        Milvus keeps an arbitrary few of the ids that tie there. Also returns whether the tie was
        broken or the candidates were exhausted.
        """
        reach = min(k, most)
        while True:
            reach = min(2 * reach, most)
            hits = self._client.search(
                self._collection,
                data=queries,
                anns_field="vector",
                search_params={"metric_type": "IP"},
                limit=reach,
                filter=filter,
                output_fields=["id"],
                consistency_level="Strong",
                timeout=CALL_SECONDS,
            )
            scores = np.array([[hit["distance"] for hit in row] for row in hits], np.float32)
            ids = np.array([[hit["id"] for hit in row] for row in hits], np.int64)
            found = scores.shape[1]
            if found < reach or (found > k and (scores[:, k - 1] > scores[:, -1]).all()):
                return scores, ids, True
            if reach == most:
                return scores, ids, False

    @contextmanager
    def _server_errors(self, action: str) -> Iterator[None]:
        """Raise VectorStoreUnavailable for the server's refusal or absence; show no password."""
        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            raise VectorStoreUnavailable(
                f"Could not {action} the vector store {self._shown}: {error} Nothing that was "
                "stored is lost; check that Milvus runs there and lets this service in, and ask "
                "again."
            ) from error


_opening = threading.RLock()
_open_stores: weakref.WeakSet[MilvusStore] = weakref.WeakSet()


def _nothing(queries: int) -> tuple[NDArray[np.float32], Ids]:
    return np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)


def _ranked(scores: NDArray[np.float32], ids: Ids, k: int) -> tuple[NDArray[np.float32], Ids]:
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)


def _parts(ids: Ids) -> Iterable[Ids]:
    return (ids[start : start + PART] for start in range(0, len(ids), PART))


def _is_one_of(ids: Ids) -> str:
    return f"id in {ids.tolist()}"


def _checked_uri(source: str | None, directory: Path) -> str:
    """Return the address to connect to; make the folder of a local file. Raises ValueError."""
    if source is not None and "://" in source:
        if not re.match(r"https?://[^/]", source):
            raise ValueError(
                f"Milvus is reached by http:// or https://; got {_without_password(source)!r}."
            )
        return source
    path = (Path(source).expanduser() if source else directory / OWN_FILE).absolute()
    if path.suffix != ".db":
        raise ValueError(
            f"A Milvus Lite file ends in .db; got {str(path)!r}. A server's address starts "
            "with http:// or https://."
        )
    with storage_errors(f"create {path.parent}"):
        make_directory(path.parent)
    return str(path)


def _without_password(uri: str) -> str:
    place = urlsplit(uri).netloc
    user, at, host = place.rpartition("@")
    return uri.replace(place, f"{user.partition(':')[0]}:***@{host}", 1) if at else uri


def _owner(directory: Path) -> str:
    """Return a name for a directory that no other one has, not even a copy of it."""
    path = directory / OWNER_FILE
    with storage_errors(f"write {path}"):
        if not path.exists():
            make_directory(directory)
            replace_file(path, [uuid.uuid4().hex.encode()])
        # The content tells machines apart, the inode tells a copy from what it was copied from.
        identity = f"{path.read_text()}\n{path.stat().st_ino}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _stop_local_server(path: str) -> None:
    # pymilvus starts one in this process and has no call to stop it; it holds the file's lock.
    from milvus_lite.server_manager import server_manager_instance  # noqa: PLC0415 - an extra

    server_manager_instance.release_server(path)


def _write_marker(path: Path, marker: _Marker) -> None:
    body = json.dumps(asdict(marker)).encode()
    replace_file(path, [body, b"\n", hashlib.sha256(body).hexdigest().encode()])


def _read_marker(path: Path) -> _Marker:
    """Return what a saved file says. Raises ValueError where it is missing or damaged."""
    try:
        body, _, digest = path.read_bytes().rpartition(b"\n")
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError(f"{path.name} is damaged: its checksum does not match.")
    try:
        return _Marker(**json.loads(body))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} does not say where its vectors lie.") from error
