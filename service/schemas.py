"""What goes over the wire: request bodies, forms, query strings and answers.

Names the service does not know are refused, so that a misspelt one is never silently ignored.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, SecretStr, model_validator

from index.names import checked_source
from model.media.limits import MAX_BUCKETS, MAX_HEIGHT, MAX_WIDTH

TOP_K_LIMIT = 1000
QUERY_LIMIT = 1000
MINUS_LIMIT = 20
TEXTS_LIMIT = 1000
TAGS_LIMIT = 50
CLIP_IDS_LIMIT = 1000
PAGE_LIMIT = 1000
OFFSET_LIMIT = 10**9

WINDOW_LABELS_LIMIT = 20
"""A long clip has hundreds of windows: with `top_k` labels each, the answer would be all theirs."""


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


# Classify


class ClassifyOptions(RequestPart):
    """How a file is to be classified."""

    candidate_labels: list[str] = Field(
        default_factory=list,
        description="Rank only these names and store nothing; repeat the field for each. "
        "Without it, all enabled classes are ranked.",
        examples=[["dog barking", "rain"]],
    )
    top_k: TopK = 5
    modality: Literal["auto", "audio", "video"] = Field(
        "auto", description="What to use; `auto` takes whatever the file has."
    )
    windows: bool = Field(
        False,
        description="Also rank the labels for each window of the clip, the best "
        f"{WINDOW_LABELS_LIMIT} at most.",
    )


Mode = Annotated[
    Literal["sync", "async"],
    Field(
        description="`sync` answers once it is done; `async` answers 202 with the id of a job once "
        "the file is on disk, and takes longer clips."
    ),
]


class ClassifyForm(ClassifyOptions):
    """Fields of `POST /classify` besides the file."""

    mode: Mode = "sync"


class LabelByModality(Answer):
    """Probability of a label by each modality alone; null where it was not used."""

    audio: float | None
    video: float | None


class Label(Answer):
    """A ranked label."""

    name: str
    score: float = Field(description="Calibrated similarity in [-1, 1]; higher is nearer.")
    probability: float = Field(description="Share among the candidates; all together sum to 1.")
    seen: bool = Field(description="Whether the model was trained on this class.")
    by_modality: LabelByModality


class ModalityUse(Answer):
    """Whether a modality took part, and why not."""

    used: bool
    reason: str | None = None


class Modalities(Answer):
    """What was used of a clip."""

    audio: ModalityUse
    video: ModalityUse


class WindowLabels(Answer):
    """The ranking of one window, [start_seconds, end_seconds)."""

    start_seconds: float
    end_seconds: float
    labels: list[Label]


class Classification(Answer):
    """Answer of `POST /classify`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "labels": [
                        {
                            "name": "dog barking",
                            "score": 0.61,
                            "probability": 0.83,
                            "seen": False,
                            "by_modality": {"audio": 0.79, "video": 0.86},
                        }
                    ],
                    "unknown_probability": 0.04,
                    "modalities": {
                        "audio": {"used": True, "reason": None},
                        "video": {"used": True, "reason": None},
                    },
                    "duration_seconds": 4.0,
                    "windows": [],
                    "warnings": [],
                    "model_id": "3f9c0c5b",
                }
            ]
        }
    )

    labels: list[Label] = Field(description="Best first; empty where nothing could be used.")
    unknown_probability: float = Field(description="Probability that no candidate is right.")
    modalities: Modalities
    duration_seconds: float
    windows: list[WindowLabels] = Field(description="Empty unless asked for.")
    warnings: list[str]
    model_id: str


# Retrieve


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


# Classes


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
    synonyms: list[str] = Field(default_factory=list, description="Other names; up to 50.")
    description: str = Field("", description="Up to 2000 characters.")


class ClassPatch(RequestPart):
    """Body of `PATCH /classes/{class_id}`; what is absent stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"synonyms": ["tea kettle"]}, {"enabled": False}]}
    )

    name: str | None = None
    synonyms: list[str] | None = None
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


class PageQuery(RequestPart):
    """Which slice of a listing."""

    offset: int = Field(0, ge=0, le=OFFSET_LIMIT, description="How many to pass over.")
    limit: int = Field(100, ge=1, le=PAGE_LIMIT, description="How many to return at most.")


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


# Clips


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


# Jobs

JobState = Annotated[
    Literal["queued", "running", "done", "failed", "cancelled"],
    Field(description="A job has `failed` where nothing of it succeeded."),
]


class JobAccepted(Answer):
    """The answer to what is done later."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"job_id": "0198c7f4"}]})

    job_id: str


