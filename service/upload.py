"""Receiving a file: streamed to disk and counted on the way, never held in memory whole.

Starlette's own form parser spools every file to its end before a handler runs, and its part limit
does not bound files; so the body is parsed here as it arrives, and reading stops at the limit.
"""

import hashlib
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from index.durable import storage_errors
from service.bodies import content_type, form_values, validated
from service.errors import MalformedMultipart, UnsupportedMediaType, shown
from service.multipart_form import FILE_FIELD, FormLimits, FormReader, file_too_large

PIECE_BYTES = 2**20
"""How much is held in memory before it is written: each write costs a change of threads."""

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was received, gone when the request is answered, and the form's other fields.

    `sha256` is of the file's bytes, lower-case hexadecimal.
    """

    path: Path
    filename: str
    content_type: str
    sha256: str
    fields: Mapping[str, list[str]]

    def form(self, schema: type[ModelT]) -> ModelT:
        """Check the other fields against a schema. Raises RequestValidationError."""
        return validated(schema, form_values(schema, self.fields))


class UploadDirectory:
    """Where files are while they are received and used."""

    def __init__(self, directory: Path, limits: FormLimits) -> None:
        """Create the directory, and clear it of what a crash has left. Raises StorageError."""
        self._directory = directory
        self._limits = limits
        with storage_errors(f"prepare {directory}"):
            directory.mkdir(parents=True, exist_ok=True)
            for leftover in directory.iterdir():
                if leftover.is_file():
                    leftover.unlink()

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[Upload]:
        """Receive the form of a request; its file is removed at the end, whatever happens.

        Raises:
            UnsupportedMediaType: the body is no multipart form.
            MalformedMultipart: the form cannot be parsed or ends before its closing boundary.
            MissingFile, TooManyFiles: there is not exactly one part named `file`.
            FileTooLarge, FormTooLarge: more than the limits allow; the rest is left unread.
            StorageError: the disk is full.
            ClientDisconnect: the client left before the end.
        """
        reader = FormReader(_boundary(request), self._limits)
        self._check_declared_length(request)
        path = self._directory / uuid.uuid4().hex
        try:
            sha256 = await self._store(request, reader, path)
            yield Upload(path, reader.filename, reader.content_type, sha256, reader.fields)
        finally:
            path.unlink(missing_ok=True)

    def _check_declared_length(self, request: Request) -> None:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limits.max_body_bytes:
            raise file_too_large(self._limits)

    async def _store(self, request: Request, reader: FormReader, path: Path) -> str:
        """Write the file and return the SHA-256 of its bytes, hexadecimal."""
        digest = hashlib.sha256()
        received = 0
        held = bytearray()
        async for chunk in request.stream():
            piece = reader.feed(chunk)
            received += len(chunk)
            if received > self._limits.max_body_bytes:
                raise file_too_large(self._limits)
            digest.update(piece)
            held += piece
            if len(held) >= PIECE_BYTES:
                await run_in_threadpool(_append, path, bytes(held))
                held.clear()
        reader.finish()
        await run_in_threadpool(_append, path, bytes(held))
        return digest.hexdigest()


def _append(path: Path, piece: bytes) -> None:
    with storage_errors("store the upload"), path.open("ab") as file:
        file.write(piece)


def _boundary(request: Request) -> bytes:
    if content_type(request) != "multipart/form-data":
        raise UnsupportedMediaType(
            f"The body's content type is {shown(content_type(request))}; send the file as "
            f"'multipart/form-data', as `curl -F {FILE_FIELD}=@clip.mp4` does."
        )
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise MalformedMultipart(
            "The header Content-Type names no boundary; let the client's library write it."
        )
    return boundary
