"""The page at `/`, as `make page` built it, and its scripts and styles."""

from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

DIST = Path(__file__).parents[1] / "page" / "dist"

_ASSETS = StaticFiles(directory=DIST / "assets")


@router.api_route("/", methods=["GET", "HEAD"])
async def get_page() -> Response:
    """Send the page; it names its assets by their hashes, so it is asked for anew each time."""
    return FileResponse(DIST / "index.html", headers={"Cache-Control": "no-cache"})


@router.api_route("/assets/{asset}", methods=["GET", "HEAD"])
async def get_asset(asset: str, request: Request) -> Response:
    """Send a script, style or picture of the page; its name holds its hash, so it never changes."""
    reply = await _ASSETS.get_response(asset, request.scope)
    reply.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return reply
