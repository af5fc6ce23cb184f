"""Sending a clip's media file: ranges, validators, and headers that keep a browser from running it.

Starlette's FileResponse refuses bad ranges in plain text and derives its ETag from the time that a
file was written; here an error is a problem like any other and the ETag is the content's hash.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import BinaryIO
from urllib.parse import quote

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from index.types import Clip
from service.errors import RangeNotSatisfiable, shown

CHUNK_BYTES = 256 * 1024

SINGLE_RANGE = re.compile(r"bytes=\s*(?P<first>\d{0,18})-(?P<last>\d{0,18})\s*")

SAFE_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "Cache-Control": "private, no-cache",
    }
)


def media_response(request: Request, clip: Clip, file: BinaryIO) -> Response:
    """Answer with a clip's file, the part of it that is asked for, or 304; closes the file.

    Raises:
        RangeNotSatisfiable: the part lies behind the end of the file.
    """
    headers = {
        **SAFE_HEADERS,
        "ETag": f'"{clip.content_hash}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": inline_disposition(clip.filename),
    }
    with ExitStack() as closing:
        closing.callback(file.close)
        if is_unchanged(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        status, first, end = 200, 0, clip.size_bytes
        if request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
            part = requested_range(request.headers.get("range", ""), clip.size_bytes)
            if part is not None:
                status, (first, end) = 206, part
                headers["Content-Range"] = f"bytes {first}-{end - 1}/{clip.size_bytes}"
        headers["Content-Length"] = str(end - first)
        if request.method == "HEAD":
            return StreamingResponse(_no_chunks(), status, headers, media_type=clip.content_type)
        closing.pop_all()
        body = _chunks(file, first, end)
        return StreamingResponse(body, status, headers, media_type=clip.content_type)


async def derived_response(
    request: Request,
    clip: Clip,
    kind: str,
    make: Callable[[], Awaitable[bytes]],
    *,
    media_type: str,
) -> Response:
    """Answer with what is made of a clip's file, or 304 without making it.

    `kind` names what is made, with all that it depends on besides the file.
    """
    headers = {**SAFE_HEADERS, "ETag": f'"{clip.content_hash}-{kind}"'}
    if is_unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(await make(), headers=headers, media_type=media_type)


def is_unchanged(request: Request, etag: str) -> bool:
    """Whether the client already has what this ETag stands for."""
    offered = request.headers.get("if-none-match", "")
    tags = [tag.strip().removeprefix("W/") for tag in offered.split(",")]
    return etag in tags or "*" in tags


def requested_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the half-open range of bytes that a Range header asks for.

    None where the whole file should be sent: no range, several, or one that cannot be read, which
    RFC 9110 (section 14.2) lets a server ignore.

    Raises:
        RangeNotSatisfiable: the range lies behind the end of the file.
    """
    match = SINGLE_RANGE.fullmatch(header)
    if match is None or header.strip().endswith("=-"):
        return None
    first, last = match["first"], match["last"]
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    if first and last and int(last) < int(first):
        return None
    if start >= size or start == end:
        raise RangeNotSatisfiable(
            f"The range {shown(header)} holds none of the file's {size} bytes; ask for bytes "
            f"between 0 and {size - 1}.",
            size=size,
        )
    return start, end


def inline_disposition(filename: str) -> str:
    """Return a Content-Disposition that names a file whatever characters its name has."""
    plain = "".join(
        c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in filename
    )
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


async def _chunks(opened: BinaryIO, first: int, end: int) -> AsyncIterator[bytes]:
    # Reading may wait for a disk or a network, so it is done in threads.
    async with anyio.wrap_file(opened) as file:
        await file.seek(first)
        while first < end and (chunk := await file.read(min(CHUNK_BYTES, end - first))):
            first += len(chunk)
            yield chunk


async def _no_chunks() -> AsyncIterator[bytes]:
    return
    yield b""
