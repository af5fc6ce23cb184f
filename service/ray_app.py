"""The service on Ray Serve: HTTP in one deployment, copies of the model in another.

`serve run service.ray_app:app` starts it with the settings of the environment, and `avgzsl serve
--ray` too. Each HTTP process is the whole application of `service.app`, with an embedder that asks
the copies; these run the same engine as a service that is one process.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from ray import serve
from ray.serve.handle import DeploymentHandle

from model.embedding import ClassText
from model.media.types import ClipChunk
from model.vectors import Vector
from service.app import create_app
from service.errors import ModelFailed
from service.logs import configure_logging
from service.ray_cluster import model_resources
from service.ray_model import HostedModel, LoadEmbedder, ModelDescription
from service.remote_embedder import RemoteEmbedder
from service.resources import load_embedder, with_model_in_use
from service.settings import Settings, SettingsError, load_settings

Matrix = NDArray[np.float32]

HEAD_NODE = "node:__internal_head__"
"""A resource that Ray gives to its head node alone."""

MOST_REQUESTS = 1000
"""Under way in one process: the service has limits of its own, and says 429 and not nothing."""

CALLS_PER_TARGET = 8
"""Calls that a copy may be given at most, by those at which another is started."""

HUNG_CALLS = 4
"""Times that a call may take before an HTTP process would give its batcher up."""

ATTEMPTS = 3
"""How often a process is started before the start is given up, with the reason."""


def app(options: Mapping[str, Any]) -> serve.Application:
    """Return the application for `serve run` and `serve deploy`.

    `options` are settings by their names, before those of the environment. Raises SettingsError.
    """
    return build(load_settings(options))


def build(settings: Settings, load: LoadEmbedder = load_embedder) -> serve.Application:
    """Return the service as one application of Ray Serve; `load` makes the model in its copies.

    Raises SettingsError where several HTTP processes would not share what is stored, StorageError.
    """
    return http(settings, model_copies(settings, load))


def model_copies(settings: Settings, load: LoadEmbedder = load_embedder) -> serve.Application:
    """Return the copies of the model. Raises StorageError."""
    settings = _with_absolute_folder(settings)
    if not is_shared(settings):
        settings = with_model_in_use(settings)
    return serve.deployment(
        ModelCopy,
        name="model",
        ray_actor_options=model_resources(settings),
        max_ongoing_requests=max(1, round(CALLS_PER_TARGET * settings.ray_model_requests)),
        autoscaling_config={
            "min_replicas": settings.ray_min_models,
            "max_replicas": settings.most_models,
            "target_ongoing_requests": settings.ray_model_requests,
        },
        graceful_shutdown_timeout_s=settings.shutdown_timeout_seconds,
        max_constructor_retry_count=ATTEMPTS,
    ).bind(settings, load)


def http(settings: Settings, model: serve.Application | DeploymentHandle) -> serve.Application:
    """Return what answers HTTP by the copies of the model. Raises SettingsError as `build` does."""
    check_ingress(settings)
    settings = _with_absolute_folder(settings)
    # What lies in a folder of one machine is served by that machine.
    place = {} if is_shared(settings) else {"resources": {HEAD_NODE: 0.001}}
    return serve.deployment(
        serve.ingress()(Ingress),
        name="http",
        num_replicas=settings.ray_ingress_replicas,
        ray_actor_options={"num_cpus": settings.ray_ingress_cpus, **place},
        max_ongoing_requests=MOST_REQUESTS,
        graceful_shutdown_timeout_s=settings.shutdown_timeout_seconds,
        max_constructor_retry_count=ATTEMPTS,
    ).bind(settings, model)


def _with_absolute_folder(settings: Settings) -> Settings:
    """Name the library's folder from the root: a process of the cluster runs in another folder."""
    return settings.model_copy(update={"data_dir": settings.data_dir.absolute()})


def is_shared(settings: Settings) -> bool:
    """Whether what is stored lies where every node reaches it."""
    url = settings.catalogue_url
    return url is not None and not url.startswith("sqlite") and settings.media_url is not None


