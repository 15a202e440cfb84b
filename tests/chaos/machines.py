"""A cluster of simulated machines on loopback: a head without work on it, and nodes that can be lost and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
from ray.cluster_utils import Cluster

EAGER = {"worker_niceness": 0}
"""Ray's workers give way to every other process of a machine, which on a busy one can make a round very long."""
FAST_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 5,
}
_STARTS = 4
CPUS_PER_NODE = 5
"""All that a stage needs has room on one node, so that the loss of the other costs time and nothing else."""


class Machines:
    """The cluster; processes are found by what Ray calls them."""

    def __init__(self, nodes: int) -> None:
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": EAGER | FAST_HEALTH_CHECKS}
        self._cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        for _ in range(nodes):
            self.add_node()

    @property
    def address(self) -> str:
        """`host:port` that drivers connect to."""
        address: str = self._cluster.address
        return address

    @property
    def nodes(self) -> list[Any]:
        """The nodes beside the head, oldest first."""
        return sorted(self._cluster.worker_nodes, key=lambda node: _raylet(node).pid)

    def add_node(self) -> Any:
        """A new node; main thread only."""
        return patiently(lambda: self._cluster.add_node(num_cpus=CPUS_PER_NODE))

    def lose_node(self, node: Any) -> None:
        """`kill -9` of everything on a node."""
        self._cluster.remove_node(node, allow_graceful=False)

    def processes(self, name: str) -> list[psutil.Process]:
        """The living processes of the cluster whose title begins with one of Ray's names, oldest first."""
        found = []
        for node in (self._cluster.head_node, *self._cluster.worker_nodes):
            with suppress(psutil.Error):
                for process in _raylet(node).children(recursive=True):
                    with suppress(psutil.Error):
                        if " ".join(process.cmdline()).startswith(name):
                            found.append(process)
        return sorted(found, key=lambda process: (process.create_time(), process.pid))

    def close(self) -> None:
        """Ends all processes of the cluster."""
        self._cluster.shutdown()


def patiently(start: Callable[[], Any]) -> Any:
    """What `start` returns; a busy machine may need several times, since Ray gives a node half a minute."""
    for _ in range(_STARTS - 1):
        try:
            return start()
        except Exception:  # noqa: S112 - Ray raises bare ones
            continue
    return start()


def _raylet(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


@contextmanager
def running_machines(nodes: int) -> Iterator[Machines]:
    """A cluster for the time of the context."""
    machines = Machines(nodes)
    try:
        yield machines
    finally:
        machines.close()
