"""`/classes`: the names that clips are classified by."""

from datetime import datetime

from pydantic import ConfigDict, Field

from service.schemas.parts import QUERY_LIMIT, SYNONYMS_LIMIT, Answer, PageQuery, RequestPart


class ClassRequest(RequestPart):
    """Body of `POST /classes`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "kettle whistling",
                    "synonyms": ["boiling kettle"],
                    "description": "A whistling tone that rises as water boils.",
                }
            ]
        }
    )

    name: str = Field(description="Up to 200 characters.")
    synonyms: list[str] = Field(
        default_factory=list, max_length=SYNONYMS_LIMIT, description="Other names; up to 50."
    )
    description: str = Field("", description="Up to 2000 characters.")


class ClassPatch(RequestPart):
    """Body of `PATCH /classes/{class_id}`; what is absent stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"synonyms": ["tea kettle"]}, {"enabled": False}]}
    )

    name: str | None = None
    synonyms: list[str] | None = Field(None, max_length=SYNONYMS_LIMIT)
    description: str | None = None
    enabled: bool | None = Field(None, description="Whether answers may name it.")


class Class(Answer):
    """A class that answers may name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "class_id": "0198c7f3",
                    "name": "kettle whistling",
                    "synonyms": ["boiling kettle"],
                    "description": "",
                    "seen": False,
                    "enabled": True,
                    "created_at": "2026-01-31T12:00:00Z",
                }
            ]
        }
    )

    class_id: str
    name: str
    synonyms: list[str]
    description: str
    seen: bool = Field(description="Whether the model was trained on it.")
    enabled: bool
    created_at: datetime


class ClassQuery(PageQuery):
    """Query string of `GET /classes`."""

    query: str | None = Field(
        None, max_length=QUERY_LIMIT, description="Part of a name or synonym, in any case."
    )
    seen: bool | None = Field(None, description="Only those the model was, or was not, trained on.")


class Classes(Answer):
    """Answer of `GET /classes`, in order of arrival."""

    items: list[Class]
    total: int = Field(description="How many there are in all.")
    offset: int
    limit: int
