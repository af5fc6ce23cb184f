"""Which vector stores there are, and what asking for one costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import index.registry
from index.registry import Entry, check_store, create_store, kind_of
from tests.index.stores import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_registered_store_can_be_made(kind: str, tmp_path: Path) -> None:
    store = create_store(kind, dim=3, model_id="m", name="audio", directory=tmp_path)
    assert (store.dim, store.model_id, store.name, store.count()) == (3, "m", "audio", 0)
    store.close()


def test_an_unknown_store_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unknown vector store 'fais'; choose one of exact, faiss"):
        create_store("fais", dim=3, model_id="m", name="audio", directory=tmp_path)


def test_a_missing_package_is_named_as_one_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, "index.faiss_store", raising=False)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        create_store("faiss", dim=3, model_id="m", name="audio", directory=tmp_path)


def test_a_store_whose_own_module_is_missing_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(index.registry.STORES, "new", Entry("no_such_package:Store"))
    with pytest.raises(ImportError, match="pip install no_such_package"):
        create_store("new", dim=3, model_id="m", name="audio", directory=tmp_path)


@pytest.mark.parametrize(
    ("store", "complaint"),
    [
        ("faiss:somewhere", "'faiss' lies in memory"),
        ("milvus:", "names nothing after the colon"),
        ("milvs:http://root:secret@host", "Unknown vector store 'milvs'"),
    ],
)
def test_a_source_is_refused_where_it_says_nothing(store: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        check_store(store)
    assert "secret" not in str(caught.value)


def test_a_store_is_known_by_its_kind_without_its_source() -> None:
    assert kind_of("milvus:http://root:secret@host:19530") == "milvus"
    assert kind_of("faiss") == "faiss"


def test_types_and_errors_load_neither_faiss_nor_sqlalchemy() -> None:
    code = (
        "import sys, index, index.types, index.errors, index.registry\n"
        "print({'faiss', 'pymilvus', 'sqlalchemy', 'alembic', 'torch'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
