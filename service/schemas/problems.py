"""Errors, as `application/problem+json`."""

from pydantic import ConfigDict, Field

from service.schemas.parts import Answer


class FieldError(Answer):
    """What is wrong with one value of a request."""

    where: str = Field(alias="in", description="`body`, `query` or `path`.")
    pointer: str = Field(description="JSON pointer to the value.")
    message: str


class ProblemDetails(Answer):
    """Every error, as `application/problem+json`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:avgzsl:problem:clip_not_found",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "No clip has the id '0198c7f2'; GET /clips lists them.",
                    "code": "clip_not_found",
                    "request_id": "5d1f6a0e2f0c4f0f9f0e1f7a3b6f0d11",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str = Field(description="What is wrong, the value, the limit, what to do.")
    code: str = Field(description="Stable name of the cause.")
    request_id: str
    errors: list[FieldError] | None = Field(None, description="With `invalid_request` only.")
