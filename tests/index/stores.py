"""The registered vector stores as tests ask for them."""

from importlib.util import find_spec

import pytest

from index.registry import STORES, Entry

TRAINED = "faiss-trained"
"""A kind that `tests/index/conftest.py` registers for the tests."""
TRAINED_ENTRY = Entry("tests.index.trained_store:TrainedStore", trained=True)

NEEDED = {"milvus": ("pymilvus", "milvus_lite")}


def missing_packages(kind: str) -> list[str]:
    return [package for package in NEEDED.get(kind, ()) if find_spec(package) is None]


def needs_packages_of(kind: str) -> pytest.MarkDecorator:
    missing = missing_packages(kind)
    return pytest.mark.skipif(
        bool(missing), reason=f"the store {kind!r} needs {' and '.join(missing)}"
    )


KINDS = [pytest.param(kind, marks=needs_packages_of(kind)) for kind in sorted({*STORES, TRAINED})]
