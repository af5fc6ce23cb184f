"""Which model answers: one at a time, exchanged whole, and kept until its last request ends."""

import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from index.errors import ModelMismatch
from model.embedding import ModelCard
from service.classification import Classifier
from service.engine import Engine
from service.pipeline import Pipeline
from service.retrieval import Retriever

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """One model with all that answers by it."""

    pipeline: Pipeline
    classifier: Classifier
    retriever: Retriever

    @property
    def engine(self) -> Engine:
        """The embedder behind its batchers."""
        return self.pipeline.engine

    @property
    def card(self) -> ModelCard:
        """What the model is."""
        return self.engine.embedder.card


class Serving:
    """The model that answers, from the first `replace` on. Any thread may call any method.

    Args:
        on_broken: called with a reason when the model that answers has failed too often.
    """

    def __init__(self, on_broken: Callable[[str], None]) -> None:
        self._on_broken = on_broken
        self._lock = threading.Lock()
        self._current: ServedModel | None = None
        self._users: Counter[ServedModel] = Counter()

    @property
    def current(self) -> ServedModel:
        """The model that answers now; for whoever has no vector to keep beyond this moment."""
        assert self._current is not None, "there is one before the first request"
        return self._current

    def give_up(self, engine: Engine, reason: str) -> None:
        """Take in that an engine has failed too often.

        One that is tried out, or that only ends what it began, is not worth the process.
        """
        if self._current is None or self._current.engine is engine:
            self._on_broken(reason)
        else:
            logger.error("a model that is not the one to answer was given up: %s", reason)

    async def answer(self, work: Callable[[ServedModel], Awaitable[ResultT]]) -> ResultT:
        """Do work by one model from its beginning to its end.

        Where the library changes to another model meanwhile, the work is done again by that one:
        its vectors can no longer be compared. The former model is kept until it is no more used.

        Raises:
            ModelMismatch: another process has changed the library's model.
        """
        while True:
            with self._using() as model:
                try:
                    return await work(model)
                except ModelMismatch:
                    if model is self.current:
                        raise
            logger.info("doing a request again by the model %s", self.current.card.model_id)

    def replace(self, model: ServedModel) -> None:
        """Let another model answer from now on; the former one ends with its last request."""
        with self._lock:
            former, self._current = self._current, model
            is_idle = former is not None and not self._users[former]
        if former is not None and is_idle:
            _retire(former)

    def close(self) -> None:
        """Stop the models; what waits for them is answered with NotReady."""
        with self._lock:
            models = {*self._users} if self._current is None else {self._current, *self._users}
        for model in models:
            model.engine.close()

    @contextmanager
    def _using(self) -> Iterator[ServedModel]:
        with self._lock:
            model = self.current
            self._users[model] += 1
        try:
            yield model
        finally:
            with self._lock:
                self._users[model] -= 1
                is_last = not self._users[model]
                if is_last:
                    del self._users[model]
                is_former = model is not self._current
            if is_last and is_former:
                _retire(model)


def _retire(model: ServedModel) -> None:
    """Stop a model that nobody uses any more, in a thread: it waits for its batchers' threads."""
    logger.info("the model %s has answered its last request", model.card.model_id)
    threading.Thread(target=model.engine.close, name="retire-model", daemon=True).start()
