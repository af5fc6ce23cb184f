"""Jobs and their items in the catalogue, within one transaction."""

import secrets
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, and_, delete, func, insert, select, update
from sqlalchemy.orm import Session

from index.errors import JobItemLost, JobNotFound, NothingToRetry
from index.job_types import (
    UNFINISHED,
    Claim,
    CurrentItem,
    Job,
    JobCounts,
    JobFailure,
    JobItem,
    JobKind,
    JobState,
    NewJob,
    NewJobItem,
)
from index.tables import JobItemRow, JobRow
from index.types import Page

NEEDING: tuple[JobState, ...] = (*UNFINISHED, "failed")
"""States in which the item's upload is kept; a failed one may be tried again."""

PRIORITIES: dict[JobKind, int] = {"clip": 0, "classify": 0, "import": 1}
"""Single uploads come before folders, which would keep them waiting for hours; less is sooner."""

FORGOTTEN_AT_ONCE = 100
"""Jobs that are deleted in one transaction, for which other writers wait."""


def needs_upload(content_hash: str) -> ColumnElement[bool]:
    """Whether an item still needs the upload of this hash, as a condition on `JobItemRow`."""
    return and_(JobItemRow.content_hash == content_hash, JobItemRow.state.in_(NEEDING))


class JobRows:
    """Reads and writes jobs; who writes holds the database's write lock."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # Questions

    def job(self, job_id: str) -> Job:
        """Return a job. Raises JobNotFound."""
        return self._records([self._row(job_id)])[0]

    def page(self, *, offset: int, limit: int, state: JobState | None) -> Page[Job]:
        """Return jobs, newest first."""
        conditions = [] if state is None else [JobRow.state == state]
        total = self._session.scalars(select(func.count(JobRow.id)).where(*conditions)).one()
        rows = self._session.scalars(
            select(JobRow).where(*conditions).order_by(JobRow.id.desc()).offset(offset).limit(limit)
        ).all()
        return Page(tuple(self._records(rows)), total, offset)

    def item_page(
        self, job_id: str, *, offset: int, limit: int, state: JobState | None
    ) -> Page[JobItem]:
        """Return a job's items in their order. Raises JobNotFound."""
        conditions = [JobItemRow.job_row == self._row(job_id).id]
        if state is not None:
            conditions.append(JobItemRow.state == state)
        total = self._session.scalars(select(func.count(JobItemRow.id)).where(*conditions)).one()
        rows = self._session.scalars(
            select(JobItemRow)
            .where(*conditions)
            .order_by(JobItemRow.id)
            .offset(offset)
            .limit(limit)
        )
        return Page(tuple(_item(row) for row in rows), total, offset)

    def ended_since(self, job_id: str, revision: int) -> list[JobItem]:
        """Return items that ended after a revision of their job, in that order."""
        rows = self._session.scalars(
            select(JobItemRow)
            .where(
                JobItemRow.job_row == self._row(job_id).id,
                JobItemRow.revision > revision,
                JobItemRow.state.not_in(UNFINISHED),
            )
            .order_by(JobItemRow.revision, JobItemRow.id)
        )
        return [_item(row) for row in rows]

    def has_turn(self) -> bool:
        """Whether there is an item that a worker could take now."""
        return self._any(_abandoned()) or self._any(_waiting())

    def count_by_state(self) -> dict[str, int]:
        """How many jobs there are in each state that any is in."""
        rows = self._session.execute(
            select(JobRow.state, func.count(JobRow.id)).group_by(JobRow.state)
        )
        return dict(rows.all())

    # Jobs

    def add(
        self,
        new: NewJob,
        item: NewJobItem,
        *,
        content_hash: str | None = None,
        is_folder: bool = False,
    ) -> Job:
        """Insert a job of one item."""
        row = JobRow(
            job_id=uuid.uuid4().hex,
            kind=new.kind,
            state="queued",
            revision=1,
            options=dict(new.options),
            skipped=0,
            created_at=datetime.now(UTC),
        )
        self._session.add(row)
        self._session.flush()
        self._add_items(row, [item], content_hash=content_hash, is_folder=is_folder)
        return self._records([row])[0]

    def cancel_or_remove(self, job_id: str) -> list[str]:
        """Cancel a job that is not finished, remove one that is; return its uploads' hashes.

        Raises JobNotFound.
        """
        row = self._row(job_id)
        uploads = self._uploads([row.id])
        if row.state in UNFINISHED:
            row.revision += 1
            row.state, row.finished_at = "cancelled", datetime.now(UTC)
            self._session.execute(
                update(JobItemRow)
                .where(JobItemRow.job_row == row.id, JobItemRow.state.in_(UNFINISHED))
                .values(state="cancelled", revision=row.revision, **NOBODYS)
            )
        else:
            self._remove([row.id])
        return uploads

    def forget_finished(self, before: datetime) -> list[str] | None:
        """Remove some jobs that finished before a moment; return their uploads' hashes.

        None where there are no such jobs.
        """
        rows = self._session.scalars(
            select(JobRow.id)
            .where(JobRow.state.not_in(UNFINISHED), JobRow.finished_at < before)
            .limit(FORGOTTEN_AT_ONCE)
        ).all()
        if not rows:
            return None
        uploads = self._uploads(rows)
        self._remove(rows)
        return uploads

    def retry(self, job_id: str) -> Job:
        """Queue a job's failed items again. Raises JobNotFound, NothingToRetry."""
        row = self._row(job_id)
        failed = and_(JobItemRow.job_row == row.id, JobItemRow.state == "failed")
        if row.state == "cancelled" or not self._any(failed):
            raise NothingToRetry(
                f"The job {job_id} is {row.state} and has no failed item that could be tried "
                "again; only failed items can, of a job that was not cancelled."
            )
        row.revision += 1
        row.finished_at = None
        row.state = "queued" if row.state not in UNFINISHED else row.state
        self._session.execute(
            update(JobItemRow)
            .where(failed)
            .values(
                state="queued",
                attempts=0,
                revision=row.revision,
                due_at=datetime.now(UTC),
                error_code=None,
                error_detail=None,
            )
        )
        return self._records([row])[0]

    # Items

    def claim(self, *, owner: str, lease_seconds: float, max_attempts: int) -> Claim | None:
        """Take the next item, one whose worker is gone before others; None where there is none.

        One that was begun so many times and never came to an end is not begun again: it fails.
        """
        while True:
            item = self._first(_abandoned()) or self._first(_waiting())
            if item is None:
                return None
            job = self._session.get_one(JobRow, item.job_row)
            if item.state != "running" or item.attempts < max_attempts:
                break
            self._end(
                job,
                item,
                failure=JobFailure(
                    "interrupted",
                    f"The service stopped {item.attempts} times while it worked on this file, and "
                    "may have stopped because of it; retry the job to try again.",
                ),
            )
        now = datetime.now(UTC)
        item.state, item.owner, item.token = "running", owner, secrets.token_hex(8)
        item.leased_until = now + timedelta(seconds=lease_seconds)
        item.attempts += 1
        item.decoded_seconds = item.declared_seconds = None
        if job.state == "queued":
            job.state, job.started_at = "running", job.started_at or now
        job.revision += 1
        self._session.flush()
        return Claim(
            item_id=item.id,
            token=item.token,
            job_id=job.job_id,
            kind=cast(JobKind, job.kind),
            options=job.options,
            name=item.name,
            path=item.path,
            content_type=item.content_type,
            content_hash=item.content_hash,
            is_folder=item.is_folder,
            attempts=item.attempts,
        )

    def renew(
        self,
        claim: Claim,
        *,
        lease_seconds: float,
        decoded_seconds: float | None,
        declared_seconds: float | None,
    ) -> None:
        """Make a lease longer and say how far the item is. Raises JobItemLost."""
        job, item = self._held(claim)
        item.leased_until = datetime.now(UTC) + timedelta(seconds=lease_seconds)
        if decoded_seconds != item.decoded_seconds:
            item.decoded_seconds, item.declared_seconds = decoded_seconds, declared_seconds
            job.revision += 1

    def end_done(
        self,
        claim: Claim,
        *,
        clip_id: str | None = None,
        duplicate_of: str | None = None,
        result: dict[str, Any] | None = None,
    ) -> None:
        """Say what came of an item. Raises JobItemLost."""
        job, item = self._held(claim)
        item.clip_id, item.duplicate_of = clip_id, duplicate_of
        if result is not None:
            job.result = result
        self._end(job, item)

    def end_failed(self, claim: Claim, failure: JobFailure) -> None:
        """Say why an item cannot be done. Raises JobItemLost."""
        job, item = self._held(claim)
        self._end(job, item, failure=failure)

    def put_back(self, claim: Claim, *, delay_seconds: float, counts: bool) -> None:
        """Queue an item again; `counts` says whether it was an attempt. Raises JobItemLost."""
        job, item = self._held(claim)
        item.state = "queued"
        item.due_at = datetime.now(UTC) + timedelta(seconds=delay_seconds)
        item.attempts -= 0 if counts else 1
        _let_go(item)
        job.revision += 1

    def expand(self, claim: Claim, files: Iterable[NewJobItem], *, skipped: int) -> None:
        """Put a folder's files in its place. Raises JobItemLost."""
        job, item = self._held(claim)
        self._session.delete(item)
        job.revision += 1
        job.skipped = skipped
        self._add_items(job, files)
        self._finish_if_ended(job)

    def put_back_all(self, owner: str | None) -> int:
        """Queue what an owner had begun, or all owners; return how many items that are."""
        mine = JobItemRow.state == "running"
        if owner is not None:
            mine = and_(mine, JobItemRow.owner == owner)
        items = self._session.scalars(select(JobItemRow).where(mine)).all()
        for item in items:
            item.state, item.due_at = "queued", datetime.now(UTC)
            _let_go(item)
        return len(items)

    # Parts of these

    def _row(self, job_id: str) -> JobRow:
        row = self._session.scalar(select(JobRow).where(JobRow.job_id == job_id))
        if row is None:
            raise JobNotFound(
                f"No job has the id {job_id!r}; it may have been removed. List the jobs."
            )
        return row

    def _held(self, claim: Claim) -> tuple[JobRow, JobItemRow]:
        item = self._session.get(JobItemRow, claim.item_id)
        if item is None or item.state != "running" or item.token != claim.token:
            raise JobItemLost(
                f"The item {claim.name!r} of the job {claim.job_id} was cancelled or taken over."
            )
        return self._session.get_one(JobRow, item.job_row), item

    def _end(self, job: JobRow, item: JobItemRow, *, failure: JobFailure | None = None) -> None:
        job.revision += 1
        item.revision = job.revision
        item.state = "done" if failure is None else "failed"
        item.error_code = None if failure is None else failure.code
        item.error_detail = None if failure is None else failure.detail
        _let_go(item)
        self._finish_if_ended(job)

    def _finish_if_ended(self, job: JobRow) -> None:
        self._session.flush()
        of_job = JobItemRow.job_row == job.id
        if self._any(of_job, JobItemRow.state.in_(UNFINISHED)):
            return
        failed = self._any(of_job, JobItemRow.state == "failed")
        succeeded = self._any(of_job, JobItemRow.state == "done")
        job.state = "failed" if failed and not succeeded else "done"
        job.finished_at = datetime.now(UTC)

    def _add_items(
        self,
        job: JobRow,
        items: Iterable[NewJobItem],
        *,
        content_hash: str | None = None,
        is_folder: bool = False,
    ) -> None:
        now = datetime.now(UTC)
        priority = PRIORITIES[cast(JobKind, job.kind)]
        rows = [
            {
                "job_row": job.id,
                "name": item.name,
                "path": item.path,
                "content_type": item.content_type,
                "content_hash": content_hash,
                "is_folder": is_folder,
                "state": "queued" if item.failure is None else "failed",
                "priority": priority,
                "attempts": 0,
                "revision": job.revision,
                "due_at": now,
                "error_code": None if item.failure is None else item.failure.code,
                "error_detail": None if item.failure is None else item.failure.detail,
            }
            for item in items
        ]
        if rows:
            self._session.execute(insert(JobItemRow), rows)

    def _any(self, *conditions: ColumnElement[bool]) -> bool:
        return self._session.scalar(select(JobItemRow.id).where(*conditions).limit(1)) is not None

    def _first(self, condition: ColumnElement[bool]) -> JobItemRow | None:
        turns = (JobItemRow.priority, JobItemRow.id)
        return self._session.scalar(select(JobItemRow).where(condition).order_by(*turns).limit(1))

    def _uploads(self, job_rows: Sequence[int]) -> list[str]:
        rows = self._session.scalars(
            select(JobItemRow.content_hash).where(
                JobItemRow.job_row.in_(job_rows), JobItemRow.content_hash.is_not(None)
            )
        )
        return [content_hash for content_hash in rows if content_hash is not None]

    def _remove(self, job_rows: Sequence[int]) -> None:
        self._session.execute(delete(JobRow).where(JobRow.id.in_(job_rows)))

    # Records

    def _records(self, rows: Sequence[JobRow]) -> list[Job]:
        ids = [row.id for row in rows]
        counts = self._counts(ids)
        file_names = self._file_names([row.id for row in rows if row.kind != "import"])
        current: dict[int, list[CurrentItem]] = {}
        running = select(JobItemRow).where(
            JobItemRow.job_row.in_(ids), JobItemRow.state == "running"
        )
        for item in self._session.scalars(running.order_by(JobItemRow.id)):
            current.setdefault(item.job_row, []).append(
                CurrentItem(item.name, item.decoded_seconds or 0.0, item.declared_seconds)
            )
        return [
            Job(
                job_id=row.job_id,
                kind=cast(JobKind, row.kind),
                file_name=file_names.get(row.id),
                state=cast(JobState, row.state),
                revision=row.revision,
                options=row.options,
                counts=_job_counts(counts.get(row.id, {}), row.skipped),
                current=tuple(current.get(row.id, ())),
                result=row.result,
                failure=self._failure(row) if row.state == "failed" else None,
                created_at=row.created_at,
                started_at=row.started_at,
                finished_at=row.finished_at,
            )
            for row in rows
        ]

    def _counts(self, job_rows: Sequence[int]) -> dict[int, dict[str, int]]:
        counts: dict[int, dict[str, int]] = {}
        rows = self._session.execute(
            select(JobItemRow.job_row, JobItemRow.state, func.count(JobItemRow.id))
            .where(JobItemRow.job_row.in_(job_rows))
            .group_by(JobItemRow.job_row, JobItemRow.state)
        )
        for job_row, state, count in rows:
            counts.setdefault(job_row, {})[state] = count
        return counts

    def _file_names(self, job_rows: Sequence[int]) -> dict[int, str]:
        rows = self._session.execute(
            select(JobItemRow.job_row, JobItemRow.name).where(JobItemRow.job_row.in_(job_rows))
        )
        return {row.job_row: row.name for row in rows}

    def _failure(self, row: JobRow) -> JobFailure | None:
        item = self._session.scalar(
            select(JobItemRow)
            .where(JobItemRow.job_row == row.id, JobItemRow.state == "failed")
            .order_by(JobItemRow.revision.desc(), JobItemRow.id.desc())
            .limit(1)
        )
        return None if item is None else _failure(item)


