"""An embedder whose model runs in replicas elsewhere: what the HTTP processes on Ray answer by."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import ObjectLostError, RayActorError, WorkerCrashedError

from model.config import Calibration
from model.embedding import (
    ClassText,
    ForwardedChunk,
    ModelCard,
    PreparedChunk,
    VocabularyEntry,
    WindowEmbedding,
    blank_chunk,
    frame_rows,
    of_windows,
)
from model.media.types import ClipChunk, DecodeSpec
from service.errors import NotReady
from service.ray_model import ModelDescription

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle, DeploymentResponse

logger = logging.getLogger(__name__)

LOST = (RayActorError, ObjectLostError, WorkerCrashedError)
"""The replica, or its answer, went with its process or node. To embed again does no harm."""

PAUSE_SECONDS = 0.1
"""Before a call is made again: the next replica may be on the same node."""


class RemoteEmbedder:
    """A `ClipEmbedder` that asks a deployment of Ray Serve.

    Chunks travel as they were decoded, a tenth of what a backbone makes of them, and each is a call
    of its own: Serve spreads them over the replicas, and there the batchers put together what
    comes from all callers. A call whose replica is lost is made again. Not for an event loop's
    thread.

    Args:
        model: the deployment's handle.
        call_seconds: how long one call may take, repetitions included.
    """

    def __init__(self, model: "DeploymentHandle[Any]", *, call_seconds: float) -> None:
        self._model = model
        self._call_seconds = call_seconds

    @cached_property
    def description(self) -> ModelDescription:
        """What is known of the model; the first time it waits until a copy is loaded."""
        description: ModelDescription = self._model.describe.remote().result()
        return description

    @property
    def card(self) -> ModelCard:
        """What `/model` tells of it."""
        return self.description.card

    @property
    def calibration(self) -> Calibration:
        """How its similarities become answers."""
        return self.description.calibration

    @property
    def decode_spec(self) -> DecodeSpec:
        """How a clip has to be decoded."""
        return self.description.decode_spec

    def vocabulary(self) -> tuple[VocabularyEntry, ...]:
        """Return the classes that the checkpoint was trained on."""
        return self.description.vocabulary()

    def prepare(self, chunk: ClipChunk) -> PreparedChunk:
        """Pass the samples and pixels on as they are: a replica prepares them."""
        audio = None if chunk.waveforms is None else chunk.waveforms[chunk.has_audio]
        return PreparedChunk(chunk, audio, chunk.frames, frame_rows(chunk))

    def forward(self, prepared: Sequence[PreparedChunk]) -> list[ForwardedChunk]:
        """Return the embeddings of some chunks, in their order.

        Raises OutOfMemory, ModelFailed, and NotReady where no replica answers in time.
        """
        return [
            ForwardedChunk(p.chunk, audio, video)
            for p, (audio, video) in zip(
                prepared,
                self._answers(self._model.embed_chunk.remote, [p.chunk for p in prepared]),
                strict=True,
            )
        ]

    def finish(self, forwarded: ForwardedChunk) -> list[WindowEmbedding]:
        """Give the vectors, which a replica finished, back to the chunk's windows."""
        return of_windows(forwarded.chunk, forwarded.audio, forwarded.video)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences as they are: (len(texts), D) float32. Raises as `forward` does."""
        (vectors,) = self._answers(self._model.embed_texts.remote, [list(texts)])
        return np.asarray(vectors, np.float32)

    def embed_classes(self, classes: Sequence[ClassText]) -> NDArray[np.float32]:
        """Embed classes by their words: (len(classes), D) float32. Raises as `forward` does."""
        (vectors,) = self._answers(self._model.embed_classes.remote, [list(classes)])
        return np.asarray(vectors, np.float32)

    def warm_up(self) -> None:
        """Ask once for everything; a replica that answers is warm."""
        self.forward([self.prepare(blank_chunk(self.decode_spec))])

    def _answers(
        self, call: "Callable[[Any], DeploymentResponse[Any]]", items: Sequence[Any]
    ) -> list[Any]:
        deadline = time.monotonic() + self._call_seconds
        responses = [call(item) for item in items]
        try:
            return [
                self._answer(call, item, response, deadline)
                for item, response in zip(items, responses, strict=True)
            ]
        except NotReady:
            # Copies that are behind need not work for those who have gone.
            for response in responses:
                response.cancel()
            raise

    def _answer(
        self,
        call: "Callable[[Any], DeploymentResponse[Any]]",
        item: Any,
        response: "DeploymentResponse[Any]",
        deadline: float,
    ) -> Any:
        while True:
            try:
                return response.result(timeout_s=max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                raise NotReady(
                    f"No copy of the model answered within {self._call_seconds:g} seconds, which "
                    "AVGZSL_RAY_CALL_SECONDS allows; try again later."
                ) from error
            except LOST as error:
                logger.warning("a copy of the model was lost, asking another: %s", error)
            time.sleep(PAUSE_SECONDS)
            response = call(item)
