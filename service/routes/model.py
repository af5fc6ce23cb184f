"""`/model`: which model answers, how much it knows, and the change to another one."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from service import schemas, shaping
from service.documentation import problems
from service.resources import ResourcesDep
from service.routes.json_route import JsonRoute

router = APIRouter(tags=["model"], route_class=JsonRoute)


@router.get("/model", summary="Show the model and the library's size")
async def get_model(resources: ResourcesDep) -> schemas.ModelInfo:
    """Show the model that answers and how many classes and clips there are."""
    status = await run_in_threadpool(resources.library.status)
    card = resources.serving.current.card
    swap = resources.swap.status
    return schemas.ModelInfo(
        model_id=card.model_id,
        space_id=card.space_id,
        head=card.head,
        audio_backbone=card.audio_backbone,
        video_backbone=card.video_backbone,
        text_encoder=card.text_encoder,
        embedding_dim=card.embedding_dim,
        device=card.device,
        vector_store=status.vector_store,
        classes=status.classes,
        clips=status.clips,
        segments=status.segments,
        vectors=status.vectors,
        indexes={
            name: schemas.VectorIndex(kind=index.kind, recall=index.recall, training=index.training)
            for name, index in status.indexes.items()
        },
        reindex=shaping.reindex_progress(status.reindex),
        swap=None if swap is None else shaping.model_swap(swap),
    )


@router.post(
    "/model",
    status_code=202,
    summary="Change the model",
    responses=problems(400, 403, 404, 409, 413, 415, 422),
)
async def swap_model(
    body: schemas.ModelRequest, resources: ResourcesDep, response: Response
) -> schemas.ModelSwap:
    """Load another model, embed all that is stored anew, and let it answer; until then, the former.

    `GET /model` tells how far it is.
    """
    status = await run_in_threadpool(
        resources.swap.start, body.model, accept_failures=body.accept_failures
    )
    response.headers["Location"] = "/model"
    return shaping.model_swap(status)


@router.delete(
    "/model/swap",
    status_code=204,
    summary="Give a change of model up",
    responses=problems(404),
)
async def cancel_swap(resources: ResourcesDep) -> None:
    """Give the change up that is under way; the former model goes on answering.

    `GET /model` tells when it has ended.
    """
    await run_in_threadpool(resources.swap.cancel)
