"""`/clips`: the stored clips and their files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from index.errors import DuplicateClip
from index.job_types import NewJob
from index.names import checked_tags
from index.types import Clip
from model.errors import ModalityMissing
from model.media.sound_views import draw_spectrogram, read_waveform
from service import schemas, shaping
from service.content_types import safe_content_type
from service.documentation import multipart_body, problems
from service.errors import SoundNotFound, ThumbnailNotFound
from service.media_response import derived_response, media_response
from service.multipart_form import safe_filename
from service.pipeline import new_clip
from service.resources import Resources, ResourcesDep
from service.routes.json_route import JsonRoute
from service.routes.uploads import ModeQuery, UploadOrJobDep, accepted, is_for_later
from service.serving import ServedModel
from service.upload import Upload

router = APIRouter(tags=["clips"], route_class=JsonRoute)


@router.post(
    "/clips",
    status_code=201,
    summary="Store a clip",
    openapi_extra=multipart_body(schemas.ClipForm),
    responses={
        200: {"model": schemas.Clip, "description": "The clip of the same file that is there."},
        202: {"model": schemas.JobAccepted, "description": "With `mode=async`: it is on disk."},
        **problems(400, 413, 415, 422, 429, 507),
    },
)
async def add_clip(
    upload: UploadOrJobDep,
    resources: ResourcesDep,
    request: Request,
    response: Response,
    mode: ModeQuery = None,
) -> schemas.Clip | schemas.JobAccepted:
    """Store a clip; the next search finds it."""
    form = upload.form(schemas.ClipForm)
    tags, skips = checked_tags(form.tags), form.if_duplicate == "skip"
    if is_for_later(request, mode, form.mode):
        new = NewJob("clip", {**form.model_dump(exclude={"mode"}), "tags": list(tags)})
        return accepted(await resources.jobs.add_upload(new, upload), response)
    stored = await run_in_threadpool(resources.library.clip_of, upload.sha256) if skips else None
    if stored is not None:
        response.status_code = 200
    else:
        try:
            stored = await _store(upload, form, tags, resources)
        except DuplicateClip as error:
            # Another request was faster.
            stored = await run_in_threadpool(resources.library.get_clip, error.clip_id)
            response.status_code = 200
    response.headers["Location"] = f"/clips/{stored.clip_id}"
    return shaping.clip(stored)


async def _store(
    upload: Upload, form: schemas.ClipForm, tags: Sequence[str], resources: Resources
) -> Clip:
    async def stored(model: ServedModel) -> Clip:
        embedding, thumbnail = await model.pipeline.embed_clip_with_thumbnail(upload.path)
        new = new_clip(
            embedding,
            filename=upload.filename,
            content_type=safe_content_type(upload.content_type, upload.filename),
            tags=tags,
            thumbnail=thumbnail,
            source=form.source,
        )
        return await run_in_threadpool(
            resources.library.add_clip,
            new,
            upload.path,
            model_id=model.card.space_id,
            refuse_duplicate=form.if_duplicate == "skip",
        )

    return await resources.serving.answer(stored)


@router.get("/clips", summary="List clips", responses=problems(422))
async def list_clips(
    query: Annotated[schemas.ClipQuery, Query()], resources: ResourcesDep
) -> schemas.Clips:
    """List clips, newest first."""
    page = await run_in_threadpool(
        resources.library.list_clips,
        filter=shaping.search_filter(query),
        offset=query.offset,
        limit=query.limit,
    )
    items = [shaping.clip(stored) for stored in page.items]
    return schemas.Clips(items=items, total=page.total, offset=page.offset, limit=query.limit)


@router.get("/clips/{clip_id}", summary="Show a clip", responses=problems(404))
async def get_clip(clip_id: str, resources: ResourcesDep) -> schemas.Clip:
    """Show one clip."""
    return shaping.clip(await run_in_threadpool(resources.library.get_clip, clip_id))


@router.patch(
    "/clips/{clip_id}",
    summary="Change a clip",
    responses=problems(400, 404, 413, 415, 422, 507),
)
async def update_clip(
    clip_id: str, body: schemas.ClipPatch, resources: ResourcesDep
) -> schemas.Clip:
    """Change a clip's tags, file name or source, whichever is given."""
    filename = None if body.filename is None else safe_filename(body.filename)
    stored = await run_in_threadpool(
        resources.library.update_clip,
        clip_id,
        tags=body.tags,
        filename=filename,
        source=body.source,
    )
    return shaping.clip(stored)


