"""What the application holds while it runs, made before the first request and closed at the end."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection, Request

from model.embedding import ClipEmbedder
from model.media.limits import MediaLimits
from service.classification import Classifier
from service.keyring import Keyring
from service.metrics import Metrics
from service.multipart_form import FormLimits
from service.observation import Observation
from service.pipeline import Pipeline, vocabulary_classes
from service.readiness import Readiness
from service.retrieval import Retriever, modality_weights
from service.settings import Settings
from service.upload import UploadDirectory

if TYPE_CHECKING:
    from index.library import Library

OTHER_FIELDS = 100
"""Form fields besides the candidate labels: tags, and what a route takes once."""


@dataclass(frozen=True, slots=True)
class Resources:
    """One of everything."""

    settings: Settings
    embedder: ClipEmbedder
    library: "Library"
    pipeline: Pipeline
    classifier: Classifier
    retriever: Retriever
    uploads: UploadDirectory
    readiness: Readiness
    keyring: Keyring
    metrics: Metrics
    class_changes: asyncio.Lock
    """Held from reading a class to writing it, so that its words and its vector agree."""


@contextmanager
def open_resources(
    settings: Settings, embedder: ClipEmbedder | None, observation: Observation
) -> Iterator[Resources]:
    """Load the model, warm it up and open the library; slow, so run it in a thread.

    Raises:
        ModelError: the model cannot be loaded.
        LibraryError: the library cannot be opened.
    """
    # Torch and FAISS take seconds to import; `avgzsl --help` should not wait for them.
    from index.api_keys import ApiKeyStore  # noqa: PLC0415
    from index.library import Library  # noqa: PLC0415

    embedder = embedder or load_embedder(settings)
    embedder.warm_up()
    library = Library.open(
        settings.library_dir,
        model_id=embedder.card.model_id,
        dim=embedder.card.embedding_dim,
        weights=modality_weights(embedder.calibration),
        vector_store=settings.vector_store,
        catalogue_url=settings.catalogue_url,
        media_url=settings.media_url,
    )
    with ExitStack() as stack:
        stack.callback(library.close)
        library.seed_classes(embedder.card.model_id, vocabulary_classes(embedder))
        pipeline = Pipeline(
            embedder,
            media_limits(settings),
            decode_threads=settings.decode_threads,
            queue_size=settings.queue_size,
        )
        stack.callback(pipeline.close)
        keyring = Keyring(
            ApiKeyStore.open(settings.library_dir, catalogue_url=settings.catalogue_url)
        )
        stack.callback(keyring.close)
        card = embedder.card
        stack.enter_context(observation.metrics.watching(library, lambda: card))
        yield _assembled(
            settings, embedder, library, pipeline, keyring=keyring, observation=observation
        )


def get_resources(connection: HTTPConnection) -> Resources:
    """Return the resources of the application that a request came to."""
    resources: Resources = connection.app.state.resources
    return resources


def _request_resources(request: Request) -> Resources:
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


def _assembled(
    settings: Settings,
    embedder: ClipEmbedder,
    library: "Library",
    pipeline: Pipeline,
    *,
    keyring: Keyring,
    observation: Observation,
) -> Resources:
    form_limits = FormLimits(
        max_file_bytes=settings.max_upload_bytes,
        max_fields=settings.max_candidate_labels + OTHER_FIELDS,
    )
    return Resources(
        settings=settings,
        embedder=embedder,
        library=library,
        pipeline=pipeline,
        classifier=Classifier(
            pipeline,
            library,
            embedder.calibration,
            observation,
            dim=embedder.card.embedding_dim,
        ),
        retriever=Retriever(pipeline, library, modality_weights(embedder.calibration), observation),
        # Not before the library is open: its lock tells that no other process receives files here.
        uploads=UploadDirectory(settings.uploads_dir, form_limits),
        readiness=Readiness(pipeline, cache_seconds=settings.readiness_cache_seconds),
        keyring=keyring,
        metrics=observation.metrics,
        class_changes=asyncio.Lock(),
    )
