"""Batches of plain numbers: what is grouped, who fails, and what a failure leaves."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from model.errors import OutOfMemory
from service.batching import WATCH_SECONDS, Batcher, BatchLimits
from service.errors import ModelFailed, NotReady, Overloaded

SECONDS = 60
GOOD = 0
POISON = -1

Numbers = Batcher[int, int]
MakeBatcher = Callable[..., Numbers]


class Doubling:
    """A model that doubles numbers, each of which counts as many rows as it says."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException | None = None
        self.fits = 1000

    def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        self.begun.set()
        assert self.gate.wait(SECONDS)
        if self.error is not None:
            raise self.error
        if POISON in items:
            raise ValueError("poisoned")
        if sum(items) > self.fits:
            raise OutOfMemory(f"{sum(items)} rows do not fit")
        return [2 * item for item in items]


@pytest.fixture
def model() -> Doubling:
    return Doubling()


@pytest.fixture
def batcher_of() -> Iterator[MakeBatcher]:
    made: list[Numbers] = []

    def make(model: Doubling, **options: Any) -> Numbers:
        limits = {
            "max_rows": 100,
            "max_waiting_rows": None,
            "wait_seconds": 0.0,
            "max_failures": 3,
            "answer_seconds": 600.0,
        }
        limits |= {key: options.pop(key) for key in list(options) if key in limits}
        made.append(
            Batcher(
                "numbers",
                model,
                rows=abs,
                limits=BatchLimits(**limits),
                good_item=GOOD,
                **options,
            )
        )
        return made[-1]

    yield make
    for batcher in made:
        batcher.close()


def while_busy(batcher: Numbers, model: Doubling, items: Sequence[int]) -> list[Future[int]]:
    """Submit items that wait while the model works on another, then let it go on."""
    model.gate.clear()
    model.begun.clear()
    first = batcher.submit(1)
    assert model.begun.wait(SECONDS)
    futures = [batcher.submit(item) for item in items]
    model.gate.set()
    assert first.result(SECONDS) == 2
    return futures


