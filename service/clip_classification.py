"""A file classified, from its bytes to the answer: for a request, and for a job."""

from pathlib import Path

from starlette.concurrency import run_in_threadpool

from model.media.limits import MediaLimits
from service import schemas, shaping
from service.pipeline import OnProgress
from service.serving import ServedModel


async def classify_file(
    model: ServedModel,
    path: Path,
    options: schemas.ClassifyOptions,
    *,
    limits: MediaLimits | None = None,
    on_progress: OnProgress | None = None,
) -> schemas.Classification:
    """Embed a file, rank labels for it, and shape the answer.

    `limits` and `on_progress` are those of `Pipeline.embed_clip`; raises what that and
    `Classifier.classify` raise.
    """
    embedding = await model.pipeline.embed_clip(
        path, modality=options.modality, limits=limits, on_progress=on_progress
    )
    ranked = await model.classifier.classify(
        embedding, candidates=options.candidate_labels, with_windows=options.windows
    )
    # Labels for each of many windows: long enough to hold others up.
    return await run_in_threadpool(
        shaping.classification,
        ranked,
        embedding,
        top_k=options.top_k,
        model_id=model.card.model_id,
    )
