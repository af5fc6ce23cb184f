"""Batches of what several requests bring, one call of the model at a time.

Generic: it knows neither what an item is nor what the model does with it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from model.errors import OutOfMemory
from service.errors import ModelFailed, NotReady, Overloaded
from service.pool import RETRY_AFTER_SECONDS

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

WATCH_SECONDS = 0.5
"""How often it is looked how long the model has taken."""

STOP_SECONDS = 5.0
"""How long closing waits for a call of the model that may never end."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much one batch, and what waits for the next, may be.

    Attributes:
        max_rows: of a batch; an item that has more goes alone.
        max_waiting_rows: beyond these another item is refused; None for no limit, where whoever
            brings the items bounds them.
        wait_seconds: how long a batch's first item may wait for others that are on their way.
        max_failures: checks of the model that may fail in a row before it is given up.
        answer_seconds: how long one call of the model may take before it is given up.
    """

    max_rows: int
    max_waiting_rows: int | None
    wait_seconds: float
    max_failures: int
    answer_seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Job(Generic[ItemT, ResultT]):
    item: ItemT
    rows: int
    future: Future[ResultT] = field(default_factory=Future)


class Batcher(Generic[ItemT, ResultT]):
    """Groups items and calls the model on each group, in a thread of its own.

    Where the model fails on a group, its items are tried one by one, so that one bad item fails
    alone; where memory runs out, halves are tried. After an item that failed alone, the model is
    checked with one that is known to be good: that tells whether the item or the model is to blame.
    Where the model does not answer at all, all that wait are told so, and nothing more is taken.

    Args:
        name: of the thread, and in messages.
        forward: the model; takes some items and returns as many results, in order.
        rows: how much of a batch an item is.
        limits: see `BatchLimits`.
        good_item: what `forward` is known to succeed on.
        is_more_coming: whether it is worth waiting for items besides the number that wait.
        on_broken: called once, with a reason, when the model is given up.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[[Sequence[ItemT]], Sequence[ResultT]],
        *,
        rows: Callable[[ItemT], int],
        limits: BatchLimits,
        good_item: ItemT,
        is_more_coming: Callable[[int], bool] = lambda _: False,
        on_broken: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._forward = forward
        self._rows = rows
        self._limits = limits
        self._good_item = good_item
        self._is_more_coming = is_more_coming
        self._on_broken = on_broken
        self._changed = threading.Condition()
        self._waiting: deque[_Job[ItemT, ResultT]] = deque()
        self._waiting_rows = 0
        self._taken: list[_Job[ItemT, ResultT]] = []
        self._failures = 0
        self._called_at: float | None = None
        self._closed = False
        self._stopped = threading.Event()
        self._thread = self._started_thread()
        watch = threading.Thread(target=self._watch, name=f"watch-{name}", daemon=True)
        watch.start()

    @property
    def is_healthy(self) -> bool:
        """Whether the last call of the model that tells anything of it succeeded."""
        return self._failures == 0

    @property
    def waiting(self) -> int:
        """How many items wait for a batch."""
        return len(self._waiting)

    def submit(self, item: ItemT) -> Future[ResultT]:
        """Put an item into the next batch; cancelling the future before it runs drops it.

        The future raises OutOfMemory, or ModelFailed from whatever else the model raised.

        Raises:
            Overloaded: too much waits already.
            NotReady: the batcher is closed.
        """
        job: _Job[ItemT, ResultT] = _Job(item, self._rows(item))
        with self._changed:
            if self._closed:
                raise NotReady("The service is stopping.")
            self._require_room(job.rows)
            self._waiting.append(job)
            self._waiting_rows += job.rows
            self._changed.notify_all()
        return job.future

    def check(self) -> Future[ResultT]:
        """Put the item that is known to be good into the next batch."""
        return self.submit(self._good_item)

    @property
    def closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._closed

    def close(self) -> None:
        """Answer what waits with NotReady, and wait a little for the batch that runs."""
        self._end(NotReady("The service is stopping."), wait_seconds=STOP_SECONDS)

    def _end(self, answer: Exception, *, wait_seconds: float) -> None:
        """Take nothing more; `answer` is for what waits, and for the batch if it takes longer."""
        with self._changed:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        self._stopped.set()
        for job in waiting:
            _fail(job, answer)
        self._thread.join(wait_seconds)
        for job in self._taken:
            _fail(job, answer)

    def _watch(self) -> None:
        """Give the model up once a call of it has taken too long: it cannot be called back."""
        limit = self._limits.answer_seconds
        while not self._stopped.wait(WATCH_SECONDS):
            since = self._called_at
            if since is not None and time.monotonic() - since > limit:
                reason = f"The model has not answered for {limit:g} s on {self._name}"
                self._failures += 1
                self._end(ModelFailed(f"{reason}; try again later."), wait_seconds=0)
                self._on_broken(f"{reason}; AVGZSL_MODEL_TIMEOUT_SECONDS is the limit.")

    def _call(self, items: Sequence[ItemT]) -> Sequence[ResultT]:
        self._called_at = time.monotonic()
        try:
            return self._forward(items)
        finally:
            self._called_at = None

    def _require_room(self, rows: int) -> None:
        limit = self._limits.max_waiting_rows
        # An item larger than the limit must have its turn too.
        if limit is not None and self._waiting and self._waiting_rows + rows > limit:
            raise Overloaded(
                f"{self._waiting_rows} {self._name} wait for the model, and the limit is {limit}; "
                f"try again in {RETRY_AFTER_SECONDS} seconds.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

    def _started_thread(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name=f"batch-{self._name}", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        try:
            while self._take():
                self._answer(self._taken)
        except BaseException as error:
            # Nobody would ever be answered again: whatever it was, another thread takes over.
            logger.critical("the thread of %s died and is replaced", self._name, exc_info=error)
            self._blame_model(error)
            failure = _model_failed(error)
            for job in self._taken:
                _fail(job, failure)
            self._thread = self._started_thread()

    def _take(self) -> bool:
        """Wait for a batch and take it; False once the batcher is closed."""
        with self._changed:
            self._taken = []
            while not self._taken:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return False
                self._wait_for_more()
                self._taken = self._next_batch()
            return True

    def _wait_for_more(self) -> None:
        deadline = time.monotonic() + self._limits.wait_seconds
        while (
            self._waiting_rows < self._limits.max_rows
            and self._is_more_coming(len(self._waiting))
            and (seconds := deadline - time.monotonic()) > 0
            and not self._closed
        ):
            self._changed.wait(seconds)

    def _next_batch(self) -> list[_Job[ItemT, ResultT]]:
        batch: list[_Job[ItemT, ResultT]] = []
        rows = 0
        while self._waiting and (
            not batch or rows + self._waiting[0].rows <= self._limits.max_rows
        ):
            job = self._waiting.popleft()
            self._waiting_rows -= job.rows
            if job.future.set_running_or_notify_cancel():
                batch.append(job)
                rows += job.rows
        return batch

    def _answer(self, jobs: Sequence[_Job[ItemT, ResultT]]) -> None:
        try:
            results = self._call([job.item for job in jobs])
        except OutOfMemory as error:
            self._answer_smaller(jobs, len(jobs) // 2, error)
        except NotReady as error:
            # Nobody answered in time. To ask again would take as long, and those who wait behind
            # these would wait for it too.
            for job in jobs:
                _fail(job, error)
        except Exception as error:
            self._answer_smaller(jobs, 1, error)
        else:
            self._failures = 0
            for job, result in zip(jobs, results, strict=True):
                _resolve(job, result)

    def _answer_smaller(
        self, jobs: Sequence[_Job[ItemT, ResultT]], size: int, error: Exception
    ) -> None:
        """Try again with `size` jobs at a time; one job alone fails, and the model is checked."""
        if len(jobs) == 1:
            failure = error if isinstance(error, OutOfMemory) else _model_failed(error)
            logger.error("the model failed on one of %s", self._name, exc_info=error)
            self._check_model()
            _fail(jobs[0], failure)
            return
        if self._failures:
            # Of an earlier batch: it may be in order again, and one of these to blame.
            self._check_model()
        for start in range(0, len(jobs), size):
            part = jobs[start : start + size]
            if self._failures:
                # The model is to blame, not one of these: there is no use in trying each.
                for job in part:
                    _fail(job, _model_failed(error))
            else:
                self._answer(part)

    def _check_model(self) -> None:
        try:
            self._call([self._good_item])
        except Exception as error:
            self._blame_model(error)
        else:
            self._failures = 0

    def _blame_model(self, error: BaseException) -> None:
        self._failures += 1
        if self._failures == self._limits.max_failures:
            self._on_broken(
                f"The model failed {self._failures} times in a row on {self._name}, last with "
                f"{type(error).__name__}: {error}"
            )


def _model_failed(error: BaseException) -> ModelFailed:
    failure = ModelFailed(
        f"The model failed ({type(error).__name__}); the service's log tells why. Try again later."
    )
    failure.__cause__ = error
    return failure


def _resolve(job: _Job[ItemT, ResultT], result: ResultT) -> None:
    try:
        job.future.set_result(result)
    except InvalidStateError:
        # Answered by `close`, which did not wait any longer.
        logger.info("an answer came too late")


def _fail(job: _Job[ItemT, ResultT], error: Exception) -> None:
    # It may have been answered or cancelled already, or be so at this very moment.
    with suppress(InvalidStateError):
        job.future.set_exception(error)