NOBODYS: dict[str, Any] = {"owner": None, "token": None, "leased_until": None}
"""An item that no worker has."""


def _let_go(item: JobItemRow) -> None:
    for name, value in NOBODYS.items():
        setattr(item, name, value)


def _waiting() -> ColumnElement[bool]:
    return and_(JobItemRow.state == "queued", JobItemRow.due_at <= datetime.now(UTC))


def _abandoned() -> ColumnElement[bool]:
    return and_(JobItemRow.state == "running", JobItemRow.leased_until < datetime.now(UTC))


def _job_counts(by_state: dict[str, int], skipped: int) -> JobCounts:
    return JobCounts(
        total=sum(by_state.values()),
        done=by_state.get("done", 0),
        failed=by_state.get("failed", 0),
        cancelled=by_state.get("cancelled", 0),
        skipped=skipped,
    )


def _item(row: JobItemRow) -> JobItem:
    return JobItem(
        number=row.id,
        name=row.name,
        state=cast(JobState, row.state),
        attempts=row.attempts,
        clip_id=row.clip_id,
        duplicate_of=row.duplicate_of,
        failure=_failure(row),
        revision=row.revision,
    )


def _failure(row: JobItemRow) -> JobFailure | None:
    if row.error_code is None:
        return None
    return JobFailure(row.error_code, row.error_detail or "")
