"""`POST /classify`: which label fits a clip."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from index.job_types import NewJob
from service import schemas
from service.classification import distinct_names
from service.clip_classification import classify_file
from service.documentation import multipart_body, problems
from service.resources import ResourcesDep
from service.routes.uploads import ModeQuery, UploadOrJobDep, accepted, is_for_later

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
    form = form.model_copy(update={"candidate_labels": list(candidates)})
    if is_for_later(request, mode, form.mode):
        new = NewJob("classify", form.model_dump(exclude={"mode"}))
        return accepted(await resources.jobs.add_upload(new, upload), response)
    return await resources.serving.answer(lambda model: classify_file(model, upload.path, form))
