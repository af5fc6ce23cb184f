"""Which vector stores there are: name -> "module:Class", imported only when asked for."""

from importlib import import_module
from typing import cast

from index.vector_store import VectorStore

STORES = {
    "exact": "index.exact_store:ExactStore",
    "faiss": "index.faiss_store:FaissStore",
}

PACKAGES = {"faiss": "faiss-cpu"}
"""What to install for a module whose package has another name."""


def create_store(kind: str, *, dim: int, model_id: str, name: str) -> VectorStore:
    """Make an empty store of a registered kind for vectors (N, dim).

    Raises ValueError for an unknown kind, ImportError naming the package that a kind lacks.
    """
    if kind not in STORES:
        raise ValueError(f"Unknown vector store {kind!r}; choose one of {', '.join(STORES)}.")
    module_name, class_name = STORES[kind].split(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        package = PACKAGES.get(missing, missing)
        raise ImportError(
            f"The vector store {kind!r} needs the package {package!r}, which is not installed; "
            f"run `pip install {package}`."
        ) from error
    return cast(VectorStore, getattr(module, class_name)(dim=dim, model_id=model_id, name=name))
