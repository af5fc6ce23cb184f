"""Which label fits a clip and each of its windows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from index.names import checked_name, name_key
from index.types import LabelScores
from model.config import Calibration
from model.embedding import ClassText, ClipEmbedding
from model.media.types import Modality
from model.scoring import LabelRanking, rank_labels
from service.errors import NoClasses, TooManyLabels
from service.observation import Observation
from service.pipeline import Pipeline, Vector

if TYPE_CHECKING:
    from index.library import Library

Present = Mapping[Modality, Vector]
"""The embeddings that a clip or a window has."""


@dataclass(frozen=True, slots=True)
class Classification:
    """Rankings of the same C candidates for a clip and its windows, None where nothing is known.

    `windows` is empty unless asked for.
    """

    names: tuple[str, ...]
    seen: NDArray[np.bool_]
    clip: LabelRanking | None
    windows: tuple[LabelRanking | None, ...]


class Classifier:
    """Ranks the library's classes, or names that a caller brings, by their nearness to a clip."""

    def __init__(self, pipeline: Pipeline, library: "Library", observation: Observation) -> None:
        embedder = pipeline.engine.embedder
        self._observation = observation
        self._pipeline = pipeline
        self._library = library
        self._calibration = embedder.calibration
        self._card = embedder.card

    async def classify(
        self, embedding: ClipEmbedding, *, candidates: Sequence[str], with_windows: bool
    ) -> Classification:
        """Rank `candidates`, or every enabled class where there is none.

        A candidate that is the name of an enabled class is that class, with all that it knows.

        Raises:
            NoClasses: there is nothing to choose from.
            ModelMismatch: the library is of another model by now.
            Overloaded: too many texts wait to be embedded.
        """
        rows = [_present(embedding.audio, embedding.video)]
        if with_windows:
            rows += [_present(w.audio, w.video) for w in embedding.windows]
        queries = np.array([v for row in rows for v in row.values()], np.float32)
        queries = queries.reshape(-1, self._card.embedding_dim)
        with self._observation.timed("search"):
            scores, rankings = await run_in_threadpool(
                self._stored_scores, queries, () if candidates else rows
            )
        if candidates:
            scores = await self._candidate_scores(queries, candidates, scores)
            rankings = await run_in_threadpool(_rankings, rows, scores, self._calibration)
        elif not scores.names:
            raise NoClasses(
                "There is no class to choose from; add one with POST /classes, or send "
                "candidate_labels."
            )
        clip, *windows = rankings
        return Classification(scores.names, scores.seen, clip, tuple(windows))

    def _stored_scores(
        self, queries: NDArray[np.float32], rows: Sequence[Present]
    ) -> tuple[LabelScores, list[LabelRanking | None]]:
        """Search the library's classes and rank them for `rows`: one change of threads for both."""
        scores = self._library.label_similarities(queries, model_id=self._card.space_id)
        return scores, _rankings(rows, scores, self._calibration) if scores.names else []

    async def _candidate_scores(
        self, queries: NDArray[np.float32], candidates: Sequence[str], stored: LabelScores
    ) -> LabelScores:
        columns = {name_key(name): column for column, name in enumerate(stored.names)}
        unknown = [name for name in candidates if name_key(name) not in columns]
        vectors = await self._pipeline.embed_classes([ClassText(name) for name in unknown])
        computed = {name: queries @ vector for name, vector in zip(unknown, vectors, strict=True)}
        similarity = [
            computed[name] if name in computed else stored.similarity[:, columns[name_key(name)]]
            for name in candidates
        ]
        seen = [
            name not in computed and stored.seen[columns[name_key(name)]] for name in candidates
        ]
        return LabelScores(tuple(candidates), np.array(seen, bool), np.stack(similarity, axis=1))


def distinct_names(names: Sequence[str], *, limit: int) -> tuple[str, ...]:
    """Return candidate names without those that differ in case or spacing only.

    Raises:
        InvalidClassName: one is blank, too long or unprintable.
        TooManyLabels: there are more than `limit`.
    """
    if len(names) > limit:
        raise TooManyLabels(
            f"There are {len(names)} candidate labels; the limit is {limit}, send fewer."
        )
    distinct: dict[str, str] = {}
    for name in names:
        checked = checked_name(name)
        distinct.setdefault(name_key(checked), checked)
    return tuple(distinct.values())


def _present(audio: Vector | None, video: Vector | None) -> Present:
    present: dict[Modality, Vector] = {}
    if audio is not None:
        present["audio"] = audio
    if video is not None:
        present["video"] = video
    return present


def _rankings(
    rows: Sequence[Present], scores: LabelScores, calibration: Calibration
) -> list[LabelRanking | None]:
    """Rank the labels for each row; `scores` holds one query per modality of each, in order."""
    queries = iter(scores.similarity)
    of_rows = [{modality: next(queries) for modality in row} for row in rows]
    return [rank_labels(s, scores.seen, calibration) if s else None for s in of_rows]
