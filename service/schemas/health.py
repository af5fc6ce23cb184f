"""`GET /healthz` and `GET /readyz`."""

from typing import Literal

from pydantic import ConfigDict

from service.schemas.parts import Answer


class Health(Answer):
    """Answer of `GET /healthz` and `GET /readyz`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ready", "version": "0.1.0"}]}
    )

    status: Literal["alive", "ready"]
    version: str
