"""`POST /retrieve` and `/retrieve/by-file`: which stored clips fit words, a clip or a file."""

from fastapi import APIRouter

from model.media.types import ModalityChoice
from service import schemas, shaping
from service.documentation import multipart_body, problems
from service.resources import ResourcesDep
from service.routes.json_route import JsonRoute
from service.routes.uploads import UploadDep
from service.serving import ServedModel

router = APIRouter(tags=["retrieve"], route_class=JsonRoute)


@router.post(
    "/retrieve",
    summary="Find clips by words or by a clip",
    responses=problems(400, 404, 413, 415, 422, 429),
)
async def retrieve(body: schemas.RetrieveRequest, resources: ResourcesDep) -> schemas.Results:
    """Find the stored clips that are most like some words or a stored clip."""
    options = shaping.search_options(body)

    async def answered(model: ServedModel) -> schemas.Results:
        if body.clip_id is not None:
            hits = await model.retriever.by_clip(body.clip_id, options)
        else:
            assert body.query is not None, "the schema takes exactly one of the two"
            hits = await model.retriever.by_words(body.query, options)
        return shaping.results(hits, model_id=model.card.model_id)

    return await resources.serving.answer(answered)


@router.post(
    "/retrieve/by-file",
    summary="Find clips by a file",
    openapi_extra=multipart_body(schemas.RetrieveForm),
    responses=problems(400, 413, 415, 422, 429, 507),
)
async def retrieve_by_file(upload: UploadDep, resources: ResourcesDep) -> schemas.Results:
    """Find the stored clips that are most like a file, which is not stored."""
    form = upload.form(schemas.RetrieveForm)
    options = shaping.search_options(form)
    by = options.query_modality
    modality: ModalityChoice = "auto" if by == "both" else by

    async def answered(model: ServedModel) -> schemas.Results:
        embedding = await model.pipeline.embed_clip(upload.path, modality=modality)
        hits = await model.retriever.by_embedding(embedding, options)
        return shaping.results(hits, model_id=model.card.model_id)

    return await resources.serving.answer(answered)