def test_what_comes_while_the_model_works_is_one_batch(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    futures = while_busy(batcher_of(model), model, [3, 4, 5])

    assert [f.result(SECONDS) for f in futures] == [6, 8, 10]
    assert model.batches == [[1], [3, 4, 5]]


def test_pain_06_a_batch_is_bounded_by_rows_and_not_by_items(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    futures = while_busy(batcher_of(model, max_rows=10), model, [5, 5, 1, 30, 2, 2, 2])

    assert [f.result(SECONDS) for f in futures] == [10, 10, 2, 60, 4, 4, 4]
    assert model.batches == [[1], [5, 5], [1], [30], [2, 2, 2]]


def test_a_lone_item_never_waits(model: Doubling, batcher_of: MakeBatcher) -> None:
    batcher = batcher_of(model, wait_seconds=3600.0, is_more_coming=lambda waiting: waiting < 1)

    assert batcher.submit(3).result(SECONDS) == 6


def test_an_item_waits_for_others_on_their_way(model: Doubling, batcher_of: MakeBatcher) -> None:
    batcher = batcher_of(model, wait_seconds=3600.0, is_more_coming=lambda waiting: waiting < 2)

    first = batcher.submit(3)
    time.sleep(0.1)
    second = batcher.submit(4)

    assert [first.result(SECONDS), second.result(SECONDS)] == [6, 8]
    assert model.batches == [[3, 4]]


def test_an_item_waits_no_longer_than_it_may(model: Doubling, batcher_of: MakeBatcher) -> None:
    batcher = batcher_of(model, wait_seconds=0.01, is_more_coming=lambda waiting: True)

    assert batcher.submit(3).result(SECONDS) == 6


def test_pain_03_a_bad_item_fails_alone(model: Doubling, batcher_of: MakeBatcher) -> None:
    batcher = batcher_of(model)
    before, bad, after = while_busy(batcher, model, [3, POISON, 4])

    assert [before.result(SECONDS), after.result(SECONDS)] == [6, 8]
    with pytest.raises(ModelFailed, match="ValueError") as caught:
        bad.result(SECONDS)
    assert "poisoned" not in str(caught.value)
    assert batcher.is_healthy


def test_pain_02_what_does_not_fit_is_halved_until_it_does(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    model.fits = 8
    futures = while_busy(batcher_of(model), model, [4, 4, 3, 3, 2, 9])

    assert [f.result(SECONDS) for f in futures[:-1]] == [8, 8, 6, 6, 4]
    with pytest.raises(OutOfMemory, match="9 rows"):
        futures[-1].result(SECONDS)
    assert sum(sum(batch) <= 8 for batch in model.batches) >= 3


def test_pain_01_a_broken_model_is_told_and_recovers(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    batcher = batcher_of(model)
    model.error = RuntimeError("the device is lost")

    with pytest.raises(ModelFailed):
        batcher.submit(3).result(SECONDS)
    assert not batcher.is_healthy
    model.error = None
    assert batcher.check().result(SECONDS) == 0
    assert batcher.is_healthy


def test_a_broken_model_is_not_asked_for_each_item_of_a_batch(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    batcher = batcher_of(model)
    model.gate.clear()
    first = batcher.submit(1)
    assert model.begun.wait(SECONDS)
    futures = [batcher.submit(item) for item in range(1, 10)]
    model.error = RuntimeError("the device is lost")
    model.gate.set()

    for future in (first, *futures):
        with pytest.raises(ModelFailed):
            future.result(SECONDS)
    # The first and its check, the batch, and, as the model was known to be broken, no more.
    assert len(model.batches) <= 5


def test_a_model_that_does_not_answer_in_time_is_not_asked_again(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    batcher = batcher_of(model)
    model.error = NotReady("no copy answered")
    futures = [batcher.submit(item) for item in (1, 2, 3)]

    for future in futures:
        with pytest.raises(NotReady, match="no copy answered"):
            future.result(SECONDS)
    assert sum(map(len, model.batches)) == 3
    assert batcher.is_healthy


def test_pain_02_a_model_that_fails_too_often_is_given_up_once(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    reasons: list[str] = []
    batcher = batcher_of(model, max_failures=3, on_broken=reasons.append)
    model.error = RuntimeError("the device is lost")

    for _ in range(2):
        with pytest.raises(ModelFailed):
            batcher.submit(3).result(SECONDS)
    model.error = None
    batcher.submit(3).result(SECONDS)
    model.error = RuntimeError("the device is lost")
    for calls in range(1, 6):
        with pytest.raises(ModelFailed):
            batcher.submit(3).result(SECONDS)
        assert len(reasons) == (calls >= 3)

    assert "3 times in a row" in reasons[0]
    assert "the device is lost" in reasons[0]


def test_a_model_that_is_in_order_again_answers_those_beside_poison(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    together = 1
    batcher = batcher_of(
        model, wait_seconds=3600.0, is_more_coming=lambda waiting: waiting < together
    )
    model.error = RuntimeError("the device is away")
    with pytest.raises(ModelFailed):
        batcher.submit(3).result(SECONDS)
    assert not batcher.is_healthy
    model.error, together = None, 2

    poisoned, other = batcher.submit(POISON), batcher.submit(4)

    with pytest.raises(ModelFailed):
        poisoned.result(SECONDS)
    assert other.result(SECONDS) == 8


def test_poison_alone_never_has_the_model_given_up(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    reasons: list[str] = []
    batcher = batcher_of(model, max_failures=1, on_broken=reasons.append)

    for _ in range(5):
        with pytest.raises(ModelFailed):
            batcher.submit(POISON).result(SECONDS)

    assert reasons == []
    assert batcher.is_healthy


def test_pain_04_when_the_thread_dies_callers_are_answered_and_another_takes_over(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    batcher = batcher_of(model)
    model.error = SystemExit("no Exception, so no batch survives it")

    with pytest.raises(ModelFailed, match="SystemExit"):
        batcher.submit(3).result(SECONDS)
    model.error = None

    assert batcher.submit(4).result(SECONDS) == 8


def test_pain_04_a_model_that_answers_too_little_leaves_nobody_waiting(
    model: Doubling, batcher_of: MakeBatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Doubling, "__call__", lambda self, items: [])
    batcher = batcher_of(model)

    with pytest.raises(ModelFailed):
        batcher.submit(3).result(SECONDS)


def test_pain_05_an_item_cancelled_before_its_turn_never_runs(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    batcher = batcher_of(model)
    model.gate.clear()
    batcher.submit(1)
    assert model.begun.wait(SECONDS)
    dropped, kept = batcher.submit(5), batcher.submit(6)
    assert dropped.cancel()
    model.gate.set()

    assert kept.result(SECONDS) == 12
    assert model.batches == [[1], [6]]


def test_pain_09_too_many_waiting_rows_are_refused_but_a_large_item_has_its_turn(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    batcher = batcher_of(model, max_waiting_rows=10)
    model.gate.clear()
    batcher.submit(1)
    assert model.begun.wait(SECONDS)
    large = batcher.submit(50)
    with pytest.raises(Overloaded, match="50 numbers wait"):
        batcher.submit(1)
    model.gate.set()

    assert large.result(SECONDS) == 100
    assert batcher.submit(1).result(SECONDS) == 2


def test_pain_01_a_model_that_never_answers_is_given_up_and_leaves_nobody_waiting(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    reasons: list[str] = []
    batcher = batcher_of(model, answer_seconds=0.2, on_broken=reasons.append)
    model.gate.clear()
    hanging = batcher.submit(1)
    assert model.begun.wait(SECONDS)
    waiting = batcher.submit(2)

    for future in (hanging, waiting):
        with pytest.raises(ModelFailed, match=r"not answered for 0\.2 s on numbers"):
            future.result(SECONDS)
    with pytest.raises(NotReady):
        batcher.submit(3)
    assert not batcher.is_healthy

    model.gate.set()
    batcher.close()
    assert len(reasons) == 1
    assert "AVGZSL_MODEL_TIMEOUT_SECONDS" in reasons[0]


def test_a_model_that_has_nothing_to_do_is_not_given_up(
    model: Doubling, batcher_of: MakeBatcher
) -> None:
    reasons: list[str] = []
    batcher = batcher_of(model, answer_seconds=0.1, on_broken=reasons.append)
    assert batcher.submit(1).result(SECONDS) == 2

    time.sleep(3 * WATCH_SECONDS)

    assert batcher.submit(2).result(SECONDS) == 4
    assert reasons == []


def test_closing_answers_what_waits(model: Doubling, batcher_of: MakeBatcher) -> None:
    batcher = batcher_of(model)
    model.gate.clear()
    running = batcher.submit(1)
    assert model.begun.wait(SECONDS)
    waiting = batcher.submit(2)
    threading.Timer(0.2, model.gate.set).start()

    batcher.close()

    assert running.result(SECONDS) == 2
    with pytest.raises(NotReady):
        waiting.result(SECONDS)
    with pytest.raises(NotReady):
        batcher.submit(3)
