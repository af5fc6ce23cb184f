"""A model on a worker of Ray, behind the engine that the service has in its own process.

Ray Serve's replicas and Ray Data's actors hold one each.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

from model.config import Calibration
from model.embedding import (
    ClipEmbedder,
    DescribedModel,
    ForwardedChunk,
    ModelCard,
    VocabularyEntry,
    WindowEmbedding,
)
from model.media.types import ClipChunk, DecodeSpec
from service.engine import Engine
from service.metrics import Metrics
from service.settings import Settings

LoadEmbedder = Callable[[Settings], ClipEmbedder]
"""Makes the model on its worker; found there by its module and name."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A `DescribedModel` that can be sent: `entries` are its vocabulary."""

    card: ModelCard
    calibration: Calibration
    decode_spec: DecodeSpec
    entries: tuple[VocabularyEntry, ...]

    def vocabulary(self) -> tuple[VocabularyEntry, ...]:
        """Return the classes that the checkpoint was trained on."""
        return self.entries


def described(model: DescribedModel) -> ModelDescription:
    """Return what is known of a model, to be sent."""
    return ModelDescription(model.card, model.calibration, model.decode_spec, model.vocabulary())


class HostedModel:
    """A model, warm, that several threads or coroutines use at once."""

    def __init__(
        self, settings: Settings, load: LoadEmbedder, on_broken: Callable[[str], None]
    ) -> None:
        """Load it. Raises ModelError, and what the model raises on its first input.

        `on_broken` is called with a reason when it has failed too often.
        """
        self._embedder = load(settings)
        self._under_way = 0
        self._lock = Lock()
        self.engine = Engine(
            self._embedder,
            Metrics(),
            batch_rows=settings.batch_rows,
            wait_seconds=settings.batch_wait_milliseconds / 1000,
            max_failures=settings.max_model_failures,
            answer_seconds=settings.model_timeout_seconds,
            is_more_coming=lambda waiting: self._under_way > waiting,
            on_broken=on_broken,
        )
        self.engine.warm_up()

    def describe(self) -> ModelDescription:
        """Return what is known of it."""
        return described(self._embedder)

    @property
    def dim(self) -> int:
        """The length of its vectors."""
        return self._embedder.card.embedding_dim

    def submit(self, chunk: ClipChunk) -> Future[ForwardedChunk]:
        """Prepare a chunk in this thread and put it into the next batch, for `finish`.

        The future raises OutOfMemory, ModelFailed.
        """
        with self._lock:
            self._under_way += 1
        try:
            future = self.engine.chunks.submit(self._embedder.prepare(chunk))
        except BaseException:
            self._leave()
            raise
        future.add_done_callback(lambda _: self._leave())
        return future

    def finish(self, forwarded: ForwardedChunk) -> list[WindowEmbedding]:
        """Return the embeddings of the chunk's windows."""
        return self._embedder.finish(forwarded)

    def close(self) -> None:
        """Stop the batchers."""
        self.engine.close()

    def _leave(self) -> None:
        with self._lock:
            self._under_way -= 1
