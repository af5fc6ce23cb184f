"""What the application holds while it runs, made before the first request and closed at the end."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection, Request

from model.embedding import ClipEmbedder, DescribedModel
from model.media.limits import MediaLimits
from service.chosen_model import ChosenModel
from service.classification import Classifier
from service.decoding import DecodePool
from service.engine import Engine
from service.imports import ImportRoots
from service.intake import Intake
from service.jobs import JobOptions, JobRunner
from service.keyring import Keyring
from service.metrics import Metrics
from service.model_swap import ModelSwap
from service.multipart_form import FormLimits
from service.observation import Observation
from service.pipeline import Pipeline, vocabulary_classes
from service.pool import BoundedPool
from service.readiness import Readiness
from service.retrieval import Retriever, modality_weights
from service.serving import ServedModel, Serving
from service.settings import Settings
from service.upload import UploadDirectory

if TYPE_CHECKING:
    from index.library import Library

logger = logging.getLogger(__name__)

OTHER_FIELDS = 100
"""Form fields besides the candidate labels: tags, and what a route takes once."""


@dataclass(frozen=True, slots=True)
class Resources:
    """One of everything."""

    settings: Settings
    library: "Library"
    intake: Intake
    serving: Serving
    swap: ModelSwap
    uploads: UploadDirectory
    readiness: Readiness
    keyring: Keyring
    metrics: Metrics
    jobs: JobRunner
    class_changes: asyncio.Lock
    """Held from reading a class to writing it, so that its words and its vector agree."""


def log_broken(reason: str) -> None:
    """Log why the model was given up."""
    logger.critical("%s", reason)


@contextmanager
def open_resources(
    settings: Settings,
    embedder: ClipEmbedder | None,
    observation: Observation,
    on_broken: Callable[[str], None] = log_broken,
    *,
    swappable: bool = True,
) -> Iterator[Resources]:
    """Load the model, warm it up and open the library; slow, so run it in a thread.

    Args:
        settings: see `Settings`.
        embedder: used instead of the model that the settings name.
        observation: what is told of the work.
        on_broken: called with a reason when the model has failed too often.
        swappable: whether another model may take over.

    Raises:
        ModelError: the model cannot be loaded.
        LibraryError: the library cannot be opened.
    """
    # Torch and FAISS take seconds to import; `avgzsl --help` should not wait for them.
    from index.api_keys import ApiKeyStore  # noqa: PLC0415

    with ExitStack() as stack:
        intake = stack.enter_context(open_intake(settings))
        serving = Serving(on_broken)
        make = partial(
            _make_pipeline, settings, intake, observation=observation, on_broken=serving.give_up
        )
        if embedder is None:
            embedder = load_embedder(with_model_in_use(settings))
        pipeline = make(embedder)
        stack.callback(pipeline.engine.close)
        pipeline.engine.warm_up()
        intake.decoder.wait_until_ready()
        library = stack.enter_context(open_library(settings, embedder))
        keyring = Keyring(
            ApiKeyStore.open(settings.library_dir, catalogue_url=settings.catalogue_url)
        )
        stack.callback(keyring.close)
        served = partial(_served, library=library, observation=observation)
        serving.replace(served(pipeline))
        stack.callback(serving.close)
        swap = ModelSwap(
            settings,
            library,
            serving,
            load=lambda model: make(_load(settings, model)),
            served=served,
            possible=swappable,
        )
        stack.callback(swap.close)
        stack.enter_context(observation.metrics.watching(library, serving, intake))
        yield _assembled(
            settings, library, intake, serving, swap, keyring=keyring, metrics=observation.metrics
        )


@contextmanager
def open_pipeline(
    settings: Settings,
    embedder: ClipEmbedder | None = None,
    observation: Observation | None = None,
) -> Iterator[Pipeline]:
    """Start the decoding processes, load a model meanwhile, and warm both up, without a library.

    Arguments and exceptions as of `open_resources`.
    """
    observation = observation or Observation()
    with ExitStack() as stack:
        intake = stack.enter_context(open_intake(settings))
        pipeline = _make_pipeline(
            settings,
            intake,
            embedder or load_embedder(settings),
            observation=observation,
            on_broken=lambda _, reason: log_broken(reason),
        )
        stack.callback(pipeline.engine.close)
        pipeline.engine.warm_up()
        intake.decoder.wait_until_ready()
        yield pipeline


@contextmanager
def open_intake(settings: Settings) -> Iterator[Intake]:
    """Start the decoding processes, which are not waited for."""
    decoder = DecodePool(
        workers=settings.decode_workers,
        memory_bytes=settings.decode_memory_bytes,
        clips_per_worker=settings.decode_clips_per_worker,
    )
    # Twice as many as decode: a clip that waits for the model's last answer needs no decoder.
    clips = BoundedPool(
        "clip",
        threads=2 * settings.decode_workers,
        places=settings.decode_workers + settings.queue_size,
    )
    intake = Intake(decoder, clips, media_limits(settings), job_limits=job_limits(settings))
    with closing(intake):
        yield intake


def with_model_in_use(settings: Settings) -> Settings:
    """Return the settings with the model that `POST /model` chose for their library, if it did.

    Raises StorageError.
    """
    chosen = ChosenModel(settings.data_dir, setting=settings.model)
    return settings.model_copy(update={"model": chosen.in_use(settings.library_dir)})


def open_library(settings: Settings, model: DescribedModel) -> "Library":
    """Open the library of the settings for a model, whose classes it then has.

    Raises LibraryError.
    """
    from index.library import Library  # noqa: PLC0415

    library = Library.open(
        settings.library_dir,
        model_id=model.card.space_id,
        dim=model.card.embedding_dim,
        weights=modality_weights(model.calibration),
        vector_store=settings.vector_store,
        catalogue_url=settings.catalogue_url,
        media_url=settings.media_url,
    )
    with ExitStack() as failing:
        failing.callback(library.close)
        library.seed_classes(model.card.space_id, vocabulary_classes(model))
        failing.pop_all()
    return library


def get_resources(connection: HTTPConnection) -> Resources:
    """Return the resources of the application that a request came to."""
    resources: Resources = connection.app.state.resources
    return resources


# FastAPI calls a function that is not async in a thread.
async def _request_resources(request: Request) -> Resources:
    return get_resources(request)


ResourcesDep = Annotated[Resources, Depends(_request_resources)]
"""The resources, as a handler's parameter."""


