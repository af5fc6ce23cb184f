"""The uploaded file of a request, as a handler's parameter."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from index.job_types import Job
from service import schemas
from service.resources import Resources, ResourcesDep
from service.upload import Upload


@asynccontextmanager
async def receiving(request: Request, resources: Resources) -> AsyncIterator[Upload]:
    """Receive a request's form; where its clip would be refused, nothing is read of it.

    Raises what `UploadDirectory.receive` does, and Overloaded.
    """
    resources.intake.require_room()
    async with resources.uploads.receive(request) as upload:
        yield upload


async def _receive_upload(request: Request, resources: ResourcesDep) -> AsyncIterator[Upload]:
    async with receiving(request, resources) as upload:
        yield upload


def accepted(job: Job, response: Response) -> schemas.JobAccepted:
    """Answer that a job was taken in, and where it is."""
    response.status_code = 202
    response.headers["Location"] = f"/jobs/{job.job_id}"
    return schemas.JobAccepted(job_id=job.job_id)


UploadDep = Annotated[Upload, Depends(_receive_upload)]
"""The uploaded file, removed when the request is answered."""
