"""The uploaded file of a request, as a handler's parameter."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from index.job_types import Job
from service import schemas
from service.access import Access
from service.admission import require_access
from service.resources import Resources, ResourcesDep
from service.upload import Upload


@asynccontextmanager
async def receiving(
    request: Request, resources: Resources, *, or_job: bool = False
) -> AsyncIterator[Upload]:
    """Receive a request's form; where its clip would be refused, nothing is read of it.

    One that may ask for a job, and does by its query, waits for its turn on the disk, where as many
    may wait as there may be jobs.

    Raises what `UploadDirectory.receive` does, Overloaded, and StorageError.
    """
    if or_job and request.query_params.get("mode") == "async":
        await resources.jobs.require_room()
    else:
        resources.intake.require_room()
    async with resources.uploads.receive(request) as upload:
        yield upload


async def _receive_upload(request: Request, resources: ResourcesDep) -> AsyncIterator[Upload]:
    async with receiving(request, resources) as upload:
        yield upload


async def _receive_upload_or_job(
    request: Request, resources: ResourcesDep
) -> AsyncIterator[Upload]:
    async with receiving(request, resources, or_job=True) as upload:
        yield upload


def is_for_later(request: Request, *modes: schemas.Mode | None) -> bool:
    """Tell whether a request asks for a job, by its query or its form.

    Raises InsufficientScope: a job is kept on disk, so its key must be allowed to write.
    """
    if "async" not in modes:
        return False
    require_access(request, Access.WRITE)
    return True


def accepted(job: Job, response: Response) -> schemas.JobAccepted:
    """Answer that a job was taken in, and where it is."""
    response.status_code = 202
    response.headers["Location"] = f"/jobs/{job.job_id}"
    return schemas.JobAccepted(job_id=job.job_id)


ModeQuery = Annotated[
    schemas.Mode | None,
    Query(
        description="As the field of the form; a job that is asked for here is taken in even where "
        "the queue of those who wait for their answer is full."
    ),
]
"""Whether a request asks for a job before its file is read, as a handler's parameter."""

UploadDep = Annotated[Upload, Depends(_receive_upload)]
"""The uploaded file, removed when the request is answered."""

UploadOrJobDep = Annotated[Upload, Depends(_receive_upload_or_job)]
"""The same of a request that may be for later."""
