"""Jobs as the library keeps them: what they are to do, how far they are, and uploads meanwhile.

Jobs are no part of what the library remembers: a write here counts as no generation, and archives
leave them out. An upload that waits lies among the media, so that every replica can reach it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from index.database import database_errors, for_writing
from index.job_rows import JobRows
from index.job_types import Claim, Job, JobFailure, JobItem, JobState, NewJob, NewJobItem
from index.media import Media
from index.types import Page


class JobStore:
    """The jobs of one library. Any thread of any process that shares it may call any method.

    Whoever writes raises StorageError where the database refuses.
    """

    def __init__(
        self,
        engine: Engine,
        media: Media,
        *,
        owner: str,
        alone: bool,
        exclusive: Callable[[], AbstractContextManager[None]],
        delete_unneeded: Callable[[str], None],
    ) -> None:
        """Use `Library.jobs`.

        `owner` names this process; `alone` says that no other works on these jobs.
        """
        self._engine = engine
        self._media = media
        self._owner = owner
        self._alone = alone
        self._exclusive = exclusive
        self._delete_unneeded = delete_unneeded

    # For whoever asks

    def add_upload(self, new: NewJob, item: NewJobItem, media: Path) -> Job:
        """Add a job of one file, of which a copy is kept; once it returns, both are on disk."""
        with self._media.staging(media) as staged, self._exclusive(), self._writing() as rows:
            # Within the write: nobody deletes it meanwhile because no row names it yet.
            self._media.keep(staged)
            return rows.add(new, item, content_hash=staged.content_hash)

    def add_folder(self, new: NewJob, folder: Path) -> Job:
        """Add a job of the files of a folder on this machine, which are looked for later."""
        item = NewJobItem(name=folder.name or str(folder), path=str(folder))
        with self._writing() as rows:
            return rows.add(new, item, is_folder=True)

    def get(self, job_id: str) -> Job:
        """Return a job. Raises JobNotFound, StorageError."""
        with self._reading() as rows:
            return rows.job(job_id)

    def page(
        self, *, offset: int = 0, limit: int = 100, state: JobState | None = None
    ) -> Page[Job]:
        """Return jobs, newest first. Raises StorageError."""
        with self._reading() as rows:
            return rows.page(offset=offset, limit=limit, state=state)

    def items(
        self, job_id: str, *, offset: int = 0, limit: int = 100, state: JobState | None = None
    ) -> Page[JobItem]:
        """Return a job's items in their order. Raises JobNotFound, StorageError."""
        with self._reading() as rows:
            return rows.item_page(job_id, offset=offset, limit=limit, state=state)

    def news(self, job_id: str, revision: int) -> tuple[Job, list[JobItem]]:
        """Return a job and the items that ended after a revision of it, of one moment.

        Raises JobNotFound, StorageError.
        """
        with self._reading() as rows:
            return rows.job(job_id), rows.ended_since(job_id, revision)

    def count_by_state(self) -> dict[str, int]:
        """How many jobs there are in each state that any is in. Raises StorageError."""
        with self._reading() as rows:
            return rows.count_by_state()

    def cancel_or_remove(self, job_id: str) -> None:
        """Cancel a job that is not finished; remove one that is. Raises JobNotFound."""
        with self._writing() as rows:
            uploads = rows.cancel_or_remove(job_id)
        self._release(uploads)

    def retry(self, job_id: str) -> Job:
        """Queue a job's failed items again. Raises JobNotFound, NothingToRetry."""
        with self._writing() as rows:
            return rows.retry(job_id)

    # For workers

    def claim(self, *, lease_seconds: float, max_attempts: int) -> Claim | None:
        """Take the next item for a while; None where there is nothing to do now.

        Single uploads come before the files of folders. An item whose worker is gone is taken over
        when its lease has run out, and fails once it was begun `max_attempts` times.
        """
        # Workers ask now and then; whoever writes should not wait for that.
        with self._reading() as rows:
            if not rows.has_turn():
                return None
        with self._writing() as rows:
            return rows.claim(
                owner=self._owner, lease_seconds=lease_seconds, max_attempts=max_attempts
            )

    def renew(
        self,
        claim: Claim,
        *,
        lease_seconds: float,
        decoded_seconds: float | None = None,
        declared_seconds: float | None = None,
    ) -> None:
        """Make a lease longer and say how far the item is. Raises JobItemLost."""
        with self._writing() as rows:
            rows.renew(
                claim,
                lease_seconds=lease_seconds,
                decoded_seconds=decoded_seconds,
                declared_seconds=declared_seconds,
            )

    @contextmanager
    def file(self, claim: Claim) -> Iterator[Path]:
        """Give the path of an item's file for a while. Raises StorageError where it is away."""
        if claim.content_hash is None:
            yield Path(claim.path or "")
            return
        with self._media.local(claim.content_hash) as path:
            yield path

    def end_duplicate(self, claim: Claim, clip_id: str) -> None:
        """Say that a clip of the same bytes is there. Raises JobItemLost."""
        self._end(claim, lambda rows: rows.end_done(claim, duplicate_of=clip_id))

    def end_classified(self, claim: Claim, result: dict[str, Any]) -> None:
        """Keep what a file was classified as. Raises JobItemLost."""
        self._end(claim, lambda rows: rows.end_done(claim, result=result))

    def end_failed(self, claim: Claim, failure: JobFailure) -> None:
        """Say why an item cannot be done; its upload is kept for a retry. Raises JobItemLost."""
        with self._writing() as rows:
            rows.end_failed(claim, failure)

    def expand(self, claim: Claim, files: Iterable[NewJobItem], *, skipped: int) -> None:
        """Put the files of a folder in its place; `skipped` others are no media.

        Raises JobItemLost.
        """
        with self._writing() as rows:
            rows.expand(claim, files, skipped=skipped)

    def put_back(self, claim: Claim, *, delay_seconds: float = 0.0, counts: bool = True) -> None:
        """Queue an item again; `counts` says whether it was an attempt. Raises JobItemLost."""
        with self._writing() as rows:
            rows.put_back(claim, delay_seconds=delay_seconds, counts=counts)

    def take_up(self) -> int:
        """Queue again what this process had begun before it ended; return how many items.

        A process that is alone knows that nobody else has begun anything.
        """
        with self._writing() as rows:
            return rows.put_back_all(None if self._alone else self._owner)

    def forget_finished(self, before: datetime) -> None:
        """Remove the jobs that finished before a moment."""
        while True:
            with self._writing() as rows:
                uploads = rows.forget_finished(before)
            if uploads is None:
                return
            self._release(uploads)

    def _end(self, claim: Claim, end: Callable[[JobRows], None]) -> None:
        with self._writing() as rows:
            end(rows)
        if claim.content_hash is not None:
            self._delete_unneeded(claim.content_hash)

    def _release(self, uploads: Iterable[str]) -> None:
        for content_hash in set(uploads):
            self._delete_unneeded(content_hash)

    @contextmanager
    def _reading(self) -> Iterator[JobRows]:
        with database_errors("read the jobs"), Session(self._engine) as session:
            yield JobRows(session)

    @contextmanager
    def _writing(self) -> Iterator[JobRows]:
        """One transaction, committed at the end."""
        with (
            database_errors("write the jobs"),
            Session(for_writing(self._engine), expire_on_commit=False) as session,
            session.begin(),
        ):
            yield JobRows(session)
