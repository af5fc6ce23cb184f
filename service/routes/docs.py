"""`/docs`: the API's documentation to try out, with Swagger UI served from here.

FastAPI's own page loads Swagger UI from a CDN and starts it by an inline script; this one works
without a network and under the service's content security policy.
"""

from importlib.resources import files

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>avgzsl API</title>
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

START = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
});
"""

MEDIA_TYPES = {
    "favicon-32x32.png": "image/png",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}

CACHING = {"Cache-Control": "private, max-age=3600"}


@router.get("/docs")
async def get_docs() -> HTMLResponse:
    """Send the page."""
    return HTMLResponse(PAGE)


@router.get("/docs/{asset}")
async def get_asset(asset: str) -> Response:
    """Send one of the files that the page loads."""
    if asset == "start.js":
        return Response(START, media_type="text/javascript", headers=CACHING)
    if asset not in MEDIA_TYPES:
        raise HTTPException(404)
    file = files("fastapi_swagger.resources") / asset
    content = await run_in_threadpool(file.read_bytes)
    return Response(content, media_type=MEDIA_TYPES[asset], headers=CACHING)