@router.delete(
    "/clips/{clip_id}", status_code=204, summary="Remove a clip", responses=problems(404, 507)
)
async def remove_clip(clip_id: str, resources: ResourcesDep) -> None:
    """Remove a clip and its files; searches stop finding it at once."""
    await run_in_threadpool(resources.library.remove_clip, clip_id)


@router.head("/clips/{clip_id}/media", include_in_schema=False)
@router.get(
    "/clips/{clip_id}/media",
    summary="Send a clip's file",
    response_class=Response,
    responses={
        200: {"description": "The file.", "content": {"application/octet-stream": {}}},
        206: {"description": "The range of bytes that the request's `Range` asks for."},
        304: {"description": "The file is the one of the request's `If-None-Match`."},
        **problems(404, 416, 507),
    },
)
async def get_media(clip_id: str, request: Request, resources: ResourcesDep) -> Response:
    """Send the file as it was uploaded, whole or in part."""
    clip = await run_in_threadpool(resources.library.get_clip, clip_id)
    file = await run_in_threadpool(resources.library.open_media, clip_id)
    return media_response(request, clip, file)


@router.get(
    "/clips/{clip_id}/thumbnail",
    summary="Send a clip's thumbnail",
    response_class=Response,
    responses={200: {"description": "A picture.", "content": {"image/jpeg": {}}}, **problems(404)},
)
async def get_thumbnail(clip_id: str, request: Request, resources: ResourcesDep) -> Response:
    """Send a small picture of the clip."""
    clip = await run_in_threadpool(resources.library.get_clip, clip_id)

    async def stored() -> bytes:
        picture = await run_in_threadpool(resources.library.thumbnail, clip_id)
        if picture is None:
            raise ThumbnailNotFound(f"The clip {clip_id} has no pictures, so it has no thumbnail.")
        return picture

    return await derived_response(request, clip, "thumbnail", stored, media_type="image/jpeg")


@router.get(
    "/clips/{clip_id}/waveform",
    summary="Send a clip's waveform",
    response_model=schemas.Waveform,
    responses=problems(404, 422, 429, 507),
)
async def get_waveform(
    clip_id: str,
    query: Annotated[schemas.WaveformQuery, Query()],
    request: Request,
    resources: ResourcesDep,
) -> Response:
    """Send the lowest and the highest sample of equal parts of the clip's sound."""
    clip = await run_in_threadpool(resources.library.get_clip, clip_id)

    async def made() -> bytes:
        with without_sound(clip_id):
            waveform = await resources.intake.decode_stored(
                clip,
                partial(resources.library.local_media, clip_id),
                read_waveform,
                query.buckets,
            )
        return shaping.waveform(waveform).model_dump_json().encode()

    kind = f"waveform-{query.buckets}"
    return await derived_response(request, clip, kind, made, media_type="application/json")


@router.get(
    "/clips/{clip_id}/spectrogram",
    summary="Send a clip's spectrogram",
    response_class=Response,
    responses={
        200: {"description": "A picture.", "content": {"image/png": {}}},
        **problems(404, 422, 429, 507),
    },
)
async def get_spectrogram(
    clip_id: str,
    query: Annotated[schemas.SpectrogramQuery, Query()],
    request: Request,
    resources: ResourcesDep,
) -> Response:
    """Send a picture of the clip's sound: time to the right, pitch upwards, brightness is power."""
    clip = await run_in_threadpool(resources.library.get_clip, clip_id)

    async def drawn() -> bytes:
        with without_sound(clip_id):
            return await resources.intake.decode_stored(
                clip,
                partial(resources.library.local_media, clip_id),
                draw_spectrogram,
                *(query.width, query.height),
            )

    kind = f"spectrogram-{query.width}x{query.height}"
    return await derived_response(request, clip, kind, drawn, media_type="image/png")


@contextmanager
def without_sound(clip_id: str) -> Iterator[None]:
    """Say of a stored clip without sound that there is nothing to show, not that it is bad."""
    try:
        yield
    except ModalityMissing as error:
        raise SoundNotFound(f"The clip {clip_id} has no sound to show: {error}") from error
