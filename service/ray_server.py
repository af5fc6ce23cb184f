"""Running the service on Ray Serve from the command line, from start to a stop that answers what it
has begun.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray import serve

from service.ray_app import check_ingress, http, model_copies
from service.ray_cluster import connected_cluster, shortage
from service.ray_model import LoadEmbedder
from service.resources import load_embedder
from service.server import ServerFailed
from service.settings import Settings

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

logger = logging.getLogger(__name__)

HTTP = "avgzsl"
MODEL = "avgzsl-model"
"""Applications of their own, so that the model stays until HTTP has ended what it began."""


def run_on_ray(
    settings: Settings, on_ready: Callable[[], None], load: LoadEmbedder = load_embedder
) -> None:
    """Serve on the cluster until a signal stops the process.

    Raises:
        SettingsError: several HTTP processes would not share what is stored.
        ServerFailed: the cluster does not answer, or a process on it did not start.
    """
    check_ingress(settings)
    try:
        with connected_cluster(), _stopped_by_signals() as stopped:
            if (
                warning := shortage(needed_to_serve(settings), ray.available_resources())
            ) is not None:
                logger.warning(warning)
            serve.start(http_options={"host": settings.host, "port": settings.port})
            try:
                model = _started(model_copies(settings, load), name=MODEL, route_prefix=None)
                _started(http(settings, model), name=HTTP)
                on_ready()
                stopped.wait()
            finally:
                for name in (HTTP, MODEL):
                    serve.delete(name)
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise ServerFailed(f"The cluster of Ray does not answer: {error}") from error


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Yield what SIGINT and SIGTERM set meanwhile."""
    stopped = threading.Event()
    former = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _started(
    application: serve.Application, *, name: str, **options: Any
) -> "DeploymentHandle[Any]":
    """Start an application and wait until its processes are ready.

    Raises ServerFailed with what the last of them said that did not start.
    """
    try:
        return serve.run(application, name=name, **options)
    except RuntimeError as error:
        deployments = serve.status().applications[name].deployments.values()
        # The last line of a traceback is what was raised.
        reasons = [one.message.strip().splitlines()[-1] for one in deployments if one.message]
        raise ServerFailed(
            f"{'; '.join(reasons) or error} (logs/serve in Ray's folder, /tmp/ray/session_latest "
            "unless it was told otherwise, has more)"
        ) from error


def needed_to_serve(settings: Settings) -> dict[str, float]:
    """Return the CPUs and GPUs that all processes take which must start."""
    return {
        "CPU": settings.ray_ingress_replicas * settings.ray_ingress_cpus
        + settings.ray_min_models * settings.ray_model_cpus,
        "GPU": settings.ray_min_models * settings.ray_model_gpus,
    }
