"""Bases of all models, and what several of them have: limits, kinds of fields, slices of listings.

Names the service does not know are refused, so that a misspelt one is never silently ignored.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from index.names import checked_source

TOP_K_LIMIT = 1000
QUERY_LIMIT = 1000
MINUS_LIMIT = 20
TEXTS_LIMIT = 1000
TAGS_LIMIT = 50
SYNONYMS_LIMIT = 1000
"""How many are looked at; fewer are allowed, and that is for the library to say."""
CLIP_IDS_LIMIT = 1000
PAGE_LIMIT = 1000
OFFSET_LIMIT = 10**9


class RequestPart(BaseModel):
    """Base of everything that a client sends."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """Base of everything that a client gets."""

    model_config = ConfigDict(frozen=True)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("should hold a visible character")
    return text.strip()


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("should lie between the years 1 and 9999, in UTC too") from error


Words = Annotated[str, Field(min_length=1, max_length=QUERY_LIMIT), AfterValidator(_not_blank)]
Moment = Annotated[datetime, AfterValidator(_in_utc)]
ClipModality = Literal["audio", "video"]
ClipId = Annotated[str, Field(min_length=1, max_length=64)]
Sha256 = Annotated[
    str,
    Field(min_length=64, max_length=64, pattern="^[0-9a-fA-F]*$"),
    AfterValidator(str.lower),
]
Source = Annotated[
    str,
    AfterValidator(checked_source),
    Field(
        description="Where the file came from, a path or a URL; kept as it is, and never opened.",
        examples=["/home/me/films/beach.mp4"],
    ),
]
Tags = Annotated[list[str], Field(max_length=TAGS_LIMIT)]
TopK = Annotated[int, Field(ge=1, le=TOP_K_LIMIT, description="How many, best first.")]
SearchModality = Annotated[
    Literal["both", "audio", "video"],
    Field(description="What is compared: sound, pictures, or both where a clip has both."),
]
QueryModality = Annotated[
    Literal["both", "audio", "video"] | None,
    Field(
        description="By which of the query's own embeddings to search; null: those of `modality`. "
        "`audio` with the modality `video` finds pictures that go with a sound."
    ),
]
Mode = Annotated[
    Literal["sync", "async"],
    Field(
        description="`sync` answers once it is done; `async` answers 202 with the id of a job once "
        "the file is on disk, and takes longer clips."
    ),
]


class ModalityUse(Answer):
    """Whether a modality took part, and why not."""

    used: bool
    reason: str | None = None


class Modalities(Answer):
    """What was used of a clip."""

    audio: ModalityUse
    video: ModalityUse


class PageQuery(RequestPart):
    """Which slice of a listing."""

    offset: int = Field(0, ge=0, le=OFFSET_LIMIT, description="How many to pass over.")
    limit: int = Field(100, ge=1, le=PAGE_LIMIT, description="How many to return at most.")
