"""Every error that the service answers with: exception type -> status and stable code, one table.

ServiceError
├── UnsupportedMediaType   the body's content type is not the one that the route takes
├── MalformedJson          the body is no JSON
├── BodyTooLarge           the JSON body has more bytes than the limit
├── MalformedMultipart     the body is no multipart form, or ends before its closing boundary
├── MissingFile            the form has no part named `file`
├── TooManyFiles           the form has more than one file
├── FormTooLarge           the form's other fields are too many or too long
├── TooManyLabels          there are more candidate labels than the limit
├── NoClasses              there is no class to choose from
├── ImportRefused          the folder or file does not lie where imports may read
├── ImportFolderNotFound   there is no such folder on the machine of the service
├── ModelRefused           the folder does not lie where models may be loaded from
├── ModelFolderNotFound    there is no such folder on the machine of the service
├── SwapUnderWay           a change to another model has not ended yet
├── SwapNotPossible        other processes share the catalogue or hold the model
├── NoSwap                 no change to another model is under way
├── UnreadableFile         a file that was to be imported cannot be read
├── ThumbnailNotFound      the clip has no picture to show
├── SampleNotFound         no sample clip has this name
├── SoundNotFound          the clip has no sound to show
├── RangeNotSatisfiable    the bytes asked for lie behind the end of the file
├── Overloaded             the queue is full
├── ModelFailed            the model raised an error
├── NotReady               the model does not answer
├── HostNotAllowed         the request's Host is no name of this service
├── CrossSiteRequest       a page of another site sent a request that changes something
├── MissingApiKey          the route needs a key and none came
├── InvalidApiKey          the key is none of ours, or was revoked
├── InsufficientScope      the key may not do this
├── RateLimited            the caller has sent too many requests in a span of time
└── TooManyConcurrent      the caller has too many requests under way

`model.errors.MediaError`, `model.errors.OutOfMemory` and `index.errors.LibraryError` are answered
by the same table. An exception that is not in it is a fault of the service: 500, logged, its text
kept from the client.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from index import errors as library_errors
from model import errors as model_errors

logger = logging.getLogger("service.errors")

SHOWN_CHARACTERS = 80
DETAIL_CHARACTERS = 500
LISTED_ERRORS = 20


class ServiceError(Exception):
    """Base of everything that `service` raises on purpose."""

    headers: Mapping[str, str] = MappingProxyType({})
    """What the answer's head says besides."""


class UnsupportedMediaType(ServiceError):
    """The body's content type is not the one that the route takes."""


class MalformedJson(ServiceError):
    """The body cannot be read as JSON."""


class BodyTooLarge(ServiceError):
    """The JSON body has more bytes than the limit."""


class MalformedMultipart(ServiceError):
    """The body cannot be read as a multipart form."""


class MissingFile(ServiceError):
    """The form has no part named `file`."""


class TooManyFiles(ServiceError):
    """The form has more than one file."""


class FormTooLarge(ServiceError):
    """The form's fields besides the file are too many or too long."""


class TooManyLabels(ServiceError):
    """There are more candidate labels than the limit."""


class NoClasses(ServiceError):
    """There is no class to choose from."""


class ImportRefused(ServiceError):
    """The folder or file does not lie where imports may read."""


class ImportFolderNotFound(ServiceError):
    """There is no such folder on the machine of the service."""


class ModelRefused(ServiceError):
    """The folder does not lie where models may be loaded from."""


class ModelFolderNotFound(ServiceError):
    """There is no such folder on the machine of the service."""


class SwapUnderWay(ServiceError):
    """A change to another model has not ended yet."""


class SwapNotPossible(ServiceError):
    """Other processes share the catalogue or hold the model, and would not change along."""


class NoSwap(ServiceError):
    """No change to another model is under way."""


class UnreadableFile(ServiceError):
    """A file that was to be imported cannot be read."""


class ThumbnailNotFound(ServiceError):
    """The clip has no picture to show."""


class SampleNotFound(ServiceError):
    """No sample clip has this name."""


class SoundNotFound(ServiceError):
    """The clip has no sound to show."""


class RangeNotSatisfiable(ServiceError):
    """The bytes asked for lie behind the end of the file."""

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message)
        self.headers = {"Content-Range": f"bytes */{size}"}


class Overloaded(ServiceError):
    """The queue is full; the answer says when to come again."""

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(retry_after_seconds)}


class ModelFailed(ServiceError):
    """The model raised an error on this."""


class NotReady(ServiceError):
    """The model does not answer."""


class HostNotAllowed(ServiceError):
    """The request's Host is no name of this service; a page may have rebound its own name."""


class CrossSiteRequest(ServiceError):
    """A page of another site sent a request that changes something."""


class MissingApiKey(ServiceError):
    """The route needs a key and none came."""

    headers = MappingProxyType({"WWW-Authenticate": 'Bearer realm="avgzsl"'})


