"""Working on jobs: a few workers that take items one by one and see each to its end.

What they have done survives them: an item's outcome is written in one transaction with the clip
that it became. An item whose worker vanished is begun again by another.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import random
from typing import TYPE_CHECKING, TypeVar

from starlette.concurrency import run_in_threadpool

from index.errors import DuplicateClip, JobItemLost, ModelMismatch, StorageError
from index.job_types import Claim, Job, JobFailure, NewJob, NewJobItem
from index.media_store import file_digest
from service import schemas
from service.clip_classification import classify_file
from service.content_types import safe_content_type
from service.errors import Overloaded, problem_of
from service.imports import ImportRoots
from service.intake import Intake
from service.logs import log_context
from service.multipart_form import safe_filename
from service.pipeline import DecodeProgress, OnProgress, new_clip
from service.serving import ServedModel, Serving
from service.upload import Upload

if TYPE_CHECKING:
    from index.library import Library

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL_SECONDS = 1.0
"""How soon a job is noticed that another replica was given, or whose time has come."""
BEATS_PER_LEASE = 10
MAX_BEAT_SECONDS = 2.0
"""How old the progress of an item may be."""
MAX_DELAY_SECONDS = 60.0
FORGET_EVERY_SECONDS = 3600.0
RETRY_AFTER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How jobs are worked on.

    Attributes:
        workers: items that are worked on at once; with 0 this process works on none.
        waiting: jobs that may wait; one more is refused.
        lease_seconds: how long a worker that has vanished keeps its item.
        attempts: how often an item is begun at most.
        retry_seconds: the wait before the second attempt, which doubles with each further one.
        keep_days: how long a finished job is remembered.
    """

    workers: int
    waiting: int
    lease_seconds: float
    attempts: int
    retry_seconds: float
    keep_days: float


class _Progress:
    """How far an item is, as the thread that decodes it says and its worker tells the catalogue."""

    def __init__(self) -> None:
        self.latest = DecodeProgress(0.0, None)

    @property
    def has_begun(self) -> bool:
        """Whether anything was decoded."""
        return self.latest.decoded_seconds > 0

    def note(self, progress: DecodeProgress) -> None:
        """Take the latest in."""
        self.latest = progress


