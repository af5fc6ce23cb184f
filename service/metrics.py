"""Every metric that `/metrics` shows, for Prometheus: its name, its labels and where it comes from.

An application has a registry of its own, so that several in one process do not count together.
Labels take few values each: a path counts under its route's template, an unknown one as `unknown`.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from index.errors import LibraryError
from index.job_types import JobState
from index.types import LibraryStatus
from service.version import package_version

if TYPE_CHECKING:
    from index.library import Library
    from service.intake import Intake
    from service.serving import Serving

logger = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

Stage = Literal["embed", "decode", "forward", "embed_texts", "search"]
"""A part of answering that takes time of its own."""


class Metrics:
    """What one application counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._requests = Counter(
            "avgzsl_http_requests",
            "Requests answered; status 499 where the client left first.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._request_seconds = Histogram(
            "avgzsl_http_request_duration_seconds",
            "From a request's first byte to its answer's last.",
            ["method", "route"],
            buckets=REQUEST_BUCKETS,
            registry=self._registry,
        )
        self._in_progress = Gauge(
            "avgzsl_http_requests_in_progress",
            "Requests that are being received, worked on or answered.",
            registry=self._registry,
        )
        self._stage_seconds = Histogram(
            "avgzsl_stage_duration_seconds",
            "Time that a part of answering took.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=self._registry,
        )

        self._batch_rows = Histogram(
            "avgzsl_batch_rows",
            "Windows, texts or names in one call of the model.",
            ["kind"],
            buckets=BATCH_BUCKETS,
            registry=self._registry,
        )

    @contextmanager
    def request_in_progress(self) -> Iterator[None]:
        """Count a request as being worked on meanwhile."""
        with self._in_progress.track_inprogress():
            yield

    def observe_request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        method = method if method in METHODS else "OTHER"
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def observe_stage(self, stage: Stage, seconds: float) -> None:
        """Count a part of an answer."""
        self._stage_seconds.labels(stage).observe(seconds)

    @contextmanager
    def batch(self, stage: Stage, kind: str, rows: int) -> Iterator[None]:
        """Count and time one call of the model."""
        self._batch_rows.labels(kind).observe(rows)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe_stage(stage, time.perf_counter() - started)

    @contextmanager
    def watching(self, library: "Library", serving: "Serving", intake: "Intake") -> Iterator[None]:
        """Show a library and what waits meanwhile; all are asked whenever somebody looks."""
        collectors = (_LibraryCollector(library), _ServingCollector(serving, intake))
        with ExitStack() as watched:
            for collector in collectors:
                self._registry.register(collector)
                watched.callback(self._registry.unregister, collector)
            yield

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the text format that `accept` prefers, and its content type.

        Asks the library, so it is slow.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _ServingCollector(Collector):
    """Asks which model answers and what waits, whenever somebody looks."""

    def __init__(self, serving: "Serving", intake: "Intake") -> None:
        self._serving = serving
        self._intake = intake

    def collect(self) -> Iterator[Metric]:
        """Yield what is there now."""
        model = self._serving.current
        card = model.card
        yield InfoMetricFamily(
            "avgzsl_model",
            "The model that answers.",
            {
                "model_id": card.model_id,
                "head": card.head,
                "audio_backbone": card.audio_backbone,
                "video_backbone": card.video_backbone,
                "text_encoder": card.text_encoder,
                "device": card.device,
            },
        )
        yield InfoMetricFamily("avgzsl_build", "This program.", {"version": package_version()})
        depths = GaugeMetricFamily(
            "avgzsl_queue_depth",
            "Accepted clips, and what waits for the model.",
            labels=["queue"],
        )
        engine = model.engine
        for name, depth in {
            "clips": self._intake.clips.taken,
            "chunks": engine.chunks.waiting,
            "texts": engine.texts.waiting,
            "names": engine.classes.waiting,
        }.items():
            depths.add_metric([name], depth)
        yield depths
        yield GaugeMetricFamily(
            "avgzsl_decoders_alive", "Decoding processes.", value=self._intake.decoder.alive
        )


class _LibraryCollector(Collector):
    """Asks the library what it holds, whenever somebody looks."""

    def __init__(self, library: "Library") -> None:
        self._library = library

    def describe(self) -> Iterable[Metric]:
        """Nothing; else the registry would ask the library for the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield what is held; where the catalogue is away, only that it is."""
        try:
            status = self._library.status()
            jobs = self._library.jobs.count_by_state()
        except LibraryError as error:
            logger.warning("The library cannot be counted: %s", error)
            status = None
        yield GaugeMetricFamily(
            "avgzsl_catalogue_up",
            "Whether the catalogue could be read.",
            value=float(status is not None),
        )
        if status is not None:
            yield from _held(status)
            yield _jobs_by_state(jobs)


def _jobs_by_state(counts: Mapping[str, int]) -> Metric:
    """Every state has its sample: a series that comes and goes cannot be alerted on."""
    jobs = GaugeMetricFamily("avgzsl_jobs", "Jobs that are remembered.", labels=["state"])
    for state in get_args(JobState):
        jobs.add_metric([state], counts.get(state, 0))
    return jobs


def _held(status: LibraryStatus) -> Iterator[Metric]:
    yield GaugeMetricFamily("avgzsl_library_clips", "Stored clips.", value=status.clips)
    yield GaugeMetricFamily("avgzsl_library_classes", "Classes.", value=status.classes)
    yield GaugeMetricFamily(
        "avgzsl_library_windows", "Windows of the stored clips.", value=status.segments
    )
    vectors = GaugeMetricFamily(
        "avgzsl_index_vectors", "Vectors that are searched.", labels=["index"]
    )
    recall = GaugeMetricFamily(
        "avgzsl_index_recall", "Part of the nearest that a search finds.", labels=["index"]
    )
    for name, count in status.vectors.items():
        vectors.add_metric([name], count)
    for name, index in status.indexes.items():
        recall.add_metric([name], index.recall)
    yield vectors
    yield recall