class InvalidApiKey(ServiceError):
    """The key is none of ours, or was revoked."""

    headers = MappingProxyType({"WWW-Authenticate": 'Bearer realm="avgzsl", error="invalid_token"'})


class InsufficientScope(ServiceError):
    """The key may not do this."""

    def __init__(self, message: str, *, scope: str) -> None:
        super().__init__(message)
        challenge = f'Bearer realm="avgzsl", error="insufficient_scope", scope="{scope}"'
        self.headers = {"WWW-Authenticate": challenge}


class RateLimited(ServiceError):
    """The caller has sent too many requests in a span of time."""

    def __init__(
        self, message: str, *, retry_after_seconds: int, limit_headers: Mapping[str, str]
    ) -> None:
        super().__init__(message)
        self.headers = {**limit_headers, "Retry-After": str(retry_after_seconds)}


class TooManyConcurrent(ServiceError):
    """The caller has too many requests under way."""

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(retry_after_seconds)}


@dataclass(frozen=True, slots=True)
class Problem:
    """How an exception type is told to the client."""

    status: int
    code: str


PROBLEMS: Mapping[type[Exception], Problem] = MappingProxyType(
    {
        UnsupportedMediaType: Problem(415, "unsupported_media_type"),
        MalformedJson: Problem(400, "malformed_json"),
        BodyTooLarge: Problem(413, "body_too_large"),
        MalformedMultipart: Problem(400, "malformed_multipart"),
        MissingFile: Problem(422, "missing_file"),
        TooManyFiles: Problem(422, "too_many_files"),
        FormTooLarge: Problem(413, "form_too_large"),
        TooManyLabels: Problem(422, "too_many_labels"),
        ImportRefused: Problem(403, "import_refused"),
        ImportFolderNotFound: Problem(404, "import_folder_not_found"),
        ModelRefused: Problem(403, "model_refused"),
        ModelFolderNotFound: Problem(404, "model_folder_not_found"),
        SwapUnderWay: Problem(409, "swap_under_way"),
        SwapNotPossible: Problem(409, "swap_not_possible"),
        NoSwap: Problem(404, "no_swap"),
        UnreadableFile: Problem(422, "unreadable_file"),
        NoClasses: Problem(409, "no_classes"),
        ThumbnailNotFound: Problem(404, "thumbnail_not_found"),
        SampleNotFound: Problem(404, "sample_not_found"),
        SoundNotFound: Problem(404, "sound_not_found"),
        RangeNotSatisfiable: Problem(416, "range_not_satisfiable"),
        Overloaded: Problem(429, "overloaded"),
        ModelFailed: Problem(503, "model_failed"),
        NotReady: Problem(503, "not_ready"),
        HostNotAllowed: Problem(421, "host_not_allowed"),
        CrossSiteRequest: Problem(403, "cross_site_request"),
        MissingApiKey: Problem(401, "missing_api_key"),
        InvalidApiKey: Problem(401, "invalid_api_key"),
        InsufficientScope: Problem(403, "insufficient_scope"),
        RateLimited: Problem(429, "rate_limited"),
        TooManyConcurrent: Problem(429, "too_many_concurrent"),
        RequestValidationError: Problem(422, "invalid_request"),
        # Nobody is there to read it; the access log shows it.
        ClientDisconnect: Problem(499, "client_disconnected"),
        model_errors.EmptyFile: Problem(422, "empty_file"),
        model_errors.FileTooLarge: Problem(413, "file_too_large"),
        model_errors.UnsupportedMedia: Problem(415, "unsupported_media"),
        model_errors.EncryptedMedia: Problem(422, "encrypted_media"),
        model_errors.NoAudioOrVideo: Problem(422, "no_audio_or_video"),
        model_errors.ModalityMissing: Problem(422, "modality_missing"),
        model_errors.DurationTooLong: Problem(413, "duration_too_long"),
        model_errors.FrameTooLarge: Problem(413, "frame_too_large"),
        model_errors.TooManyStreams: Problem(422, "too_many_streams"),
        model_errors.DecodeTimeout: Problem(422, "decode_timeout"),
        model_errors.DecodeMemoryExceeded: Problem(422, "decode_memory_exceeded"),
        model_errors.DecoderCrashed: Problem(422, "decoder_crashed"),
        model_errors.OutOfMemory: Problem(503, "out_of_memory"),
        library_errors.ApiKeyExists: Problem(409, "api_key_exists"),
        library_errors.ApiKeyNotFound: Problem(404, "api_key_not_found"),
        library_errors.ClassExists: Problem(409, "class_exists"),
        library_errors.ClassNotFound: Problem(404, "class_not_found"),
        library_errors.InvalidClassName: Problem(422, "invalid_class_name"),
        library_errors.InvalidTag: Problem(422, "invalid_tag"),
        library_errors.ClipNotFound: Problem(404, "clip_not_found"),
        library_errors.DuplicateClip: Problem(409, "duplicate_clip"),
        library_errors.JobNotFound: Problem(404, "job_not_found"),
        library_errors.JobItemLost: Problem(409, "job_item_lost"),
        library_errors.NothingToRetry: Problem(409, "nothing_to_retry"),
        library_errors.ClipUnusable: Problem(422, "clip_unusable"),
        library_errors.InvalidArchive: Problem(422, "invalid_archive"),
        library_errors.LibraryLocked: Problem(503, "library_locked"),
        library_errors.LibraryNotEmpty: Problem(409, "library_not_empty"),
        library_errors.LibraryNotFound: Problem(404, "library_not_found"),
        library_errors.ModelMismatch: Problem(409, "model_mismatch"),
        library_errors.ReindexRefused: Problem(409, "reindex_refused"),
        library_errors.StorageError: Problem(507, "storage_error"),
        library_errors.VectorStoreUnavailable: Problem(503, "vector_store_unavailable"),
    }
)

