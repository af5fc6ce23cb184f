"""`POST /classify`: which label fits a clip."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from index.job_types import NewJob
from service import schemas, shaping
from service.classification import distinct_names
from service.documentation import multipart_body, problems
from service.resources import ResourcesDep
from service.routes.uploads import ModeQuery, UploadOrJobDep, accepted, is_for_later
from service.serving import ServedModel

router = APIRouter(tags=["classify"])


@router.post(
    "/classify",
    summary="Rank labels for a clip",
    openapi_extra=multipart_body(schemas.ClassifyForm),
    responses={
        202: {"model": schemas.JobAccepted, "description": "With `mode=async`: it is on disk."},
        **problems(400, 409, 413, 415, 422, 429, 507),
    },
)
async def classify(
    upload: UploadOrJobDep,
    resources: ResourcesDep,
    request: Request,
    response: Response,
    mode: ModeQuery = None,
) -> schemas.Classification | schemas.JobAccepted:
    """Rank all enabled classes, or the names that the request brings, by how well they fit."""
    form = upload.form(schemas.ClassifyForm)
    candidates = distinct_names(
        form.candidate_labels, limit=resources.settings.max_candidate_labels
    )
    if is_for_later(request, mode, form.mode):
        options = {**form.model_dump(exclude={"mode"}), "candidate_labels": list(candidates)}
        job = await resources.jobs.add_upload(NewJob("classify", options), upload)
        return accepted(job, response)

    async def answered(model: ServedModel) -> schemas.Classification:
        embedding = await model.pipeline.embed_clip(upload.path, modality=form.modality)
        ranked = await model.classifier.classify(
            embedding, candidates=candidates, with_windows=form.windows
        )
        # A label for each of many windows: long enough to hold others up.
        return await run_in_threadpool(
            shaping.classification,
            ranked,
            embedding,
            top_k=form.top_k,
            model_id=model.card.model_id,
        )

    return await resources.serving.answer(answered)
