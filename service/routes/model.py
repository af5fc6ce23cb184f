"""`GET /model`: which model answers, and how much it knows."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from service import schemas, shaping
from service.resources import ResourcesDep

router = APIRouter(tags=["model"])


@router.get("/model", summary="Show the model and the library's size")
async def get_model(resources: ResourcesDep) -> schemas.ModelInfo:
    """Show the model that answers and how many classes and clips there are."""
    status = await run_in_threadpool(resources.library.status)
    card = resources.embedder.card
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
    )