def load_embedder(settings: Settings) -> ClipEmbedder:
    """Load the model that the settings name. Raises ModelError."""
    from model.embedder import Embedder  # noqa: PLC0415
    from model.frozen import FrozenEmbedder  # noqa: PLC0415

    embedder = FrozenEmbedder if settings.head == "frozen" else Embedder
    return embedder.load(
        settings.model,
        device=settings.device,
        audio_backbone=settings.audio_backbone,
        video_backbone=settings.video_backbone,
        text_encoder=settings.text_encoder,
    )


def media_limits(settings: Settings) -> MediaLimits:
    """Return what one media file may cost."""
    return MediaLimits(
        max_bytes=settings.max_upload_bytes,
        max_duration_seconds=settings.max_duration_seconds,
        max_frame_pixels=settings.max_frame_pixels,
        max_streams=settings.max_streams,
        decode_timeout_seconds=settings.decode_timeout_seconds,
    )


def job_limits(settings: Settings) -> MediaLimits:
    """Return what one media file of a job may cost."""
    return replace(
        media_limits(settings),
        max_duration_seconds=settings.max_job_duration_seconds,
        decode_timeout_seconds=settings.job_decode_timeout_seconds,
    )


def job_options(settings: Settings) -> JobOptions:
    """Return how jobs are worked on."""
    return JobOptions(
        workers=settings.job_workers,
        waiting=settings.max_waiting_jobs,
        lease_seconds=settings.job_lease_seconds,
        attempts=settings.job_attempts,
        retry_seconds=settings.job_retry_seconds,
        keep_days=settings.keep_jobs_days,
    )


def _load(settings: Settings, model: str) -> ClipEmbedder:
    return load_embedder(settings.model_copy(update={"model": model}))


def _make_pipeline(
    settings: Settings,
    intake: Intake,
    embedder: ClipEmbedder,
    *,
    observation: Observation,
    on_broken: Callable[[Engine, str], None],
) -> Pipeline:
    engine = Engine(
        embedder,
        observation.metrics,
        batch_rows=settings.batch_rows,
        wait_seconds=settings.batch_wait_milliseconds / 1000,
        max_failures=settings.max_model_failures,
        answer_seconds=settings.model_timeout_seconds,
        is_more_coming=lambda waiting: intake.clips.taken > waiting,
        on_broken=lambda reason: on_broken(engine, reason),
    )
    return Pipeline(engine, intake, observation)


def _served(pipeline: Pipeline, *, library: "Library", observation: Observation) -> ServedModel:
    return ServedModel(
        pipeline,
        Classifier(pipeline, library, observation),
        Retriever(pipeline, library, observation),
    )


def _assembled(
    settings: Settings,
    library: "Library",
    intake: Intake,
    serving: Serving,
    swap: ModelSwap,
    *,
    keyring: Keyring,
    metrics: Metrics,
) -> Resources:
    form_limits = FormLimits(
        max_file_bytes=settings.max_upload_bytes,
        max_fields=settings.max_candidate_labels + OTHER_FIELDS,
    )
    return Resources(
        settings=settings,
        library=library,
        intake=intake,
        serving=serving,
        swap=swap,
        # Not before the library is open: its lock tells that no other process receives files here.
        uploads=UploadDirectory(settings.uploads_dir, form_limits),
        readiness=Readiness(
            serving, intake.decoder, cache_seconds=settings.readiness_cache_seconds
        ),
        keyring=keyring,
        metrics=metrics,
        jobs=JobRunner(
            library,
            serving,
            ImportRoots(settings.import_roots),
            intake=intake,
            options=job_options(settings),
        ),
        class_changes=asyncio.Lock(),
    )
