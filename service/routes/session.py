"""`/session`: a key kept in a cookie, for pages in a browser."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from index.api_keys import ApiKey
from service import schemas
from service.admission import SESSION_COOKIE
from service.documentation import problems
from service.errors import InvalidApiKey
from service.resources import ResourcesDep
from service.routes.json_route import JsonRoute

router = APIRouter(tags=["session"], route_class=JsonRoute)


@router.get("/session", summary="Does a page need a key, and whose does it have?")
async def get_session(request: Request, resources: ResourcesDep) -> schemas.Session:
    """Tell whether keys are required, and what the key in the cookie may do."""
    token = request.cookies.get(SESSION_COOKIE)
    key: ApiKey | None = None
    if token is not None:
        try:
            key = await resources.keyring.recognise(token)
        except InvalidApiKey:
            key = None
    return _shown(key, required=resources.settings.require_api_keys)


@router.post(
    "/session", summary="Keep a key in a cookie", responses=problems(400, 401, 413, 415, 422)
)
async def open_session(
    body: schemas.SessionRequest, request: Request, resources: ResourcesDep, response: Response
) -> schemas.Session:
    """Keep a key where scripts cannot read it; the browser sends it along until it is closed."""
    token = body.api_key.get_secret_value()
    key = await resources.keyring.recognise(token)
    response.set_cookie(
        SESSION_COOKIE,
        token,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return _shown(key, required=resources.settings.require_api_keys)


@router.delete("/session", status_code=204, summary="Forget the key in the cookie")
async def close_session(response: Response) -> None:
    """Forget the key; it stays in use elsewhere."""
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")


def _shown(key: ApiKey | None, *, required: bool) -> schemas.Session:
    return schemas.Session(
        api_keys_required=required,
        key_id=None if key is None else key.key_id,
        name=None if key is None else key.name,
        scope=None if key is None else key.scope,
    )
