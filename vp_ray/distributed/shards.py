"""Work in shards on a pool of Ray Data actors: the one way in which stages use Ray Data.

A shard is a plain JSON-able dict, the unit of work and of commit. The worker writes its own files, atomically and
under names fixed by the shard, so that a shard that is repeated after an actor or a node died does no harm; only a
small result row returns. One shard is one block, so each result reaches the driver as soon as it is there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import pyarrow as pa
import ray

from vp_ray import errors
from vp_ray.distributed.config import PoolSettings
from vp_ray.distributed.metrics import BusyMetrics
from vp_ray.errors import ClusterError, VpRayError
from vp_ray.logs import Origin, origin, take_over

Shard = dict[str, Any]
_LOG: Final = logging.getLogger(__name__)


class Worker(Protocol):
    """What a pool of actors is made of: any class whose instances map a shard to a small result."""

    def __init__(self, **arguments: Any) -> None: ...

    def __call__(self, shard: Shard) -> Mapping[str, Any]:
        """The result row of one shard, JSON-able; its `seconds`, where it has some, are those of computing."""
        ...


_NO_PROGRESS_SECONDS: Final = 6 * 3600.0
"""Ray Data's own 30 minutes would end runs that wait for spot capacity or for an annotator's outage."""
_INIT_DEATHS: Final = 8
"""Actors lost in a row while they start, as on spot nodes, before the run is given up."""
_GRACE_SECONDS: Final = 30.0
"""How long the other actors may finish what they hold after one of them reported an error."""


def run_shards(
    shards: Sequence[Shard],
    worker: type[Worker],
    arguments: Mapping[str, Any],
    pool: PoolSettings,
    name: str,
    on_result: Callable[[dict[str, Any]], None],
    concurrent_shards: int = 1,
) -> None:
    """Calls `worker(**arguments)(shard)` for every shard on a pool of actors, and `on_result` here with each result.

    Results come in the order in which they are ready. With `concurrent_shards` above 1 an actor works on so many
    shards at once, in threads. A `VpRayError` of a worker stops that actor, lets the others finish what they hold
    for a while, and is raised here; any other exception is raised as Ray's error with the worker's traceback. An actor
    that dies is started again and its shard is repeated. Raises `ClusterError` when Ray cannot run the actors.
    """
    if not shards:
        return
    failure: VpRayError | None = None
    deadline = float("inf")
    with _rows(shards, worker, arguments, pool, name, concurrent_shards) as rows:
        for row in rows:
            if row["error"] is None:
                on_result(json.loads(row["result"]))
            elif failure is None:
                failure = _error_from(row["error"])
                deadline = time.monotonic() + _GRACE_SECONDS
            if time.monotonic() > deadline:
                break
    if failure is not None:
        raise failure


@contextmanager
def _rows(
    shards: Sequence[Shard],
    worker: type[Worker],
    arguments: Mapping[str, Any],
    pool: PoolSettings,
    name: str,
    concurrent_shards: int,
) -> Iterator[Iterator[dict[str, Any]]]:
    useful = -(-len(shards) // concurrent_shards)
    named = type(worker.__name__, (_ShardActor,), {"__doc__": worker.__doc__})
    with ray.data.DataContext.current(_context()):
        dataset = ray.data.from_items(
            [{"shard": json.dumps(shard)} for shard in shards], override_num_blocks=len(shards)
        ).map_batches(
            named,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_args=(worker, dict(arguments), origin(), name, "gpu" if pool.gpus_per_actor else "cpu"),
            compute=ray.data.ActorPoolStrategy(
                min_size=min(pool.min_actors, useful),
                max_size=min(pool.max_actors, useful),
                max_tasks_in_flight_per_actor=2 * concurrent_shards,
                max_concurrent_calls_per_actor=concurrent_shards,
                enable_true_multi_threading=concurrent_shards > 1,
            ),
            num_cpus=pool.cpus_per_actor,
            num_gpus=pool.gpus_per_actor or None,
            memory=pool.memory_gb_per_actor * 2**30 or None,
            accelerator_type=pool.accelerator_type,
            label_selector=pool.labels or None,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(pool.threads_per_actor)}},
        )
        dataset.set_name(name)
        rows = iter(dataset.iter_rows())
        try:
            yield rows
        except ray.exceptions.ActorDiedError as error:
            raise ClusterError(
                f"the actors of '{name}' died and could not be replaced ({error})",
                "Look at their logs under the Ray session's folder; often memory ran out: lower max_actors.",
            ) from error
        finally:
            rows.close()


def _context() -> ray.data.DataContext:
    """Ray Data's settings for one pipeline: quiet, patient, and forgiving of lost nodes."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = _NO_PROGRESS_SECONDS
    context.max_consecutive_actor_init_deaths = _INIT_DEATHS
    context.wait_for_min_actors_s = -1
    context.raise_original_map_exception = True
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    return context


class _ShardActor:
    """Turns a worker into a Ray Data function of one-row batches; errors with a remedy travel as data.

    Ray wraps what a worker raises and drops the other actors' work with it, so a `VpRayError` is returned as a row.
    After one, this actor does no further work.
    """

    def __init__(
        self, worker: type[Worker], arguments: dict[str, Any], works_for: Origin, pool: str, device: str
    ) -> None:
        self._error: dict[str, Any] | None = None
        self._worker: Worker | None = None
        take_over(works_for, works_for.stage or "actor")
        self._metrics = BusyMetrics(pool, device)
        _LOG.info("an actor starts", extra={"fields": {"pool": pool}})
        try:
            self._worker = worker(**arguments)
        except VpRayError as error:
            self._fail(error)

    def __call__(self, batch: pa.Table) -> pa.Table:
        result: str | None = None
        if self._error is None and self._worker is not None:
            try:
                made = self._worker(json.loads(batch["shard"][0].as_py()))
                self._metrics.busy(made.get("seconds", 0.0))
                _LOG.debug("a shard is done", extra={"fields": dict(made)})
                result = json.dumps(made)
            except VpRayError as error:
                self._fail(error)
        told = json.dumps(self._error) if result is None else None
        return pa.table({"result": pa.array([result], pa.string()), "error": pa.array([told], pa.string())})

    def _fail(self, error: VpRayError) -> None:
        _LOG.error("an actor stops", exc_info=error)
        self._error = _plain(error)


def _plain(error: VpRayError) -> dict[str, str]:
    return {"kind": type(error).__name__, "problem": error.problem, "remedy": error.remedy, "where": error.where}


def _error_from(text: str) -> VpRayError:
    """The error that a worker reported; a kind that this package does not know becomes the base class."""
    plain = json.loads(text)
    kind = getattr(errors, plain["kind"], VpRayError)
    return kind(plain["problem"], plain["remedy"], plain["where"])
