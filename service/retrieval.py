"""Which stored clips fit some words, a stored clip or a file."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from index.fusion import unit_length, weighted_mean
from index.types import Hit, ModalityWeights, SearchFilter, SearchModality
from model.config import Calibration
from model.embedding import ClipEmbedding
from model.errors import ModalityMissing
from service.observation import Observation
from service.pipeline import Pipeline, Vector

if TYPE_CHECKING:
    from index.library import Library


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What every kind of search takes.

    Attributes:
        modality: by which of their embeddings the stored clips are compared.
        query_modality: by which of its own a clip or a file is; words have but one.
        top_k: how many results at most.
        filter: which clips may be results.
        minus: words that the results should not be like.
    """

    modality: SearchModality
    query_modality: SearchModality
    top_k: int
    filter: SearchFilter | None
    minus: tuple[str, ...]


class Retriever:
    """Turns what is searched by into a vector and asks the library."""

    def __init__(self, pipeline: Pipeline, library: "Library", observation: Observation) -> None:
        embedder = pipeline.engine.embedder
        self._observation = observation
        self._pipeline = pipeline
        self._library = library
        self._weights = modality_weights(embedder.calibration)
        self._space_id = embedder.card.space_id

    async def by_words(self, words: str, options: SearchOptions) -> list[Hit]:
        """Search by words. Raises ModelMismatch, Overloaded."""
        query, *minus = await self._pipeline.embed_texts([words, *options.minus])
        return await self._search(query, options, minus=minus)

    async def by_clip(self, clip_id: str, options: SearchOptions) -> list[Hit]:
        """Search by a stored clip, which is not a result.

        Raises:
            ClipNotFound: no clip has this id.
            ModalityMissing: the clip has not what should be compared.
            ModelMismatch: the library is of another model by now.
            Overloaded: too many texts wait to be embedded.
        """
        vector = await run_in_threadpool(self._library.clip_vector, clip_id, options.query_modality)
        query = _required(vector, f"The clip {clip_id}", options.query_modality)
        minus = await self._embedded(options.minus)
        return await self._search(query, options, minus=minus, exclude=(clip_id,))

    async def by_embedding(self, embedding: ClipEmbedding, options: SearchOptions) -> list[Hit]:
        """Search by a file that was embedded.

        Raises ModalityMissing, ModelMismatch, Overloaded.
        """
        vector = self._file_vector(embedding, options.query_modality)
        query = _required(vector, "The file", options.query_modality)
        minus = await self._embedded(options.minus)
        return await self._search(query, options, minus=minus)

    async def _embedded(self, texts: Sequence[str]) -> Sequence[Vector]:
        return list(await self._pipeline.embed_texts(texts)) if texts else ()

    async def _search(
        self,
        query: Vector,
        options: SearchOptions,
        *,
        minus: Sequence[Vector],
        exclude: Collection[str] = (),
    ) -> list[Hit]:
        with self._observation.timed("search"):
            return await run_in_threadpool(
                self._library.search,
                query,
                modality=options.modality,
                top_k=options.top_k,
                filter=options.filter,
                minus=minus,
                exclude=exclude,
                model_id=self._space_id,
            )

    def _file_vector(self, embedding: ClipEmbedding, modality: SearchModality) -> Vector | None:
        """Return the vector that the library would have of the same file stored."""
        if modality != "both":
            return embedding.audio if modality == "audio" else embedding.video
        mean = weighted_mean(embedding.audio, embedding.video, self._weights)
        return None if mean is None else unit_length(mean)


def modality_weights(calibration: Calibration) -> ModalityWeights:
    """Return the weights by which a clip's two modalities become one vector."""
    return ModalityWeights(calibration.audio_weight, calibration.video_weight)


def _required(vector: Vector | None, what: str, modality: SearchModality) -> Vector:
    if vector is None:
        lacks = "sound or pictures" if modality == "both" else f"usable {modality}"
        raise ModalityMissing(
            f"{what} has no {lacks} to search by; try another query_modality or clip."
        )
    return vector
