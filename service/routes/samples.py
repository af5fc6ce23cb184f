"""`/samples`: clips to try the service with, where the installation brings them."""

from fastapi import APIRouter
from starlette.responses import FileResponse

from service import schemas
from service.documentation import problems
from service.errors import SampleNotFound, shown
from service.samples import SAMPLES, sample_path

router = APIRouter(tags=["samples"])


@router.get("/samples", summary="List the sample clips")
def list_samples() -> schemas.Samples:
    """List the clips to try the service with; empty where the installation has none."""
    items = []
    for sample in SAMPLES.values():
        path = sample_path(sample.name)
        if path is not None:
            items.append(
                schemas.Sample(
                    name=sample.name,
                    content_type=sample.content_type,
                    size_bytes=path.stat().st_size,
                    heard=sample.heard,
                    seen=sample.seen,
                    url=f"/samples/{sample.name}",
                )
            )
    return schemas.Samples(items=items)


@router.get(
    "/samples/{name}",
    summary="Send a sample clip",
    response_class=FileResponse,
    responses={
        200: {"description": "The file.", "content": {"application/octet-stream": {}}},
        **problems(404),
    },
)
def get_sample(name: str) -> FileResponse:
    """Send a sample clip's file."""
    path = sample_path(name)
    if path is None:
        raise SampleNotFound(f"There is no sample clip {shown(name)}; GET /samples lists them.")
    return FileResponse(path, media_type=SAMPLES[name].content_type)