HTTP_CODES: Mapping[int, str] = MappingProxyType({404: "not_found", 405: "method_not_allowed"})
"""Codes of what the router itself refuses."""

TITLES: Mapping[int, str] = MappingProxyType({499: "Client Disconnected"})
"""Titles of statuses that are in use but in no standard."""


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of the table, and every refusal of the router, as problem+json."""
    known = (
        ServiceError,
        model_errors.MediaError,
        model_errors.OutOfMemory,
        library_errors.LibraryError,
    )
    for base in known:
        app.add_exception_handler(base, answer_known)
    app.add_exception_handler(ClientDisconnect, answer_known)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


def problem_response(
    request_id: str,
    problem: Problem,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: list[dict[str, str]] | None = None,
) -> Response:
    """Build an `application/problem+json` response."""
    content: dict[str, Any] = {
        "type": f"urn:avgzsl:problem:{problem.code}",
        "title": TITLES.get(problem.status) or HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": _abridged(detail),
        "code": problem.code,
        "request_id": request_id,
    }
    if errors is not None:
        content["errors"] = errors
    return Response(
        # ASCII, so that a lone surrogate in an offending value cannot break the answer.
        json.dumps(content).encode("ascii"),
        problem.status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )


def problem_of(error: Exception) -> Problem | None:
    """Return how an exception is told, None where it is a fault of the service."""
    return next((PROBLEMS[t] for t in type(error).__mro__ if t in PROBLEMS), None)


def shown(value: object) -> str:
    """Return a value as it is quoted in a message: shortened, and printable whatever it holds."""
    text = value if isinstance(value, str) else repr(value)
    short = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
    return repr(short) if isinstance(value, str) else short


def _abridged(detail: str) -> str:
    # Not every layer shortens the values that it quotes.
    half = DETAIL_CHARACTERS // 2
    return detail if len(detail) <= DETAIL_CHARACTERS else f"{detail[:half]} … {detail[-half:]}"


async def answer_known(request: Request, error: Exception) -> Response:
    """Answer an error of the table; raise any other."""
    problem = problem_of(error)
    if problem is None:
        raise error
    if problem.status >= 500:
        logger.error("%s", error, exc_info=error, extra=_request_fields(request))
    headers = error.headers if isinstance(error, ServiceError) else None
    return problem_response(_request_id(request), problem, str(error), headers=headers)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    errors = [_field_error(e) for e in found[:LISTED_ERRORS]]
    first = f"{errors[0]['pointer'].lstrip('/') or errors[0]['in']}: {errors[0]['message']}"
    rest = f" ({len(found) - 1} more; `errors` has {len(errors)})" if len(found) > 1 else ""
    problem = PROBLEMS[RequestValidationError]
    return problem_response(_request_id(request), problem, first + rest, errors=errors)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTP_CODES.get(error.status_code, "http_error")
    detail, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == 404:
        detail = f"There is nothing at {shown(request.url.path)}; /docs lists what there is."
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_allowed_methods(request)))
        detail = f"{request.method} is not possible here; use {headers['Allow']}."
    problem = Problem(error.status_code, code)
    return problem_response(_request_id(request), problem, detail, headers=headers)


def _allowed_methods(request: Request) -> set[str]:
    # The router knows the methods of the first route with this path only; there may be several.
    allowed: set[str] = set()
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            allowed.add(method)
    return allowed


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    where, *path = error["loc"] or ("body",)
    known = {"extra_forbidden": "is not a known name here", "missing": "is required"}
    message = known.get(error["type"])
    if message is None:
        message = str(error["msg"]).removeprefix("Value error, ")
        message += f"; got {shown(error['input'])}"
    pointer = "".join(f"/{_escaped(part)}" for part in path)
    return {"in": str(where), "pointer": pointer, "message": message}


def _escaped(part: object) -> str:
    text = str(part)[:SHOWN_CHARACTERS]
    return text.replace("~", "~0").replace("/", "~1")


def _request_id(request: Request) -> str:
    return str(request.state.request_id)


def _request_fields(request: Request) -> dict[str, Any]:
    return {"fields": {"request_id": _request_id(request)}}