class ImportRequest(StoringOptions):
    """Body of `POST /jobs/import`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"path": "/srv/media/2026", "tags": ["archive"], "if_duplicate": "skip"}]
        }
    )

    path: Words = Field(
        description="A folder on the machine of the service, below one of `AVGZSL_IMPORT_ROOTS`."
    )
    recursive: bool = Field(True, description="Also what is in the folders below it.")


class JobQuery(PageQuery):
    """Query string of `GET /jobs` and of `GET /jobs/{job_id}/items`."""

    state: JobState | None = None


class JobError(Answer):
    """Why something failed."""

    code: str = Field(description="Stable name of the cause, as in other errors.")
    detail: str


class JobCounts(Answer):
    """How many files there are, and how they ended; the others are still to do."""

    total: int
    done: int
    failed: int
    cancelled: int
    skipped: int = Field(description="Files of a folder that are no media, besides `total`.")


class CurrentItem(Answer):
    """A file that is being worked on."""

    name: str
    decoded_seconds: float
    declared_seconds: float | None = Field(description="What its header says, true or not.")


class Job(Answer):
    """Work that is done later."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "job_id": "0198c7f4",
                    "kind": "import",
                    "name": "/srv/media/2026",
                    "state": "running",
                    "revision": 17,
                    "counts": {
                        "total": 120,
                        "done": 14,
                        "failed": 1,
                        "cancelled": 0,
                        "skipped": 3,
                    },
                    "current": [
                        {
                            "name": "2026/beach.mp4",
                            "decoded_seconds": 42.0,
                            "declared_seconds": 91.5,
                        }
                    ],
                    "result": None,
                    "error": None,
                    "created_at": "2026-01-31T12:00:00Z",
                    "started_at": "2026-01-31T12:00:01Z",
                    "finished_at": None,
                }
            ]
        }
    )

    job_id: str
    kind: Literal["clip", "import", "classify"]
    name: str = Field(description="What its file is called; of an import, the folder's path.")
    state: JobState
    revision: int = Field(description="Grows with each change; the id of its events.")
    counts: JobCounts
    current: list[CurrentItem]
    result: Classification | None = Field(description="Of a `classify` that is done.")
    error: JobError | None = Field(description="Of a failed job, why its last file failed.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Jobs(Answer):
    """Answer of `GET /jobs`, newest first."""

    items: list[Job]
    total: int = Field(description="How many there are in all.")
    offset: int
    limit: int


class JobItem(Answer):
    """A file of a job."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "2026/beach.mp4",
                    "state": "done",
                    "attempts": 1,
                    "clip_id": "0198c7f2",
                    "duplicate_of": None,
                    "error": None,
                }
            ]
        }
    )

    name: str = Field(description="Its name, of an import its path below the folder.")
    state: JobState
    attempts: int
    clip_id: str | None = Field(description="The clip that it became.")
    duplicate_of: str | None = Field(description="The clip that is of the same bytes.")
    error: JobError | None


class JobItems(Answer):
    """Answer of `GET /jobs/{job_id}/items`, in their order."""

    items: list[JobItem]
    total: int = Field(description="How many there are in all.")
    offset: int
    limit: int


# Embed


class EmbedForm(RequestPart):
    """Fields of `POST /embed` besides the file."""

    modality: Literal["auto", "audio", "video"] = Field(
        "auto", description="What to use; `auto` takes whatever the file has."
    )


class EmbedTexts(RequestPart):
    """JSON body of `POST /embed`."""

    texts: list[Words] = Field(
        min_length=1, max_length=TEXTS_LIMIT, examples=[["a dog barking", "rain"]]
    )


class TextVectors(Answer):
    """Answer of `POST /embed` for texts: a unit vector for each, in their order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"vectors": [[0.6, 0.8], [-0.8, 0.6]], "model_id": "3f9c0c5b"}]
        }
    )

    vectors: list[list[float]]
    model_id: str


class WindowVectors(Answer):
    """Unit vectors of one window, [start_seconds, end_seconds)."""

    start_seconds: float
    end_seconds: float
    audio: list[float] | None
    video: list[float] | None


class ClipVectors(Answer):
    """Answer of `POST /embed` for a file: unit vectors, null where a modality was not used."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "audio": [0.6, 0.8],
                    "video": None,
                    "windows": [
                        {
                            "start_seconds": 0.0,
                            "end_seconds": 4.0,
                            "audio": [0.6, 0.8],
                            "video": None,
                        }
                    ],
                    "modalities": {
                        "audio": {"used": True, "reason": None},
                        "video": {"used": False, "reason": "the file has no pictures"},
                    },
                    "duration_seconds": 4.0,
                    "warnings": [],
                    "model_id": "3f9c0c5b",
                }
            ]
        }
    )

    audio: list[float] | None
    video: list[float] | None
    windows: list[WindowVectors]
    modalities: Modalities
    duration_seconds: float
    warnings: list[str]
    model_id: str


# Samples


class Sample(Answer):
    """A clip to try the service with."""

    name: str
    content_type: str
    size_bytes: int
    heard: str | None = Field(description="What is heard; null where it has no sound.")
    seen: str | None = Field(description="What is seen; null where it has no pictures.")
    url: str


class Samples(Answer):
    """Answer of `GET /samples`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "name": "clock.mp4",
                            "content_type": "video/mp4",
                            "size_bytes": 105893,
                            "heard": "a clock ticks",
                            "seen": "a wall clock",
                            "url": "/samples/clock.mp4",
                        }
                    ]
                }
            ]
        }
    )

    items: list[Sample]


