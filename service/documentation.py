"""Parts of the OpenAPI document that FastAPI cannot tell from the handlers' signatures."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from service.access import Access, target_of
from service.multipart_form import FILE_FIELD
from service.schemas import ProblemDetails

REF_TEMPLATE = "#/components/schemas/{model}"

PROBLEM_DESCRIPTIONS: Mapping[int, str] = MappingProxyType(
    {
        400: "The body cannot be parsed.",
        401: "The API key is missing, unknown or revoked.",
        403: "The API key's scope is too small, or a page of another site sent this.",
        404: "There is nothing under this id.",
        409: "It is in conflict with what is stored.",
        413: "The body, or the clip in it, is larger than a limit.",
        415: "The body is of another kind than what is read here.",
        416: "The range lies behind the end of the file.",
        422: "A value, or the clip, cannot be used.",
        429: "Too many requests, of this caller or of all; `Retry-After` says when to come again.",
        503: "The model does not answer.",
        507: "The disk or the database refused the write.",
    }
)


SECURITY_SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of `avgzsl keys create`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "session": {"type": "apiKey", "in": "cookie", "name": "avgzsl_session"},
}
"""Needed where the service was started with AVGZSL_REQUIRE_API_KEYS."""


def multipart_body(form: type[BaseModel]) -> dict[str, Any]:
    """Describe a form with a file, for `openapi_extra`: the body is parsed by `service.upload`."""
    return {"requestBody": {"required": True, "content": {"multipart/form-data": _form(form)}}}


def multipart_or_json_body(form: type[BaseModel], body: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that is a form with a file or else JSON, for `openapi_extra`."""
    content = {
        "multipart/form-data": _form(form),
        "application/json": {"schema": body.model_json_schema(ref_template=REF_TEMPLATE)},
    }
    return {"requestBody": {"required": True, "content": content}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route, for `responses`."""
    content = {
        "application/problem+json": {
            "schema": {"$ref": REF_TEMPLATE.format(model=ProblemDetails.__name__)}
        }
    }
    return {
        status: {"description": PROBLEM_DESCRIPTIONS[status], "content": content}
        for status in statuses
    }


def with_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Add to a document what `problems` refers to, and drop FastAPI's own schema of errors."""
    schema = ProblemDetails.model_json_schema(ref_template=REF_TEMPLATE)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(schema.pop("$defs"))
    schemas[ProblemDetails.__name__] = schema
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path in document["paths"].values():
        for operation in path.values():
            # FastAPI adds it wherever there is a parameter, an id too, which no text fails.
            unprocessable = operation["responses"].get("422", {})
            if "application/json" in unprocessable.get("content", {}):
                del operation["responses"]["422"]
    return document


def with_access(document: dict[str, Any]) -> dict[str, Any]:
    """Add to a document which operations take a key, and how they refuse those without."""
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            statuses = set() if method == "get" else {403}
            access = target_of(method.upper(), path).access
            if access is not Access.OPEN:
                scopes = [access.scope]
                operation["security"] = [{name: scopes} for name in SECURITY_SCHEMES]
                statuses |= {401, 403, 429}
            described = {str(k): v for k, v in problems(*statuses).items()}
            operation["responses"] = {**described, **operation["responses"]}
    return document


def _form(form: type[BaseModel]) -> dict[str, Any]:
    schema = form.model_json_schema(ref_template=REF_TEMPLATE)
    # What nested models refer to is in the document already, as part of a JSON body.
    schema.pop("$defs", None)
    file = {
        "type": "string",
        "format": "binary",
        "description": "The clip: video or audio in any common format.",
    }
    schema["properties"] = {FILE_FIELD: file, **schema.get("properties", {})}
    schema["required"] = [FILE_FIELD]
    lists = [name for name, p in schema["properties"].items() if p.get("type") == "array"]
    # Without it, Swagger UI joins the items of a list with commas into one field.
    encoding = {name: {"style": "form", "explode": True} for name in lists}
    return {"schema": schema, **({"encoding": encoding} if encoding else {})}