class JobRunner:
    """The jobs of a library: takes them in, and works on them between `start` and `stop`."""

    def __init__(
        self,
        library: "Library",
        serving: Serving,
        roots: ImportRoots,
        *,
        intake: Intake,
        options: JobOptions,
    ) -> None:
        self._library = library
        self._store = library.jobs
        self._serving = serving
        self._roots = roots
        self._intake = intake
        self._limits = intake.job_limits
        self._options = options
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # What is to be done

    async def add_upload(self, new: NewJob, upload: Upload) -> Job:
        """Take a job of an uploaded file in, which is on disk then.

        Raises Overloaded, StorageError.
        """
        await self.require_room()
        item = NewJobItem(upload.filename, content_type=upload.content_type)
        job = await run_in_threadpool(self._store.add_upload, new, item, upload.path)
        self.wake()
        return job

    async def add_import(self, wanted: schemas.ImportRequest) -> Job:
        """Take an import in.

        Raises ImportRefused, ImportFolderNotFound, Overloaded, StorageError.
        """
        folder = await run_in_threadpool(self._roots.folder, wanted.path)
        await self.require_room()
        new = NewJob("import", wanted.model_dump(mode="json"))
        job = await run_in_threadpool(self._store.add_folder, new, folder)
        self.wake()
        return job

    def wake(self) -> None:
        """Let the workers look at once whether there is something to do."""
        self._news.set()

    async def require_room(self) -> None:
        """Raise Overloaded where as many jobs wait as may, StorageError where none can be told."""
        waiting = (await run_in_threadpool(self._store.count_by_state)).get("queued", 0)
        if waiting >= self._options.waiting:
            raise Overloaded(
                f"{waiting} jobs are waiting, and the limit is {self._options.waiting}; try again "
                f"in {RETRY_AFTER_SECONDS} seconds.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

    # Working on it

    async def start(self) -> None:
        """Go on with what this process had begun, and start the workers."""
        if not self._options.workers:
            return
        if count := await run_in_threadpool(self._store.take_up):
            logger.info("going on with %d items of interrupted jobs", count)
        for number in range(self._options.workers):
            self._tasks.append(asyncio.create_task(self._work(), name=f"job-{number}"))
        self._tasks.append(asyncio.create_task(self._forget(), name="job-forget"))

    async def stop(self) -> None:
        """Stop the workers; what they had begun waits for the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _work(self) -> None:
        while True:
            if not self._intake.has_room:
                # Others keep the queue full: a job waits on the disk, however long.
                await asyncio.sleep(POLL_SECONDS)
                continue
            try:
                claim = await self._shielded(
                    lambda: self._store.claim(
                        lease_seconds=self._options.lease_seconds,
                        max_attempts=self._options.attempts,
                    )
                )
                if claim is not None:
                    with log_context(job_id=claim.job_id):
                        await self._do(claim)
                    continue
            except StorageError:
                # Its lease runs out, and it is begun again.
                logger.exception("the jobs cannot be reached; trying again")
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._news.wait()
            self._news.clear()

    async def _shielded(self, take: Callable[[], Claim | None]) -> Claim | None:
        """Take an item; stopped meanwhile, put it back, for the thread cannot be stopped."""
        taking = asyncio.ensure_future(run_in_threadpool(take))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            with suppress(StorageError):
                claim = await taking
                if claim is not None:
                    await self._put_back(claim)
            raise

    async def _do(self, claim: Claim) -> None:
        """See an item to its end, and keep its lease alive. Raises StorageError."""
        progress = _Progress()
        work = asyncio.ensure_future(self._carry_out(claim, progress))
        beat_seconds = min(MAX_BEAT_SECONDS, self._options.lease_seconds / BEATS_PER_LEASE)
        try:
            while not (await asyncio.wait({work}, timeout=beat_seconds))[0]:
                await run_in_threadpool(
                    self._store.renew,
                    claim,
                    lease_seconds=self._options.lease_seconds,
                    decoded_seconds=progress.latest.decoded_seconds,
                    declared_seconds=progress.latest.declared_seconds,
                )
            work.result()
        except JobItemLost as error:
            logger.info("%s", error, extra=_fields(claim))
        except asyncio.CancelledError:
            await _cancelled(work)
            await self._put_back(claim)
            raise
        finally:
            await _cancelled(work)

    async def _put_back(self, claim: Claim) -> None:
        """Queue again what is not gone on with, where that can be told: else its lease runs out."""
        with suppress(JobItemLost, StorageError):
            await run_in_threadpool(self._store.put_back, claim, counts=False)

    async def _carry_out(self, claim: Claim, progress: _Progress) -> None:
        """Do an item, or say why it cannot be done. Raises JobItemLost, StorageError."""
        try:
            if claim.is_folder:
                await self._look_through(claim)
            elif claim.kind == "classify":
                await self._classify(claim, progress.note)
            else:
                await self._store_clip(claim, progress.note)
        except JobItemLost:
            raise
        except Exception as error:
            # Nothing was tried where another took the last place at the same moment.
            counts = progress.has_begun or not isinstance(error, Overloaded)
            await self._give_up_or_put_back(claim, error, counts=counts)

    async def _look_through(self, claim: Claim) -> None:
        wanted = schemas.ImportRequest.model_validate(claim.options)
        found = await run_in_threadpool(
            self._roots.files, Path(claim.path or ""), recursive=wanted.recursive
        )
        await run_in_threadpool(self._store.expand, claim, found.items, skipped=found.skipped)
        self.wake()

    async def _store_clip(self, claim: Claim, note: OnProgress) -> None:
        wanted = schemas.StoringOptions.model_validate(
            {name: claim.options[name] for name in schemas.StoringOptions.model_fields}
        )
        skips = wanted.if_duplicate == "skip"
        with ExitStack() as stack:
            path = await run_in_threadpool(self._opened, claim, stack)
            if skips:
                content_hash = await run_in_threadpool(_content_hash, claim, path)
                present = await run_in_threadpool(self._library.clip_of, content_hash)
                if present is not None:
                    await run_in_threadpool(self._store.end_duplicate, claim, present.clip_id)
                    return
            try:
                await self._serving.answer(
                    lambda model: self._embed_and_add(model, claim, path, wanted, note)
                )
            except DuplicateClip as error:
                await run_in_threadpool(self._store.end_duplicate, claim, error.clip_id)

    async def _embed_and_add(
        self,
        model: ServedModel,
        claim: Claim,
        path: Path,
        wanted: schemas.StoringOptions,
        note: OnProgress,
    ) -> None:
        embedding, thumbnail = await model.pipeline.embed_clip_with_thumbnail(
            path, limits=self._limits, on_progress=note
        )
        filename = safe_filename(claim.name)
        new = new_clip(
            embedding,
            filename=filename,
            content_type=safe_content_type(claim.content_type, filename),
            tags=wanted.tags,
            thumbnail=thumbnail,
            source=claim.path or claim.options.get("source"),
        )
        await run_in_threadpool(
            self._library.add_clip,
            new,
            path,
            model_id=model.card.space_id,
            refuse_duplicate=wanted.if_duplicate == "skip",
            claim=claim,
        )

    async def _classify(self, claim: Claim, note: OnProgress) -> None:
        form = schemas.ClassifyOptions.model_validate(claim.options)

        with ExitStack() as stack:
            path = await run_in_threadpool(self._opened, claim, stack)
            answer = await self._serving.answer(
                lambda model: classify_file(
                    model, path, form, limits=self._limits, on_progress=note
                )
            )
        result = await run_in_threadpool(answer.model_dump, mode="json")
        await run_in_threadpool(self._store.end_classified, claim, result)

    def _opened(self, claim: Claim, stack: ExitStack) -> Path:
        path = stack.enter_context(self._store.file(claim))
        return path if claim.content_hash is not None else self._roots.file(path)

    async def _give_up_or_put_back(self, claim: Claim, error: Exception, *, counts: bool) -> None:
        """Fail an item, or try it again later: where that may help, or this was no attempt."""
        problem = problem_of(error)
        code = "internal_error" if problem is None else problem.code
        passing = problem is None or problem.status == 429 or problem.status >= 500
        if problem is None:
            logger.error("an item failed unexpectedly", exc_info=error, extra=_fields(claim))
        passing = passing or isinstance(error, ModelMismatch)
        if not counts or (passing and claim.attempts < self._options.attempts):
            delay = self._options.retry_seconds * 2 ** (claim.attempts - 1)
            delay_seconds = min(delay, MAX_DELAY_SECONDS) * (0.5 + random() / 2)
            logger.info("trying again: %s", error, extra=_fields(claim))
            await run_in_threadpool(
                self._store.put_back, claim, delay_seconds=delay_seconds, counts=counts
            )
            return
        detail = str(error) if problem is not None else "The service failed; its log says why."
        await run_in_threadpool(self._store.end_failed, claim, JobFailure(code, detail))

    async def _forget(self) -> None:
        while True:
            before = datetime.now(UTC) - timedelta(days=self._options.keep_days)
            try:
                await run_in_threadpool(self._store.forget_finished, before)
            except StorageError as error:
                logger.warning("finished jobs are kept for now: %s", error)
            await asyncio.sleep(FORGET_EVERY_SECONDS)


@asynccontextmanager
async def working(runner: JobRunner) -> AsyncIterator[None]:
    """Work on jobs meanwhile."""
    await runner.start()
    try:
        yield
    finally:
        await runner.stop()


async def _cancelled(work: "asyncio.Future[None]") -> None:
    """Cancel work and wait until it is; what it raised was told, or is of no interest any more."""
    work.cancel()
    await asyncio.wait({work})
    if not work.cancelled():
        work.exception()


def _content_hash(claim: Claim, path: Path) -> str:
    return file_digest(path) if claim.content_hash is None else claim.content_hash


def _fields(claim: Claim) -> dict[str, object]:
    return {"fields": {"item": claim.name}}
