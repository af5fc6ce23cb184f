"""`POST /classify`: which label fits a clip."""

from fastapi import APIRouter

from service import schemas, shaping
from service.classification import distinct_names
from service.documentation import multipart_body, problems
from service.resources import ResourcesDep
from service.routes.uploads import UploadDep

router = APIRouter(tags=["classify"])


@router.post(
    "/classify",
    summary="Rank labels for a clip",
    openapi_extra=multipart_body(schemas.ClassifyForm),
    responses=problems(400, 409, 413, 415, 422, 429, 507),
)
async def classify(upload: UploadDep, resources: ResourcesDep) -> schemas.Classification:
    """Rank all enabled classes, or the names that the request brings, by how well they fit."""
    form = upload.form(schemas.ClassifyForm)
    candidates = distinct_names(
        form.candidate_labels, limit=resources.settings.max_candidate_labels
    )
    embedding = await resources.pipeline.embed_clip(upload.path, modality=form.modality)
    ranked = await resources.classifier.classify(
        embedding, candidates=candidates, with_windows=form.windows
    )
    return shaping.classification(
        ranked,
        embedding,
        top_k=form.top_k,
        model_id=resources.embedder.card.model_id,
    )
