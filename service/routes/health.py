"""`/healthz` and `/readyz`: whether the process lives, and whether the model answers."""

from fastapi import APIRouter

from service.documentation import problems
from service.resources import ResourcesDep
from service.schemas import Health
from service.version import package_version

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Health:
    """Answer, whatever the model does; a process that fails this should be restarted."""
    return Health(status="alive", version=package_version())


@router.get("/readyz", summary="Does the model answer?", responses=problems(503))
async def readyz(resources: ResourcesDep) -> Health:
    """Answer 200 if a real forward pass succeeded within the last seconds, else 503."""
    await resources.readiness.check()
    return Health(status="ready", version=package_version())