def check_ingress(settings: Settings) -> None:
    """Raise SettingsError where several HTTP processes would not answer as one."""
    count = settings.ray_ingress_replicas
    if count == 1:
        return
    asked = f"AVGZSL_RAY_INGRESS_REPLICAS is {count}, and so many processes"
    if not is_shared(settings):
        raise SettingsError(
            f"{asked} cannot share a library in a folder, which belongs to one: set "
            "AVGZSL_CATALOGUE_URL=postgresql://... and AVGZSL_MEDIA_URL=s3://..., or leave it at 1."
        )
    if settings.vector_store.endswith(".db"):
        raise SettingsError(
            f"{asked} cannot share {settings.vector_store}, a file of Milvus Lite, which belongs "
            "to one: name a Milvus server, or a store in memory such as faiss, of which each has "
            "its own."
        )


class ModelCopy:
    """One copy of the model, for all HTTP processes."""

    def __init__(self, settings: Settings, load: LoadEmbedder) -> None:
        configure_logging(settings.log_format, settings.log_level)
        self._broken: str | None = None
        self._model = HostedModel(settings, load, self._give_up)

    async def describe(self) -> ModelDescription:
        """Return what is known of the model."""
        return self._model.describe()

    async def embed_chunk(self, chunk: ClipChunk) -> tuple[Matrix, Matrix]:
        """Return the finished vectors (Na, D), (Nv, D) of the windows that have each modality.

        Raises OutOfMemory, ModelFailed.
        """
        future = await asyncio.to_thread(self._model.submit, chunk)
        windows = self._model.finish(await asyncio.wrap_future(future))
        return self._stacked([w.audio for w in windows]), self._stacked([w.video for w in windows])

    async def embed_texts(self, texts: Sequence[str]) -> Matrix:
        """Embed sentences as they are. Raises OutOfMemory, ModelFailed."""
        return await asyncio.wrap_future(self._model.engine.texts.submit(texts))

    async def embed_classes(self, classes: Sequence[ClassText]) -> Matrix:
        """Embed classes by their words. Raises OutOfMemory, ModelFailed."""
        return await asyncio.wrap_future(self._model.engine.classes.submit(classes))

    def check_health(self) -> None:
        """Raise ModelFailed where the model has failed too often: Serve then starts another."""
        if self._broken is not None:
            raise ModelFailed(self._broken)

    def __del__(self) -> None:
        if hasattr(self, "_model"):
            self._model.close()

    def _give_up(self, reason: str) -> None:
        self._broken = reason

    def _stacked(self, vectors: Sequence[Vector | None]) -> Matrix:
        present = [vector for vector in vectors if vector is not None]
        dim = self._model.dim
        return np.stack(present) if present else np.zeros((0, dim), np.float32)


class Ingress:
    """The application in one HTTP process of several."""

    def __init__(self, settings: Settings, model: DeploymentHandle) -> None:
        configure_logging(settings.log_format, settings.log_level)
        self._settings = settings_of_replica(settings, serve.get_replica_context().rank.rank)
        self._embedder = RemoteEmbedder(model, call_seconds=settings.ray_call_seconds)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return what answers."""
        return create_app(self._settings, embedder=self._embedder, swappable=False)


def settings_of_replica(settings: Settings, rank: int) -> Settings:
    """Return the settings of one HTTP process: a folder of its own where they share the rest.

    Its batches are what is under way at once, so they are as large as those of all copies. A call
    ends by itself, so it is never taken for a model that hangs.
    """
    changes: dict[str, Any] = {
        "batch_rows": settings.batch_rows * settings.most_models,
        "model_timeout_seconds": max(
            settings.model_timeout_seconds, HUNG_CALLS * settings.ray_call_seconds
        ),
    }
    if is_shared(settings):
        changes["data_dir"] = settings.data_dir / f"replica-{rank}"
    return settings.model_copy(update=changes)