# Model and health


class VectorIndex(Answer):
    """How one set of vectors is searched."""

    kind: str = Field(description="`exact`, or the approximate index in use.")
    recall: float = Field(
        description="Part of the 10 nearest that a search finds, as measured; 1 where exact."
    )
    training: bool = Field(description="Whether an index is being trained to take its place.")


class ReindexFailure(Answer):
    """A clip that the model to come can make nothing of."""

    clip_id: str
    filename: str
    reason: str


class ReindexProgress(Answer):
    """How far the change to another model is; the former one answers until its end."""

    model_id: str = Field(description="The model to come.")
    clips: int
    done: int
    failed: int = Field(description="How many clips will be left out of searches.")
    failures: list[ReindexFailure] = Field(description="The first of them, and why.")


class ModelRequest(RequestPart):
    """Body of `POST /model`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "/srv/models/2026-11"}, {"model": "bundled"}]}
    )

    model: Words = Field(
        description="`bundled`, the value of `AVGZSL_MODEL`, or the folder of a checkpoint on the "
        "machine of the service, below one of `AVGZSL_MODEL_ROOTS`."
    )
    accept_failures: bool = Field(
        False, description="Change even if the new model cannot embed most of the stored clips."
    )


SwapState = Literal["loading", "reindexing", "done", "failed", "cancelled"]


class ModelSwap(Answer):
    """The latest change to another model; answer of `POST /model`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "/srv/models/2026-11",
                    "state": "reindexing",
                    "model_id": "9d41e0b7",
                    "space_id": "51c9a2f4",
                    "error": None,
                    "started_at": "2026-11-20T09:00:00Z",
                    "finished_at": None,
                }
            ]
        }
    )

    model: str = Field(description="What was asked for.")
    state: SwapState = Field(
        description="`loading`, with the warm-up; `reindexing`, where stored clips have to be "
        "embedded anew (`reindex` of `GET /model` counts); `done`, `failed` or `cancelled`."
    )
    model_id: str | None = Field(description="The model to come, once it is loaded.")
    space_id: str | None
    error: JobError | None = Field(
        description="Why it failed; then the former model goes on answering."
    )
    started_at: datetime
    finished_at: datetime | None


class ModelInfo(Answer):
    """Answer of `GET /model`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model_id": "3f9c0c5b",
                    "space_id": "3f9c0c5b",
                    "head": "avgzslnet",
                    "audio_backbone": "compact-audio",
                    "video_backbone": "compact-video",
                    "text_encoder": "minilm",
                    "embedding_dim": 384,
                    "device": "cpu",
                    "vector_store": "faiss",
                    "classes": 1200,
                    "clips": 40,
                    "segments": 310,
                    "vectors": {"labels": 1200, "both": 310, "audio": 250, "video": 300},
                    "indexes": {
                        "labels": {"kind": "exact", "recall": 1.0, "training": False},
                        "both": {"kind": "exact", "recall": 1.0, "training": False},
                        "audio": {"kind": "exact", "recall": 1.0, "training": False},
                        "video": {"kind": "exact", "recall": 1.0, "training": False},
                    },
                    "reindex": None,
                    "swap": None,
                }
            ]
        }
    )

    model_id: str = Field(description="Of all that an answer depends on, calibration included.")
    space_id: str = Field(
        description="Of all that a vector depends on; stored clips bear it. While it stays the "
        "same, a new calibration leaves the library as it is."
    )
    head: str
    audio_backbone: str
    video_backbone: str
    text_encoder: str
    embedding_dim: int
    device: str
    vector_store: str
    classes: int
    clips: int
    segments: int
    vectors: Mapping[str, int]
    indexes: Mapping[str, VectorIndex]
    reindex: ReindexProgress | None = Field(
        description="The change to another model that was begun; null where there is none."
    )
    swap: ModelSwap | None = Field(
        description="What came of the latest `POST /model`, or how far it is; null where there "
        "was none since the start."
    )


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


class Health(Answer):
    """Answer of `GET /healthz` and `GET /readyz`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ready", "version": "0.1.0"}]}
    )

    status: Literal["alive", "ready"]
    version: str


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
