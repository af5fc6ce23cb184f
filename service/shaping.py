"""From what the library and the model return to what goes over the wire."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from index import job_types
from index import types as library
from model.embedding import ClipEmbedding
from model.media.sound_views import Waveform
from model.media.types import ClipSummary, Modality
from model.scoring import LabelRanking
from service import schemas
from service.classification import Classification
from service.model_swap import SwapStatus
from service.retrieval import SearchOptions

Vector = NDArray[np.float32]

NOTHING_USED = (
    "Neither sound nor pictures could be used, so no label was ranked; `modalities` tells why."
)


def classification(
    ranked: Classification,
    embedding: ClipEmbedding,
    *,
    top_k: int,
    model_id: str,
) -> schemas.Classification:
    """Shape the answer of `POST /classify`."""
    windows = [
        schemas.WindowLabels(
            start_seconds=window.start_seconds,
            end_seconds=window.end_seconds,
            labels=_labels(ranked, ranking, min(top_k, schemas.WINDOW_LABELS_LIMIT)),
        )
        # No rankings of windows at all where they were not asked for.
        for window, ranking in zip(embedding.windows, ranked.windows, strict=False)
    ]
    unusable = ranked.clip is None
    return schemas.Classification(
        labels=_labels(ranked, ranked.clip, top_k),
        unknown_probability=1.0 if ranked.clip is None else ranked.clip.unknown_probability,
        modalities=_modalities_of_summary(embedding.summary),
        duration_seconds=embedding.summary.duration_seconds,
        windows=windows,
        warnings=[*embedding.summary.warnings, *([NOTHING_USED] if unusable else [])],
        model_id=model_id,
    )


def results(hits: Sequence[library.Hit], *, model_id: str) -> schemas.Results:
    """Shape the answer of `POST /retrieve`."""
    return schemas.Results(
        results=[
            schemas.Result(
                clip_id=hit.clip.clip_id,
                score=hit.score,
                start_seconds=hit.start_seconds,
                end_seconds=hit.end_seconds,
                filename=hit.clip.filename,
                source=hit.clip.source,
                tags=list(hit.clip.tags),
                media_url=_media_url(hit.clip),
                thumbnail_url=_thumbnail_url(hit.clip),
            )
            for hit in hits
        ],
        model_id=model_id,
    )


def class_(stored: library.ClassName) -> schemas.Class:
    """Shape a class."""
    return schemas.Class(
        class_id=stored.class_id,
        name=stored.name,
        synonyms=list(stored.synonyms),
        description=stored.description,
        seen=stored.seen,
        enabled=stored.enabled,
        created_at=stored.created_at,
    )


def clip(stored: library.Clip) -> schemas.Clip:
    """Shape a clip."""
    return schemas.Clip(
        clip_id=stored.clip_id,
        filename=stored.filename,
        source=stored.source,
        content_type=stored.content_type,
        sha256=stored.content_hash,
        size_bytes=stored.size_bytes,
        duration_seconds=stored.duration_seconds,
        modalities=_modalities_of_records(stored.modalities),
        tags=list(stored.tags),
        warnings=list(stored.warnings),
        segment_count=stored.segment_count,
        created_at=stored.created_at,
        media_url=_media_url(stored),
        thumbnail_url=_thumbnail_url(stored),
        model_id=stored.model_id,
    )


def job(stored: job_types.Job) -> schemas.Job:
    """Shape a job."""
    counts = stored.counts
    return schemas.Job(
        job_id=stored.job_id,
        kind=stored.kind,
        name=stored.file_name or stored.options["path"],
        state=stored.state,
        revision=stored.revision,
        counts=schemas.JobCounts(
            total=counts.total,
            done=counts.done,
            failed=counts.failed,
            cancelled=counts.cancelled,
            skipped=counts.skipped,
        ),
        current=[
            schemas.CurrentItem(
                name=item.name,
                decoded_seconds=item.decoded_seconds,
                declared_seconds=item.declared_seconds,
            )
            for item in stored.current
        ],
        result=(
            None if stored.result is None else schemas.Classification.model_validate(stored.result)
        ),
        error=_job_error(stored.failure),
        created_at=stored.created_at,
        started_at=stored.started_at,
        finished_at=stored.finished_at,
    )


def job_item(stored: job_types.JobItem) -> schemas.JobItem:
    """Shape a file of a job."""
    return schemas.JobItem(
        name=stored.name,
        state=stored.state,
        attempts=stored.attempts,
        clip_id=stored.clip_id,
        duplicate_of=stored.duplicate_of,
        error=_job_error(stored.failure),
    )


def _job_error(failure: job_types.JobFailure | None) -> schemas.JobError | None:
    return None if failure is None else schemas.JobError(code=failure.code, detail=failure.detail)


def clip_vectors(embedding: ClipEmbedding, *, model_id: str) -> schemas.ClipVectors:
    """Shape the answer of `POST /embed` for a file."""
    return schemas.ClipVectors(
        audio=_numbers(embedding.audio),
        video=_numbers(embedding.video),
        windows=[
            schemas.WindowVectors(
                start_seconds=window.start_seconds,
                end_seconds=window.end_seconds,
                audio=_numbers(window.audio),
                video=_numbers(window.video),
            )
            for window in embedding.windows
        ],
        modalities=_modalities_of_summary(embedding.summary),
        duration_seconds=embedding.summary.duration_seconds,
        warnings=list(embedding.summary.warnings),
        model_id=model_id,
    )


def search_filter(
    wanted: schemas.RetrieveFilter | schemas.ClipQuery | None,
) -> library.SearchFilter | None:
    """Shape a filter for the library."""
    if wanted is None:
        return None
    clip_ids = wanted.clip_ids if isinstance(wanted, schemas.RetrieveFilter) else None
    return library.SearchFilter(
        tags=tuple(wanted.tags),
        class_name=wanted.class_name,
        modality=wanted.modality,
        created_after=wanted.created_after,
        created_before=wanted.created_before,
        clip_ids=None if clip_ids is None else tuple(clip_ids),
        content_hash=wanted.sha256 if isinstance(wanted, schemas.ClipQuery) else None,
    )


def search_options(wanted: schemas.RetrieveRequest | schemas.RetrieveForm) -> SearchOptions:
    """Shape what the searches have in common."""
    return SearchOptions(
        modality=wanted.modality,
        query_modality=wanted.query_modality or wanted.modality,
        top_k=wanted.top_k,
        filter=search_filter(wanted.filter),
        minus=tuple(wanted.minus),
    )


def reindex_progress(progress: library.ReindexProgress | None) -> schemas.ReindexProgress | None:
    """Shape the part of `GET /model` that tells of a change to another model."""
    if progress is None:
        return None
    return schemas.ReindexProgress(
        model_id=progress.model_id,
        clips=progress.clips,
        done=progress.done,
        failed=progress.failed,
        failures=[
            schemas.ReindexFailure(clip_id=f.clip_id, filename=f.filename, reason=f.reason)
            for f in progress.failures
        ],
    )


def model_swap(status: SwapStatus) -> schemas.ModelSwap:
    """Shape the change to another model."""
    return schemas.ModelSwap(
        model=status.model,
        state=status.state,
        model_id=None if status.card is None else status.card.model_id,
        space_id=None if status.card is None else status.card.space_id,
        error=_job_error(status.failure),
        started_at=status.started_at,
        finished_at=status.finished_at,
    )


def _labels(
    ranked: Classification, ranking: LabelRanking | None, top_k: int
) -> list[schemas.Label]:
    if ranking is None:
        return []
    best_first = np.argsort(-ranking.score, kind="stable")[:top_k]
    return [_label(ranked, ranking, int(column)) for column in best_first]


def _label(ranked: Classification, ranking: LabelRanking, column: int) -> schemas.Label:
    def by(modality: Modality) -> float | None:
        probabilities = ranking.by_modality.get(modality)
        return None if probabilities is None else float(probabilities[column])

    return schemas.Label(
        name=ranked.names[column],
        score=float(ranking.score[column]),
        probability=float(ranking.probability[column]),
        seen=bool(ranked.seen[column]),
        by_modality=schemas.LabelByModality(audio=by("audio"), video=by("video")),
    )


def _modalities_of_summary(summary: ClipSummary) -> schemas.Modalities:
    return schemas.Modalities(
        audio=schemas.ModalityUse(used=summary.audio.used, reason=summary.audio.reason),
        video=schemas.ModalityUse(used=summary.video.used, reason=summary.video.reason),
    )


def _modalities_of_records(records: Mapping[str, library.ModalityRecord]) -> schemas.Modalities:
    audio, video = records["audio"], records["video"]
    return schemas.Modalities(
        audio=schemas.ModalityUse(used=audio.used, reason=audio.reason),
        video=schemas.ModalityUse(used=video.used, reason=video.reason),
    )


def _media_url(stored: library.Clip) -> str:
    return f"/clips/{stored.clip_id}/media"


def waveform(waveform: Waveform) -> schemas.Waveform:
    """Shape a waveform; four decimals are more than any screen shows."""
    return schemas.Waveform(
        duration_seconds=round(waveform.duration_seconds, 6),
        lowest=[round(float(x), 4) for x in waveform.lowest],
        highest=[round(float(x), 4) for x in waveform.highest],
    )


def _thumbnail_url(stored: library.Clip) -> str | None:
    return f"/clips/{stored.clip_id}/thumbnail" if stored.has_thumbnail else None


def _numbers(vector: Vector | None) -> list[float] | None:
    if vector is None:
        return None
    numbers: list[float] = vector.tolist()
    return numbers
