"""Who may send what, decided before a request's body is read: host, site, key, scope, limits."""

from contextlib import ExitStack

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from index.api_keys import ApiKey
from index.errors import LibraryError
from service.access import PROBES, Access, Target
from service.errors import (
    CrossSiteRequest,
    HostNotAllowed,
    InsufficientScope,
    MissingApiKey,
    ServiceError,
    answer_known,
    shown,
)
from service.limiter import Limiter, caller_at
from service.resources import get_resources
from service.settings import Settings

SESSION_COOKIE = "avgzsl_session"
"""Holds a key for a page, whose pictures and films are asked for without a header of its own."""

KEY_HEADER = "X-API-Key"

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Admission:
    """ASGI middleware in front of the routes, within `RequestContext`."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._limiter = Limiter(rate=settings.rate_limit, concurrency=settings.concurrency_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        target: Target = scope["state"]["target"]
        with ExitStack() as under_way:
            try:
                headers = await self._admit(HTTPConnection(scope), target, under_way)
            except (ServiceError, LibraryError) as error:
                response = await answer_known(Request(scope), error)
                await response(scope, receive, send)
                return
            await self._app(scope, receive, _with_headers(send, headers) if headers else send)

    async def _admit(
        self, connection: HTTPConnection, target: Target, under_way: ExitStack
    ) -> dict[str, str]:
        """Return the headers that the answer should have besides.

        Raises what is refused, and StorageError where the keys cannot be read.
        """
        if target.template not in PROBES:
            self._check_host(connection.headers)
        if connection.scope["method"] not in SAFE_METHODS:
            self._check_site(connection)
        if target.access is Access.OPEN:
            return {}
        if not self._settings.require_api_keys:
            caller = caller_at(connection.client.host if connection.client else "")
            headers = self._limiter.count(caller)
            under_way.enter_context(self._limiter.one_more(caller))
            return headers
        key = await _recognised(connection)
        connection.state.key = key
        _check_scope(key, target.access)
        headers = self._limiter.count(key.key_id, own_rate=key.rate)
        under_way.enter_context(self._limiter.one_more(key.key_id, own_concurrency=key.concurrency))
        return headers

    def _check_host(self, headers: Headers) -> None:
        # A page elsewhere may give its own name this machine's address, and then be of one origin
        # with this service for the browser; but it cannot change the name that is asked for.
        allowed = self._settings.hosts
        host = headers.get("host")
        # Only programs of HTTP/1.0 leave it out, and no browser.
        if allowed and host is not None and _hostname(host) not in allowed:
            raise HostNotAllowed(
                f"This service is not called {shown(host)}; call it {' or '.join(allowed)}, or add "
                "the name to AVGZSL_ALLOWED_HOSTS."
            )

    def _check_site(self, connection: HTTPConnection) -> None:
        # A browser sends cookies, and reaches this machine, on behalf of any page; what a page
        # cannot do on its own is to send a key in a header.
        headers = connection.headers
        if header_token(headers) is not None:
            return
        origin = headers.get("origin")
        if origin is not None and ({origin, "*"} & set(self._settings.cors_origins)):
            return
        site = headers.get("sec-fetch-site")
        if site is not None:
            from_elsewhere = site not in {"same-origin", "none"}
        else:
            host = headers.get("host", "")
            from_elsewhere = origin is not None and origin.partition("://")[2] != host
        if from_elsewhere:
            raise CrossSiteRequest(
                f"A page of another site ({shown(origin or site)}) may not change anything here; "
                "add its origin to AVGZSL_CORS_ORIGINS, or send an API key in the header "
                "Authorization."
            )


def header_token(headers: Headers) -> str | None:
    """Return the key that a request's headers bring, None where there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get(KEY_HEADER)


async def _recognised(connection: HTTPConnection) -> ApiKey:
    token = header_token(connection.headers) or connection.cookies.get(SESSION_COOKIE)
    if token is None:
        raise MissingApiKey(
            "This service needs an API key; send it as 'Authorization: Bearer avgzsl_...'. "
            "Whoever runs the service makes one with `avgzsl keys create`."
        )
    return await get_resources(connection).keyring.recognise(token)


def require_access(connection: HTTPConnection, access: Access) -> None:
    """Ask more of a request's key than its route does. Raises InsufficientScope."""
    key: ApiKey | None = getattr(connection.state, "key", None)
    if key is not None:
        _check_scope(key, access)


def _check_scope(key: ApiKey, access: Access) -> None:
    if Access[key.scope.upper()] < access:
        raise InsufficientScope(
            f"The API key {key.key_id} has the scope {key.scope!r}; this needs "
            f"{access.scope!r}. Ask for a key that has it.",
            scope=access.scope,
        )


def _hostname(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _with_headers(send: Send, extra: dict[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(extra)
        await send(message)

    return sending
