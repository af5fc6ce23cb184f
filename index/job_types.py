"""The nouns of jobs, as their callers see them: plain frozen records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

JobKind = Literal["clip", "import", "classify"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
"""Of a job and of each of its items; a job has failed where nothing of it succeeded."""

UNFINISHED: tuple[JobState, ...] = ("queued", "running")


@dataclass(frozen=True, slots=True)
class NewJob:
    """Work that is to be done later; `options` are the kind's own, as JSON holds them."""

    kind: JobKind
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why something ended in failure: a stable code, and a sentence."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class NewJobItem:
    """A file on its way into a job.

    Attributes:
        name: what it is called to whoever asks.
        path: where it lies on this machine, absolute; None where it is kept in the library.
        content_type: what its sender says that it is, or "".
        failure: why it cannot be worked on, which is known already; None where it can.
    """

    name: str
    path: str | None = None
    content_type: str = ""
    failure: JobFailure | None = None


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many items a job has, and how they ended; the others are still to do."""

    total: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    """Files of a folder that are no media; they are no items."""


@dataclass(frozen=True, slots=True)
class CurrentItem:
    """What is being worked on: its name, seconds decoded, and seconds that it says it has."""

    name: str
    decoded_seconds: float
    declared_seconds: float | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job. Times are UTC.

    Attributes:
        file_name: what its one file is called; None where it is of a folder's files.
        revision: counts what has changed of it and of its items.
        result: what a job of the kind `classify` came to.
        failure: of a failed job, why its last item failed.
    """

    job_id: str
    kind: JobKind
    file_name: str | None
    state: JobState
    revision: int
    options: Mapping[str, Any]
    counts: JobCounts
    current: tuple[CurrentItem, ...]
    result: Mapping[str, Any] | None
    failure: JobFailure | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobItem:
    """A file of a job; done, it is a clip or the duplicate of one, unless only classified."""

    number: int
    name: str
    state: JobState
    attempts: int
    clip_id: str | None
    duplicate_of: str | None
    failure: JobFailure | None
    revision: int
    """The job's, when this item last changed its state."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An item that a worker has taken, until its lease runs out or it is taken from it.

    Attributes:
        token: random; a worker that was given up for dead cannot finish what another has taken.
        attempts: how often it was begun, this time among them.
        is_folder: it stands for the files of a folder, which are not known yet.
        content_hash: of a file that is kept in the library, the SHA-256 of its media.
    """

    item_id: int
    token: str
    job_id: str
    kind: JobKind
    options: Mapping[str, Any]
    name: str
    path: str | None
    content_type: str
    content_hash: str | None
    is_folder: bool
    attempts: int
