"""The cluster of Ray that the commands use: one that runs, or one of this machine for as long."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from service.settings import Settings


@contextmanager
def connected_cluster() -> Iterator[None]:
    """Be connected meanwhile: to RAY_ADDRESS or this machine's cluster, else to a new one.

    Raises ConnectionError where the address does not answer.
    """
    if ray.is_initialized():
        yield
        return
    # A cluster that is started here tells nobody that it was.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def shortage(needed: Mapping[str, float], free: Mapping[str, float]) -> str | None:
    """Return what a cluster lacks now of "CPU" and "GPU", and is waited for; None if nothing.

    It may be one that grows.
    """
    for kind, amount in needed.items():
        if amount > (present := free.get(kind, 0.0)):
            return (
                f"The cluster has {present:g} {kind}s to spare and {amount:g} are needed, so this "
                "waits for more; AVGZSL_RAY_* say how many each process takes."
            )
    return None


def model_resources(settings: Settings) -> dict[str, Any]:
    """Return what each copy of the model reserves, as options of a task or an actor."""
    return {"num_cpus": settings.ray_model_cpus, "num_gpus": settings.ray_model_gpus}
