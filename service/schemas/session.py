"""`/session`: the key in a cookie of the page."""

from typing import Literal

from pydantic import ConfigDict, Field, SecretStr

from service.schemas.parts import Answer, RequestPart


class SessionRequest(RequestPart):
    """Body of `POST /session`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"api_key": "avgzsl_0a1b2c3d_" + "x" * 43}]}
    )

    api_key: SecretStr = Field(description="As `avgzsl keys create` printed it.")


class Session(Answer):
    """Answer of `/session`: null where the cookie holds no key that is in use."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "api_keys_required": True,
                    "key_id": "0a1b2c3d",
                    "name": "phone",
                    "scope": "read",
                }
            ]
        }
    )

    api_keys_required: bool
    key_id: str | None
    name: str | None
    scope: Literal["read", "write", "admin"] | None
