"""`/jobs`: work that is done later, and how far it is."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from index.errors import JobNotFound
from index.job_types import UNFINISHED
from index.names import checked_tags
from service import schemas, shaping
from service.documentation import problems
from service.resources import Resources, ResourcesDep
from service.routes.json_route import JsonRoute
from service.routes.uploads import accepted

router = APIRouter(tags=["jobs"], route_class=JsonRoute)

EVENTS_POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15
"""Between comments that keep proxies from taking a quiet stream for a dead one."""
REVISION_LIMIT = 10**12


@router.post(
    "/jobs/import",
    status_code=202,
    summary="Import a folder",
    responses=problems(400, 403, 404, 413, 415, 422, 429, 507),
)
async def add_import(
    body: schemas.ImportRequest, resources: ResourcesDep, response: Response
) -> schemas.JobAccepted:
    """Store the media files of a folder that lies on the machine of the service."""
    tags = list(checked_tags(body.tags))
    job = await resources.jobs.add_import(body.model_copy(update={"tags": tags}))
    return accepted(job, response)


@router.get("/jobs", summary="List jobs", responses=problems(422, 507))
async def list_jobs(
    query: Annotated[schemas.JobQuery, Query()], resources: ResourcesDep
) -> schemas.Jobs:
    """List jobs, newest first."""
    page = await run_in_threadpool(
        resources.library.jobs.page, offset=query.offset, limit=query.limit, state=query.state
    )
    items = [shaping.job(stored) for stored in page.items]
    return schemas.Jobs(items=items, total=page.total, offset=page.offset, limit=query.limit)


@router.get("/jobs/{job_id}", summary="Show a job", responses=problems(404, 507))
async def get_job(job_id: str, resources: ResourcesDep) -> schemas.Job:
    """Show how far a job is, and what came of it."""
    return shaping.job(await run_in_threadpool(resources.library.jobs.get, job_id))


@router.get("/jobs/{job_id}/items", summary="List a job's files", responses=problems(404, 422, 507))
async def list_items(
    job_id: str, query: Annotated[schemas.JobQuery, Query()], resources: ResourcesDep
) -> schemas.JobItems:
    """List the files of a job in their order, and what became of each."""
    page = await run_in_threadpool(
        resources.library.jobs.items,
        job_id,
        offset=query.offset,
        limit=query.limit,
        state=query.state,
    )
    items = [shaping.job_item(stored) for stored in page.items]
    return schemas.JobItems(items=items, total=page.total, offset=page.offset, limit=query.limit)


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events `job` (as `GET /jobs/{job_id}`) with each change, and `item` "
            "(as in its listing) with each file that ends. The stream ends with the job.",
            "content": {"text/event-stream": {}},
        },
        204: {"description": "The job has ended, and `Last-Event-ID` says that this is known."},
        **problems(404, 422, 507),
    },
)
async def follow_job(
    job_id: str,
    resources: ResourcesDep,
    last_event_id: Annotated[int | None, Header(ge=0, le=REVISION_LIMIT)] = None,
) -> Response:
    """Follow a job as it goes on; a client that comes again gets what it has missed."""
    job = await run_in_threadpool(resources.library.jobs.get, job_id)
    if job.state not in UNFINISHED and last_event_id == job.revision:
        # What makes a browser stop coming again.
        return Response(status_code=204)
    since = job.revision if last_event_id is None else last_event_id
    return EventSourceResponse(_events(resources, job_id, since), ping=HEARTBEAT_SECONDS)


@router.post(
    "/jobs/{job_id}/retry",
    status_code=202,
    summary="Try a job's failed files again",
    responses=problems(404, 409, 507),
)
async def retry_job(job_id: str, resources: ResourcesDep) -> schemas.Job:
    """Queue the failed files of a job again; the others stay as they are."""
    job = await run_in_threadpool(resources.library.jobs.retry, job_id)
    resources.jobs.wake()
    return shaping.job(job)


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    summary="Cancel or remove a job",
    responses=problems(404, 507),
)
async def delete_job(job_id: str, resources: ResourcesDep) -> None:
    """Cancel a job that has not ended; remove one that has. Clips that it stored stay."""
    await run_in_threadpool(resources.library.jobs.cancel_or_remove, job_id)


async def _events(
    resources: Resources, job_id: str, revision: int
) -> AsyncIterator[ServerSentEvent]:
    told = -1
    while True:
        try:
            job, ended = await run_in_threadpool(resources.library.jobs.news, job_id, revision)
        except JobNotFound:
            return  # Removed meanwhile.
        for item in ended:
            yield ServerSentEvent(shaping.job_item(item).model_dump_json(), event="item")
        revision = job.revision
        if revision != told:
            # Only this one has an id: who missed it gets the items before it again.
            data = shaping.job(job).model_dump_json()
            yield ServerSentEvent(data, event="job", id=str(revision))
            told = revision
        if job.state not in UNFINISHED:
            return
        await asyncio.sleep(EVENTS_POLL_SECONDS)
