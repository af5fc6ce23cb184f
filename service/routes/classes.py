"""`/classes`: the names that answers may give, added and changed while the service runs."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from index.names import checked_description, checked_name, checked_synonyms
from index.types import ClassName, NewClass
from model.embedding import ClassText
from service import schemas, shaping
from service.documentation import problems
from service.resources import ResourcesDep
from service.routes.json_route import JsonRoute
from service.serving import ServedModel

router = APIRouter(tags=["classes"], route_class=JsonRoute)


@router.post(
    "/classes",
    status_code=201,
    summary="Add a class",
    responses=problems(400, 409, 413, 415, 422, 429, 507),
)
async def add_class(
    body: schemas.ClassRequest, resources: ResourcesDep, response: Response
) -> schemas.Class:
    """Add a class, without any training; the next answer may name it."""
    text = _checked_text(body.name, body.synonyms, body.description)

    async def added(model: ServedModel) -> ClassName:
        (vector,) = await model.pipeline.embed_classes([text])
        new = NewClass(text.name, vector, text.synonyms, text.description)
        return await run_in_threadpool(
            resources.library.add_class, new, model_id=model.card.space_id
        )

    stored = await resources.serving.answer(added)
    response.headers["Location"] = f"/classes/{stored.class_id}"
    return shaping.class_(stored)


@router.get("/classes", summary="List classes", responses=problems(422))
async def list_classes(
    query: Annotated[schemas.ClassQuery, Query()], resources: ResourcesDep
) -> schemas.Classes:
    """List classes in the order in which they were added."""
    page = await run_in_threadpool(
        resources.library.list_classes,
        offset=query.offset,
        limit=query.limit,
        query=query.query,
        seen=query.seen,
    )
    items = [shaping.class_(stored) for stored in page.items]
    return schemas.Classes(items=items, total=page.total, offset=page.offset, limit=query.limit)


@router.get("/classes/{class_id}", summary="Show a class", responses=problems(404))
async def get_class(class_id: str, resources: ResourcesDep) -> schemas.Class:
    """Show one class."""
    return shaping.class_(await run_in_threadpool(resources.library.get_class, class_id))


@router.patch(
    "/classes/{class_id}",
    summary="Change a class",
    responses=problems(400, 404, 409, 413, 415, 422, 429, 507),
)
async def update_class(
    class_id: str, body: schemas.ClassPatch, resources: ResourcesDep
) -> schemas.Class:
    """Change what is given; where its words change, the class is embedded anew."""

    async def changed(model: ServedModel) -> ClassName:
        current = await run_in_threadpool(resources.library.get_class, class_id)
        text = _changed_text(current, body)
        vector = None
        if text != ClassText(current.name, current.synonyms, current.description):
            (vector,) = await model.pipeline.embed_classes([text])
        return await run_in_threadpool(
            resources.library.update_class,
            class_id,
            name=body.name,
            synonyms=body.synonyms,
            description=body.description,
            enabled=body.enabled,
            vector=vector,
            model_id=model.card.space_id,
        )

    async with resources.class_changes:
        return shaping.class_(await resources.serving.answer(changed))


@router.delete(
    "/classes/{class_id}", status_code=204, summary="Remove a class", responses=problems(404, 507)
)
async def remove_class(class_id: str, resources: ResourcesDep) -> None:
    """Remove a class; answers stop naming it at once."""
    await run_in_threadpool(resources.library.remove_class, class_id)


def _checked_text(name: str, synonyms: list[str], description: str) -> ClassText:
    # The library checks too, but only after the model has worked on ten thousand characters.
    name = checked_name(name)
    return ClassText(name, checked_synonyms(name, synonyms), checked_description(description))


def _changed_text(current: ClassName, body: schemas.ClassPatch) -> ClassText:
    return _checked_text(
        current.name if body.name is None else body.name,
        list(current.synonyms) if body.synonyms is None else body.synonyms,
        current.description if body.description is None else body.description,
    )
