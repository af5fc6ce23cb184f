"""Which vector stores there are, and what asking for one costs."""

import subprocess
import sys

import pytest

import index.registry
from index.registry import STORES, create_store


@pytest.mark.parametrize("kind", sorted(STORES))
def test_every_registered_store_can_be_made(kind: str) -> None:
    store = create_store(kind, dim=3, model_id="m", name="audio")
    assert (store.dim, store.model_id, store.name, store.count()) == (3, "m", "audio", 0)


def test_an_unknown_store_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="Unknown vector store 'fais'; choose one of exact, faiss"):
        create_store("fais", dim=3, model_id="m", name="audio")


def test_a_missing_package_is_named_as_one_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, "index.faiss_store", raising=False)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        create_store("faiss", dim=3, model_id="m", name="audio")


def test_a_store_whose_own_module_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(index.registry.STORES, "new", "no_such_package:Store")
    with pytest.raises(ImportError, match="pip install no_such_package"):
        create_store("new", dim=3, model_id="m", name="audio")


def test_types_and_errors_load_neither_faiss_nor_sqlalchemy() -> None:
    code = (
        "import sys, index, index.types, index.errors, index.registry\n"
        "print({'faiss', 'sqlalchemy', 'alembic', 'torch'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
