"""Reading and checking bodies: JSON of bounded length, and the text fields of a form."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from service.errors import BodyTooLarge, MalformedJson, UnsupportedMediaType, shown

ModelT = TypeVar("ModelT", bound=BaseModel)

NAMES_LIMIT = 1000
"""Names of one JSON object. For each that a schema does not know pydantic makes an error: of a body
full of them that would take seconds, during which nobody else is answered."""


def content_type(request: Request) -> str:
    """Return the body's content type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, *, limit: int) -> bytes:
    """Return the whole body of a request that should carry JSON.

    Raises:
        UnsupportedMediaType: it says that it is something else.
        BodyTooLarge: it has more than `limit` bytes; the rest is left unread.
    """
    kind = content_type(request)
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType(
            f"The body's content type is {shown(kind)}; send JSON with the header "
            "'Content-Type: application/json'."
        )
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(
                f"The JSON body is longer than the limit of {limit} bytes; send less at a time."
            )
    return bytes(body)


def parse_json(body: bytes) -> Any:
    """Parse a body. Raises MalformedJson, also for objects of more than `NAMES_LIMIT` names."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise MalformedJson(
            f"The body is not UTF-8: byte {error.start} is 0x{body[error.start]:02x}; "
            "send JSON encoded as UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        raise MalformedJson(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except RecursionError as error:
        raise MalformedJson("The body is nested too deeply; send a flat JSON object.") from error
    except ValueError as error:
        # Python reads no integer of more than some thousand digits, as that takes long.
        raise MalformedJson(
            "The body holds an integer of too many digits; send a smaller one."
        ) from error


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > NAMES_LIMIT:
        raise MalformedJson(
            f"The body has an object of {len(pairs)} names; the limit is {NAMES_LIMIT}."
        )
    return dict(pairs)


def validated(schema: type[ModelT], values: object) -> ModelT:
    """Check parsed values against a schema.

    Raises:
        RequestValidationError: as FastAPI does for a body that it checks itself.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError(
            [{**e, "loc": ("body", *e["loc"])} for e in error.errors(include_url=False)]
        ) from error


def form_values(
    schema: type[BaseModel], fields: Mapping[str, Sequence[str]]
) -> dict[str, str | list[str]]:
    """Shape a form's fields, each a list of texts, as `schema` expects them.

    A blank field counts as absent unless it is a list's: browsers send the blanks of a form too.

    Raises:
        RequestValidationError: a field that takes one value was sent several times.
    """
    values: dict[str, str | list[str]] = {}
    for name, texts in fields.items():
        if _takes_list(schema, name):
            values[name] = list(texts)
        elif len(texts) > 1:
            raise RequestValidationError(
                [
                    {
                        "type": "repeated_field",
                        "loc": ("body", name),
                        "msg": f"was sent {len(texts)} times; send it once",
                        "input": list(texts),
                    }
                ]
            )
        elif texts[0].strip():
            values[name] = texts[0]
    return values


def _takes_list(schema: type[BaseModel], name: str) -> bool:
    field = schema.model_fields.get(name)
    return field is not None and isinstance(field.get_default(call_default_factory=True), list)
