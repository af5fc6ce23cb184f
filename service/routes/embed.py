"""`POST /embed`: vectors, for people who keep their own vector store."""

from fastapi import APIRouter
from starlette.requests import Request

from service import schemas, shaping
from service.bodies import content_type, parse_json, read_body, validated
from service.documentation import multipart_or_json_body, problems
from service.resources import Resources, ResourcesDep
from service.routes.uploads import receiving
from service.serving import ServedModel

router = APIRouter(tags=["embed"])


@router.post(
    "/embed",
    summary="Embed a file or texts",
    openapi_extra=multipart_or_json_body(schemas.EmbedForm, schemas.EmbedTexts),
    responses=problems(400, 413, 415, 422, 429, 507),
)
async def embed(
    request: Request, resources: ResourcesDep
) -> schemas.ClipVectors | schemas.TextVectors:
    """Embed the file of a multipart form, or the texts of a JSON body, into one space."""
    if content_type(request) == "multipart/form-data":
        return await _embed_file(request, resources)
    return await _embed_texts(request, resources)


async def _embed_file(request: Request, resources: Resources) -> schemas.ClipVectors:
    async with receiving(request, resources) as upload:
        form = upload.form(schemas.EmbedForm)

        async def answered(model: ServedModel) -> schemas.ClipVectors:
            embedding = await model.pipeline.embed_clip(upload.path, modality=form.modality)
            return shaping.clip_vectors(embedding, model_id=model.card.model_id)

        return await resources.serving.answer(answered)


async def _embed_texts(request: Request, resources: Resources) -> schemas.TextVectors:
    body = await read_body(request, limit=resources.settings.max_json_bytes)
    texts = validated(schemas.EmbedTexts, parse_json(body)).texts

    async def answered(model: ServedModel) -> schemas.TextVectors:
        vectors = await model.pipeline.embed_texts(texts)
        return schemas.TextVectors(
            vectors=vectors.tolist(),
            model_id=model.card.model_id,
        )

    return await resources.serving.answer(answered)
