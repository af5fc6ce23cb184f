"""What an application tells of itself while it works: metrics and traces, of the same parts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.metrics import Metrics, Stage
from service.tracing import Tracing


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
