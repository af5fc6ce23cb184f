"""`/clips`: how clips are stored, listed and shown."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from model.media.limits import MAX_BUCKETS, MAX_HEIGHT, MAX_WIDTH
from service.schemas.parts import (
    Answer,
    Modalities,
    Mode,
    PageQuery,
    RequestPart,
    Sha256,
    Source,
    Tags,
    Words,
)
from service.schemas.retrieval import ClipConditions


class WaveformQuery(RequestPart):
    """Parameters of `GET /clips/{clip_id}/waveform`."""

    buckets: int = Field(
        1000, ge=1, le=MAX_BUCKETS, description="Equal parts that the sound is cut into."
    )


class SpectrogramQuery(RequestPart):
    """Parameters of `GET /clips/{clip_id}/spectrogram`, in pixels."""

    width: int = Field(800, ge=16, le=MAX_WIDTH, description="Of the picture, whatever the sound.")
    height: int = Field(128, ge=16, le=MAX_HEIGHT, description="Of the picture: bands of pitch.")


class Waveform(Answer):
    """Answer of `GET /clips/{clip_id}/waveform`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "duration_seconds": 2.0,
                    "lowest": [-0.31, -0.62],
                    "highest": [0.3, 0.58],
                }
            ]
        }
    )
    duration_seconds: float = Field(description="From the clip's start to the end of its sound.")
    lowest: list[float] = Field(
        description="The lowest sample of each part, -1 to 1; fewer than were asked for where the "
        "sound has fewer samples."
    )
    highest: list[float] = Field(description="The highest sample of each part.")


IfDuplicate = Annotated[
    Literal["store", "skip"],
    Field(
        description="Where a clip of the same bytes is there: `store` another, or `skip` this file "
        "and answer with the one that is there, which stays as it is."
    ),
]


class StoringOptions(RequestPart):
    """How files are to be stored."""

    tags: Tags = Field(
        default_factory=list,
        description="Repeat the field for each.",
        examples=[["holiday", "beach"]],
    )
    if_duplicate: IfDuplicate = "store"


class ClipForm(StoringOptions):
    """Fields of `POST /clips` besides the file."""

    source: Source | None = None
    mode: Mode = "sync"


class ClipPatch(RequestPart):
    """Body of `PATCH /clips/{clip_id}`; what is absent stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tags": ["holiday"]}]})

    tags: Tags | None = Field(None, description="Replaces all tags.")
    filename: Words | None = None
    source: Source | None = None


class ClipQuery(ClipConditions, PageQuery):
    """Query string of `GET /clips`; `tags` is repeated."""

    sha256: Sha256 | None = Field(
        None, description="The clip's file has this SHA-256, hexadecimal, in any case."
    )


class Clip(Answer):
    """A stored clip."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "clip_id": "0198c7f2",
                    "filename": "beach.mp4",
                    "source": "/home/me/films/beach.mp4",
                    "content_type": "video/mp4",
                    "sha256": "9f86d081" * 8,
                    "size_bytes": 734003,
                    "duration_seconds": 4.0,
                    "modalities": {
                        "audio": {"used": True, "reason": None},
                        "video": {"used": True, "reason": None},
                    },
                    "tags": ["holiday"],
                    "warnings": [],
                    "segment_count": 1,
                    "created_at": "2026-01-31T12:00:00Z",
                    "media_url": "/clips/0198c7f2/media",
                    "thumbnail_url": "/clips/0198c7f2/thumbnail",
                    "model_id": "3f9c0c5b",
                }
            ]
        }
    )

    clip_id: str
    filename: str
    source: str | None = Field(description="Where the file came from, if that was said.")
    content_type: str
    sha256: str = Field(description="SHA-256 of the file, hexadecimal.")
    size_bytes: int
    duration_seconds: float
    modalities: Modalities
    tags: list[str]
    warnings: list[str]
    segment_count: int
    created_at: datetime
    media_url: str
    thumbnail_url: str | None
    model_id: str = Field(description="The `space_id` of the model that embedded it.")


class Clips(Answer):
    """Answer of `GET /clips`, newest first."""

    items: list[Clip]
    total: int = Field(description="How many there are in all.")
    offset: int
    limit: int
