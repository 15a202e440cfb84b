"""The Ray cluster of a run: the one that the job was submitted to, one that is named, or a local one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]
import ray
from ray._private import ray_constants

from vp_ray.distributed.config import RaySettings
from vp_ray.errors import ClusterError

_ANSWER_SECONDS: Final = 10.0
_KILLED_SECONDS: Final = 10.0
_LOOPBACK: Final = "127.0.0.1"
_SERVE_CONTROLLER: Final = "SERVE_CONTROLLER_ACTOR"
"""`ray.serve._private.constants.SERVE_CONTROLLER_NAME`."""
_REMEDY: Final = "Look at ray.address or RAY_ADDRESS, or leave both out for a local cluster."
_TOO_SLOW: Final = "timed out during startup"
"""In the bare exception by which Ray gives a node up that has not started within 30 s, a bound without a setting."""
_LOCAL_STARTS: Final = 3
_LOCAL_REMEDY: Final = "The machine may be too busy or short of memory: start the run again, it goes on where it was."


@contextmanager
def connect(settings: RaySettings) -> Iterator[None]:
    """Connects to the cluster for the time of the context; nothing happens when this process is connected already.

    Without an address in the settings or in RAY_ADDRESS (which `ray job submit` sets) a local cluster is started, and
    ended with the context; it listens on loopback only, and one that a busy machine starts too slowly for Ray is
    started again, twice at most. Raises `ClusterError` within seconds for a cluster that does not answer.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = settings.address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            _probe(address)
            ray.init(address=address, **_quiet())
        else:
            _start_patiently(settings)
    except ClusterError:
        raise
    except Exception as error:  # Ray raises bare ones, for instance when a busy machine starts a node too slowly
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        remedy = _REMEDY if address else _LOCAL_REMEDY
        raise ClusterError(f"Ray cannot be used ({reason})", remedy, address or "local cluster") from error
    try:
        yield
    finally:
        ray.shutdown()


def has_serve() -> bool:
    """Whether Serve runs on the cluster; told without importing it, which takes a second."""
    named = ray.util.list_named_actors(all_namespaces=True)
    return any(actor["name"] == _SERVE_CONTROLLER for actor in named)


def _quiet() -> dict[str, Any]:
    return {"logging_level": "ERROR", "log_to_driver": False}


def _start_patiently(settings: RaySettings) -> None:
    for left in reversed(range(_LOCAL_STARTS)):
        before = set(psutil.Process().children())
        try:
            _start_local(settings)
        except Exception as error:
            _end_nodes(set(psutil.Process().children()) - before)
            if not left or _TOO_SLOW not in str(error):
                raise
        else:
            return


def _end_nodes(children: set[psutil.Process]) -> None:
    """Ends the processes of a node among them, which Ray forgets when it gives the node up; their own end with them."""
    for child in children:
        with suppress(psutil.Error):
            if any("/session_" in word for word in child.cmdline()):
                child.kill()
                child.wait(_KILLED_SECONDS)


def _start_local(settings: RaySettings) -> None:
    # Ray turns a loopback address into a reachable one, and then listens on every interface, unless it is told that
    # this platform has no clusters.
    clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    # The dashboard's own processes, which connect to the cluster, too, are told by the environment.
    told = os.environ.get(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR)
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    try:
        # "local" never joins a cluster whose address file an earlier, killed run has left behind.
        ray.init(
            address="local",
            num_cpus=settings.logical_cpus,
            include_dashboard=settings.dashboard,
            dashboard_host=_LOOPBACK,
            **_quiet(),
        )
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        del os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR]
        if told is not None:
            os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = told


def _probe(address: str) -> None:
    """Raises `ClusterError` unless a gRPC server answers at `host:port` (or `ray://host:port`); names pass unprobed.

    Ray itself would try for seven minutes.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.hostname is None or parts.port is None:
        return
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise ClusterError(f"no Ray cluster answers ({error.strerror or error})", _REMEDY, address) from None
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return
    with grpc.insecure_channel(f"{parts.hostname}:{parts.port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            raise ClusterError("what answers there is no Ray cluster", _REMEDY, address) from None
