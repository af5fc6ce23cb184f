"""The streamed form: what is refused, how early, and that nothing is left behind."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from model.errors import FileTooLarge
from service.errors import FormTooLarge, MalformedMultipart
from service.multipart_form import FormLimits, FormReader
from tests.service.conftest import MAX_UPLOAD_BYTES, assert_problem, file_part, make_app
from tests.service.media import mp4, wav

HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
TAIL = b"\r\n--b--\r\n"
FORM = {"content-type": "multipart/form-data; boundary=b"}


class Exchange:
    """One request, message by message, counting how many of them the application takes."""

    def __init__(self, chunks: Iterable[bytes], *, disconnect: bool = False) -> None:
        self._chunks = iter(chunks)
        self._disconnect = disconnect
        self.taken = 0
        self.status = 0
        self.body = b""

    async def receive(self) -> dict[str, Any]:
        self.taken += 1
        chunk = next(self._chunks, None)
        if chunk is not None:
            return {"type": "http.request", "body": chunk, "more_body": True}
        if self._disconnect:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.body += message.get("body", b"")

    def run(
        self, data_dir: Path, *, settings: Mapping[str, Any] | None = None, **headers: str
    ) -> None:
        """Post to /classify of an application of its own."""
        app = make_app(data_dir, **(settings or {}))
        asyncio.run(self._run(app, data_dir, {**FORM, **headers}))

    async def _run(self, app: FastAPI, data_dir: Path, headers: dict[str, str]) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/classify",
            "raw_path": b"/classify",
            "query_string": b"",
            "root_path": "",
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 50000),
        }
        async with app.router.lifespan_context(app):
            await app(scope, self.receive, self.send)
            assert list((data_dir / "uploads").iterdir()) == []


def endless() -> Iterator[bytes]:
    yield HEAD
    while True:
        yield bytes(64 * 1024)


def test_a_declared_length_over_the_limit_is_refused_before_anything_is_read(
    tmp_path: Path,
) -> None:
    exchange = Exchange(endless())

    exchange.run(tmp_path, content_length=str(100 * MAX_UPLOAD_BYTES))

    assert (exchange.status, exchange.taken) == (413, 0)
    assert json.loads(exchange.body)["code"] == "file_too_large"


def test_a_file_without_a_declared_length_is_cut_where_it_passes_the_limit(tmp_path: Path) -> None:
    exchange = Exchange(endless())

    exchange.run(tmp_path)

    assert exchange.status == 413
    assert json.loads(exchange.body)["code"] == "file_too_large"
    assert exchange.taken == 1 + MAX_UPLOAD_BYTES // (64 * 1024) + 1


def test_a_length_that_lies_is_not_believed(tmp_path: Path) -> None:
    exchange = Exchange(endless())

    exchange.run(tmp_path, content_length="10")

    assert exchange.status == 413
    assert exchange.taken < 10


def test_an_endless_preamble_is_cut_too(tmp_path: Path) -> None:
    exchange = Exchange(b"\r\n" * 32_768 for _ in iter(int, 1))

    exchange.run(tmp_path)

    assert exchange.status == 413
    assert exchange.taken < 100


def test_a_client_that_leaves_leaves_nothing_behind(tmp_path: Path) -> None:
    exchange = Exchange([HEAD, wav()[:1000]], disconnect=True)

    exchange.run(tmp_path)

    assert exchange.status == 499


def test_a_file_arrives_whole_however_it_is_cut(tmp_path: Path) -> None:
    body = HEAD + wav(0.1) + TAIL
    exchange = Exchange(body[i : i + 7] for i in range(0, len(body), 7))

    exchange.run(tmp_path)

    assert exchange.status == 200
    assert json.loads(exchange.body)["duration_seconds"] == pytest.approx(0.1)


def test_a_file_of_exactly_the_limit_is_taken() -> None:
    limits = FormLimits(max_file_bytes=1000, max_fields=3)

    reader = FormReader(b"b", limits)
    assert reader.feed(HEAD + bytes(1000) + TAIL) == bytes(1000)
    reader.finish()
    with pytest.raises(FileTooLarge, match="1000 bytes"):
        FormReader(b"b", limits).feed(HEAD + bytes(1001) + TAIL)


def test_bytes_like_the_boundary_stay_in_the_file() -> None:
    content = b"\r\n--\r\n--a\r\n-\r\n--" * 10
    reader = FormReader(b"b", FormLimits(max_file_bytes=1000, max_fields=3))

    received = b"".join(reader.feed(bytes([byte])) for byte in HEAD + content + TAIL)

    assert received == content


def field(name: str, value: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value


def test_other_fields_are_bounded_in_number_and_size() -> None:
    limits = FormLimits(max_file_bytes=1000, max_fields=3)

    with pytest.raises(FormTooLarge, match="more than 3 fields"):
        FormReader(b"b", limits).feed(b"\r\n".join(field("tags") for _ in range(4)) + TAIL)
    with pytest.raises(FormTooLarge, match="3072 bytes"):
        FormReader(b"b", limits).feed(field("tags", bytes(3073)) + TAIL)


def test_heads_of_parts_are_bounded() -> None:
    reader = FormReader(b"b", FormLimits(max_file_bytes=1000, max_fields=3))

    with pytest.raises(MalformedMultipart):
        reader.feed(b"--b\r\nX-Padding: " + b"x" * 100_000)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        b"--b\r\nno header",
        HEAD,
        HEAD + wav(),
        HEAD + wav() + b"\r\n--b",
        HEAD + wav() + b"\r\n--b-",
        b"--b\r\n: no name\r\n\r\n" + TAIL,
        b"--b\r\n\xff\xfe\x00: garbage\r\n\r\nx" + TAIL,
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx" + TAIL,
        b'--b\r\nContent-Disposition: attachment; name="file"\r\n\r\nx' + TAIL,
        b"--b\r\n\r\nx" + TAIL,
        b"--other\r\n" + HEAD + TAIL,
        HEAD + wav() + b"\r\n" + field("top_k", b"\xff\xfe") + TAIL,
        HEAD + wav() + b"\r\n" + field("top_k").replace(b"top_k", b"\xff") + b"5" + TAIL,
    ],
)
def test_a_form_that_cannot_be_read_is_malformed(shared: TestClient, body: bytes) -> None:
    reply = shared.post("/classify", content=body, headers=FORM)

    assert_problem(reply, 400, "malformed_multipart")


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "x" * 1000,
    ],
)
def test_a_form_without_a_usable_boundary_is_malformed(shared: TestClient, kind: str) -> None:
    reply = shared.post("/classify", content=HEAD + TAIL, headers={"content-type": kind})

    assert_problem(reply, 400, "malformed_multipart")


@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-www-form-urlencoded", "multipart/mixed", ""]
)
@pytest.mark.parametrize("path", ["/classify", "/retrieve/by-file", "/clips"])
def test_another_content_type_is_refused(shared: TestClient, path: str, kind: str) -> None:
    reply = shared.post(path, content=b"{}", headers={"content-type": kind})

    assert_problem(reply, 415, "unsupported_media_type")


def test_exactly_one_file_is_expected_under_its_name(shared: TestClient) -> None:
    two = [("file", ("a.wav", wav())), ("file", ("b.wav", wav()))]

    assert_problem(shared.post("/classify", files=two), 422, "too_many_files")
    assert_problem(shared.post("/classify", files={"clip": wav()}), 422, "missing_file")
    assert_problem(
        shared.post("/classify", content=field("top_k", b"5") + TAIL, headers=FORM),
        422,
        "missing_file",
    )
    as_text = shared.post("/classify", content=field("file", b"clip.wav") + TAIL, headers=FORM)
    assert "@" in assert_problem(as_text, 422, "missing_file")["detail"]
    assert_problem(
        shared.post("/classify", content=b"--b--\r\n", headers=FORM), 422, "missing_file"
    )


@pytest.mark.parametrize("path", ["/classify", "/clips", "/retrieve/by-file", "/embed"])
@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "empty_file"),
        (b"this is no video\n" * 50, 415, "unsupported_media"),
        (bytes(1000), 415, "unsupported_media"),
        (bytes(MAX_UPLOAD_BYTES + 1), 413, "file_too_large"),
    ],
)
def test_bad_files_are_refused_everywhere(
    shared: TestClient, path: str, content: bytes, status: int, code: str
) -> None:
    reply = shared.post(path, files=file_part(content, "clip.mp4"))

    assert_problem(reply, status, code)
    assert shared.get("/clips").json()["total"] == 0


def test_a_truncated_video_is_refused_or_read_in_part(shared: TestClient) -> None:
    for share in (0.2, 0.5, 0.9):
        content = mp4()[: int(share * len(mp4()))]
        reply = shared.post("/classify", files=file_part(content, "clip.mp4"))
        assert reply.status_code in {200, 415, 422}
        if reply.status_code != 200:
            assert_problem(reply, reply.status_code, reply.json()["code"])


def test_a_clip_over_the_limit_of_duration_is_refused(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path, max_duration_seconds=2)) as client:
        reply = client.post("/classify", files=file_part(wav(4.0)))

    assert_problem(reply, 413, "duration_too_long")


def test_an_upload_that_cannot_be_written_is_a_storage_error(
    client: TestClient, tmp_path: Path
) -> None:
    (tmp_path / "uploads").rmdir()

    assert_problem(client.post("/classify", files=file_part()), 507, "storage_error")
