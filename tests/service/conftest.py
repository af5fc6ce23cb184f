"""The application with the fake embedder: real decoding, a real library, vectors from hashes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from model.fake import FakeEmbedder
from service.app import create_app
from service.resources import log_broken
from service.settings import LOOPBACK_HOSTS, Settings
from tests.service.media import wav

MAX_UPLOAD_BYTES = 200_000
HOSTS = ("testserver", *LOOPBACK_HOSTS)
"""`testserver` is what TestClient calls the application."""


def make_app(
    data_dir: Path,
    *,
    embedder: FakeEmbedder | None = None,
    on_broken: Callable[[str], None] = log_broken,
    **settings: Any,
) -> FastAPI:
    options = {
        "max_upload_bytes": MAX_UPLOAD_BYTES,
        "allowed_hosts": HOSTS,
        # Each is a process that has to be started.
        "decode_workers": 1,
        **settings,
    }
    return create_app(
        Settings(data_dir=data_dir, **options),
        embedder=embedder or FakeEmbedder(),
        on_broken=on_broken,
    )


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """An empty library of a test's own."""
    with TestClient(make_app(tmp_path)) as client:
        yield client


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """For tests that store nothing, such as those of bad input."""
    with TestClient(make_app(tmp_path_factory.mktemp("shared"))) as client:
        yield client


def file_part(content: bytes | None = None, name: str = "clip.wav") -> dict[str, Any]:
    return {"file": (name, wav() if content is None else content, "application/octet-stream")}


def store(client: TestClient, content: bytes | None = None, **fields: Any) -> dict[str, Any]:
    name = fields.pop("name", "clip.wav")
    reply = client.post("/clips", files=file_part(content, name), data=fields)
    assert reply.status_code == 201, reply.text
    clip: dict[str, Any] = reply.json()
    return clip


def close_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody look into a folder, not even root, who may otherwise."""
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def assert_problem(reply: Any, status: int, code: str) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = reply.json()
    assert {"type", "title", "status", "detail", "code", "request_id"} <= set(body)
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == reply.headers["x-request-id"]
    assert body["detail"]
    assert body["title"]
    return body
