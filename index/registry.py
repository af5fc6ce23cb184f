"""Which vector stores there are: name -> how to make one.

A new store is one file and one line below.

A store that keeps its vectors outside of this process takes a source after a colon: `milvus` is a
file in the library's directory, `milvus:SOURCE` the file or the server that SOURCE names.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from index.vector_store import VectorStore


class Entry(NamedTuple):
    """How a store is made.

    Attributes:
        maker: `module:Class`, imported only when asked for. It is called with `dim`, `model_id` and
            `name`.
        placed: whether its vectors lie outside of this process's memory; it is then called also
            with the `source`, or None, and with a `directory` for what it keeps without one.
        trained: whether it may go over to an approximate index; it is then called also with
            `exact`, which forbids that.
    """

    maker: str
    placed: bool = False
    trained: bool = False


STORES = {
    "exact": Entry("index.exact_store:ExactStore"),
    "faiss": Entry("index.faiss_store:FaissStore", trained=True),
    "faiss-sq8": Entry("index.faiss_store:QuantisedFaissStore", trained=True),
    "milvus": Entry("index.milvus_store:MilvusStore", placed=True),
}

PACKAGES = {"faiss": "faiss-cpu"}
"""What to install for a module whose package has another name."""


def kind_of(store: str) -> str:
    """Return the kind without its source, which may hold a password."""
    return store.partition(":")[0]


def is_placed(store: str) -> bool:
    """Whether its vectors lie outside of this process's memory, so that they outlive it."""
    return STORES[kind_of(store)].placed


def check_store(store: str) -> None:
    """Raise ValueError unless this is a registered kind, with a source where it takes one."""
    kind, colon, source = store.partition(":")
    if kind not in STORES:
        raise ValueError(f"Unknown vector store {kind!r}; choose one of {', '.join(STORES)}.")
    if colon and not STORES[kind].placed:
        raise ValueError(f"The vector store {kind!r} lies in memory; give it without a source.")
    if colon and not source:
        raise ValueError(
            f"The vector store {store!r} names nothing after the colon; give {kind}:SOURCE or "
            f"{kind} alone."
        )


def create_store(
    store: str, *, dim: int, model_id: str, name: str, directory: Path, exact: bool = False
) -> "VectorStore":
    """Make an empty store, `KIND` or `KIND:SOURCE`, for vectors (N, dim).

    `directory` is where a store may keep what it does not keep in memory; an `exact` one misses no
    neighbour, however many it holds. Raises ValueError for an unknown kind or a source that cannot
    be used, ImportError naming the package that a kind lacks, StorageError where its vectors lie
    out of reach.
    """
    check_store(store)
    kind, _, source = store.partition(":")
    entry = STORES[kind]
    module_name, class_name = entry.maker.split(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        package = PACKAGES.get(missing, missing)
        raise ImportError(
            f"The vector store {kind!r} needs the package {package!r}, which is not installed; "
            f"run `pip install {package}`."
        ) from error
    options: dict[str, object] = {}
    if entry.placed:
        options |= {"source": source or None, "directory": directory}
    if entry.trained:
        options["exact"] = exact
    made = getattr(module, class_name)(dim=dim, model_id=model_id, name=name, **options)
    return cast("VectorStore", made)
