"""What an application tells of itself while it works: metrics and traces, of the same parts."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, cast

from service.metrics import Metrics, Stage
from service.tracing import Tracing

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Observation:
    """The metrics and the traces of one application."""

    metrics: Metrics = field(default_factory=Metrics)
    tracing: Tracing = field(default_factory=Tracing)

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Time a part of answering and record its span, also where it fails."""
        started = time.perf_counter()
        try:
            with self.tracing.span(stage):
                yield
        finally:
            self.metrics.observe_stage(stage, time.perf_counter() - started)

    def timed_items(
        self, stage: Stage, items: Generator[ItemT, None, ResultT]
    ) -> Generator[ItemT, None, ResultT]:
        """Pass items on and count the time that was waited for them, less what their user took.

        Left early, `items` is closed.
        """
        waited = 0.0
        end_span = self.tracing.start(stage)
        try:
            while True:
                started = time.perf_counter()
                try:
                    item = next(items)
                except StopIteration as stop:
                    return cast(ResultT, stop.value)
                finally:
                    waited += time.perf_counter() - started
                yield item
        finally:
            items.close()
            end_span()
            self.metrics.observe_stage(stage, waited)
