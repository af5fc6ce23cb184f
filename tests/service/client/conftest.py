"""Both clients behind one blocking face: every test runs on each, in process and by HTTP."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from service.client import AsyncClient, Client
from tests.service.conftest import make_app
from tests.service.servers import serving


class Blocking:
    """An `AsyncClient` whose methods are waited for."""

    def __init__(self, client: AsyncClient, portal: BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def called(args: Any, kwargs: Any) -> Any:
            return await method(*args, **kwargs)

        return lambda *args, **kwargs: self._portal.call(called, args, kwargs)


def opened(stack: ExitStack, kind: str, *args: Any, **options: Any) -> Any:
    """Open one of the clients, to be closed with the stack."""
    if kind == "blocking":
        return stack.enter_context(Client(*args, **options))
    portal = stack.enter_context(start_blocking_portal())
    client = AsyncClient(*args, **options)
    stack.enter_context(portal.wrap_async_context_manager(client))
    return Blocking(client, portal)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(make_app(tmp_path_factory.mktemp("served"))) as url:
        yield url


@pytest.fixture(scope="session", params=["blocking", "awaiting"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session", params=["in process", "by HTTP"])
def avgzsl(
    request: pytest.FixtureRequest, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A client of either kind, with an application in its process or with a server.

    Tests share it: what each stores is tagged or named by `unique`.
    """
    with ExitStack() as stack:
        if request.param == "in process":
            yield opened(stack, kind, app=make_app(tmp_path_factory.mktemp("in-process")))
        else:
            yield opened(stack, kind, request.getfixturevalue("server_url"))


def unique() -> str:
    """Return a tag or a name of a test's own."""
    return uuid.uuid4().hex
