"""The table of what routes ask of a key, against the routes that there are."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from service.access import ROUTES, UNKNOWN, Access, target_of
from tests.service.conftest import make_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return make_app(tmp_path_factory.mktemp("access"))


def routes(router: Any) -> Iterator[tuple[str, str]]:
    """Method and template of every route, whether documented or not."""
    for route in router.routes:
        if isinstance(route, APIRoute | Route):
            yield from ((method, route.path) for method in route.methods or ())
        elif isinstance(route, Mount):
            yield "GET", f"{route.path}/{{path:path}}"
        else:
            yield from routes(route.original_router)


def test_every_route_is_in_the_table_and_no_other(app: FastAPI) -> None:
    there = set(routes(app.router))
    declared = {(method, path) for path, methods in ROUTES.items() for method in methods}

    assert len(there) > 20
    assert there - declared == set(), "say in service.access what these ask of a key"
    assert declared - there == set(), "service.access speaks of routes that there are not"


def test_what_changes_something_needs_more_than_reading() -> None:
    reading = {"/classify", "/retrieve", "/retrieve/by-file", "/embed", "/session"}
    for path, methods in ROUTES.items():
        for method, access in methods.items():
            if method not in {"GET", "HEAD"} and path not in reading:
                assert access >= Access.WRITE, (method, path)


@pytest.mark.parametrize(
    ("method", "path", "template", "access"),
    [
        ("GET", "/clips", "/clips", Access.READ),
        ("DELETE", "/clips/x", "/clips/{clip_id}", Access.WRITE),
        ("GET", "/healthz", "/healthz", Access.OPEN),
        ("PUT", "/healthz", "/healthz", Access.READ),
        ("GET", "/clips/", UNKNOWN, Access.READ),
        ("GET", "/healthz/x", UNKNOWN, Access.READ),
        ("GET", "//healthz", UNKNOWN, Access.READ),
        ("DELETE", "/clips/../healthz", UNKNOWN, Access.READ),
        ("GET", "/docs/a/b", UNKNOWN, Access.READ),
    ],
)
def test_a_path_finds_its_line_as_the_router_would(
    method: str, path: str, template: str, access: Access
) -> None:
    target = target_of(method, path)

    assert (target.template, target.access) == (template, access)
