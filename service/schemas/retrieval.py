"""`POST /retrieve`: what clips are searched by, and what was found."""

from typing import Annotated

from pydantic import ConfigDict, Field, Json, model_validator

from service.schemas.parts import (
    CLIP_IDS_LIMIT,
    MINUS_LIMIT,
    Answer,
    ClipId,
    ClipModality,
    Moment,
    QueryModality,
    RequestPart,
    SearchModality,
    Tags,
    TopK,
    Words,
)


class ClipConditions(RequestPart):
    """What clips of a listing or a search must meet; an absent part restricts nothing."""

    tags: Tags = Field(default_factory=list, description="All of these are on the clip.")
    class_name: str | None = Field(
        None, alias="class", description="The class nearest to the clip is this one."
    )
    modality: ClipModality | None = Field(
        None, description="The clip has usable sound (`audio`) or pictures (`video`)."
    )
    created_after: Moment | None = Field(
        None, description="Stored later than this; without an offset it is taken as UTC."
    )
    created_before: Moment | None = Field(
        None, description="Stored earlier than this; without an offset it is taken as UTC."
    )


class RetrieveFilter(ClipConditions):
    """Which clips may be found."""

    clip_ids: list[ClipId] | None = Field(
        None, max_length=CLIP_IDS_LIMIT, description="The clip is one of these."
    )


Minus = Annotated[
    list[Words],
    Field(max_length=MINUS_LIMIT, description="Words for what the results should not be like."),
]


class RetrieveRequest(RequestPart):
    """Body of `POST /retrieve`: exactly one of `query` and `clip_id`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "a dog barking in the rain", "minus": ["thunder"], "top_k": 5},
                {"clip_id": "0198c7f2", "modality": "audio", "filter": {"tags": ["holiday"]}},
                {"clip_id": "0198c7f2", "query_modality": "audio", "modality": "video"},
            ]
        }
    )

    query: Words | None = Field(None, description="Words to search by.")
    clip_id: ClipId | None = Field(None, description="A stored clip to search by; not a result.")
    minus: Minus = Field(default_factory=list)
    top_k: TopK = 5
    modality: SearchModality = "both"
    query_modality: QueryModality = None
    filter: RetrieveFilter | None = None

    @model_validator(mode="after")
    def _one_of_query_and_clip(self) -> "RetrieveRequest":
        if (self.query is None) == (self.clip_id is None):
            raise ValueError("needs exactly one of query and clip_id")
        if self.query is not None and self.query_modality is not None:
            raise ValueError("query_modality is of a clip; words have none, so leave it out")
        return self


class RetrieveForm(RequestPart):
    """Fields of `POST /retrieve/by-file` besides the file."""

    minus: Minus = Field(default_factory=list)
    top_k: TopK = 5
    modality: SearchModality = "both"
    query_modality: QueryModality = None
    filter: Json[RetrieveFilter] | None = Field(
        None,
        description="The same object as in `POST /retrieve`, as JSON text.",
        examples=['{"tags": ["holiday"]}'],
    )


class Result(Answer):
    """A clip found, with the window of it that fits best."""

    clip_id: str
    score: float
    start_seconds: float
    end_seconds: float
    filename: str
    source: str | None = Field(description="Where the file came from, if that was said.")
    tags: list[str]
    media_url: str
    thumbnail_url: str | None = Field(description="Null where the clip has no pictures.")


class Results(Answer):
    """Answer of `POST /retrieve`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {
                            "clip_id": "0198c7f2",
                            "score": 0.42,
                            "start_seconds": 2.0,
                            "end_seconds": 6.0,
                            "filename": "beach.mp4",
                            "source": "/home/me/films/beach.mp4",
                            "tags": ["holiday"],
                            "media_url": "/clips/0198c7f2/media",
                            "thumbnail_url": "/clips/0198c7f2/thumbnail",
                        }
                    ],
                    "model_id": "3f9c0c5b",
                }
            ]
        }
    )

    results: list[Result]
    model_id: str
