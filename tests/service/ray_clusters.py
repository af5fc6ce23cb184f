"""Clusters of Ray on this machine, small enough for its memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.cluster_utils import Cluster

STORE_BYTES = 100 * 2**20


@contextmanager
def one_node(num_cpus: int, environment: Mapping[str, str] = {}) -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=num_cpus,
        runtime_env={"env_vars": dict(environment)},
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def several_nodes(head_cpus: int) -> Iterator[Cluster]:
    """A head, to which `add` adds nodes; `remove` kills one with all that runs there."""
    head = {"num_cpus": head_cpus, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def add(cluster: Cluster, num_cpus: int) -> Any:
    return cluster.add_node(num_cpus=num_cpus, object_store_memory=STORE_BYTES)


def kill(cluster: Cluster, node: Any) -> None:
    cluster.remove_node(node, allow_graceful=False)
