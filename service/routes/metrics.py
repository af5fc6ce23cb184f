"""`GET /metrics`: counts and times, for Prometheus."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from service.resources import ResourcesDep

router = APIRouter(tags=["metrics"])


@router.get(
    "/metrics",
    summary="Counts and times for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "The text format that the request's `Accept` prefers.",
            "content": {"text/plain": {}, "application/openmetrics-text": {}},
        }
    },
)
async def get_metrics(request: Request, resources: ResourcesDep) -> Response:
    """Show all metrics; `docs/observability.md` lists them."""
    accept = request.headers.get("accept", "")
    content, content_type = await run_in_threadpool(resources.metrics.exposition, accept)
    return Response(content, headers={"Content-Type": content_type})
