"""`/jobs`: what is done later, and how far it is."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from service.schemas.classification import Classification
from service.schemas.clips import StoringOptions
from service.schemas.parts import Answer, PageQuery, Words

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
