"""The FAISS store in its trained form, for the tests that every store must pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from index.faiss_store import FaissStore
from index.vector_store import Ids, Vectors

TRAIN_AT = 4


class TrainedStore(FaissStore):
    """Trained on a handful of vectors, before the call that made it necessary returns.

    It probes all lists, so it is exact.
    """

    def __init__(self, *, dim: int, model_id: str, name: str, exact: bool) -> None:
        super().__init__(
            dim=dim, model_id=model_id, name=name, exact=exact, train_at=TRAIN_AT, recall=1.0
        )

    def add(self, ids: Ids, vectors: Vectors) -> None:
        super().add(ids, vectors)
        self.wait_for_training()

    @contextmanager
    def filling(self) -> Iterator[None]:
        with super().filling():
            yield
        self.wait_for_training()

    def remove(self, ids: Ids) -> int:
        removed = super().remove(ids)
        self.wait_for_training()
        return removed

    def load(self, path: Path) -> int:
        generation = super().load(path)
        self.wait_for_training()
        return generation
