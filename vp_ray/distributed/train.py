"""Runs one function on every rank of a group of Ray Train workers."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Callable
from typing import Any, Final, NoReturn

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer

from vp_ray.distributed.config import WorkerSettings
from vp_ray.errors import ClusterError, VpRayError
from vp_ray.logs import origin, take_over
from vp_ray.storage import Folder

Function = Callable[[dict[str, Any]], None]
_LOG: Final = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.5
_START_SECONDS: Final = 900
"""Ray's own minute is short for nodes that are still being started or fetch a large image."""
_RANK_LOST_SECONDS: Final = 1800
_NOTES: Final = "ray_train"


def run_workers(
    function: Function,
    config: dict[str, Any],
    workers: WorkerSettings,
    name: str,
    storage: str,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Calls `function(config)` on every rank, each with a process group and its own device, and waits for all.

    When a rank dies the group is started again, at most `workers.max_failures` times while it works, and as often while
    it starts or when Ray Train's controller dies; the function goes on from its own checkpoints. A `VpRayError` of a
    rank ends the group at once and is raised here; any other exception becomes `ClusterError` with the rank's traceback
    once the restarts are used up.
    `on_poll` is called here twice a second. Ray Train's own notes go to a folder in `storage`, which is removed
    at the end.
    """
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(_START_SECONDS))
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(_POLL_SECONDS))
    folder = Folder.at(storage)
    for lost in range(workers.max_failures + 1):
        folder.delete(_NOTES)  # those of a driver that was killed
        if lost:
            _LOG.warning("the workers of %s are started again", name, extra={"fields": {"lost": lost}})
        try:
            failure = _failure_of(_trainer(function, config, workers, name, folder / _NOTES), on_poll)
        finally:
            folder.delete(_NOTES)
        if failure is None:
            return
        # Ray Train replaces ranks that die at work, but gives up when one dies while the group is being started, or its
        # own controller at any time.
        causes = (failure, getattr(failure, "controller_failure", None))
        died = any(isinstance(cause, ray.exceptions.RayActorError) for cause in causes)
        if not died or lost == workers.max_failures:
            _raise_from(failure)


def _trainer(
    function: Function, config: dict[str, Any], workers: WorkerSettings, name: str, notes: Folder
) -> TorchTrainer:
    backend = "nccl" if workers.gpus_per_worker else "gloo"
    return TorchTrainer(
        _Rank(function, workers),
        train_loop_config=config,
        torch_config=TorchConfig(backend=backend, timeout_s=_RANK_LOST_SECONDS),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.gpus_per_worker > 0,
            resources_per_worker={"CPU": workers.cpus_per_worker, "GPU": workers.gpus_per_worker},
            accelerator_type=workers.accelerator_type,
            label_selector=workers.labels or None,
        ),
        run_config=ray.train.RunConfig(
            # Ray Train would take up a run of the same name and storage where it ended.
            name=f"{name}-{uuid.uuid4().hex[:8]}",
            storage_path=notes.uri,
            failure_config=ray.train.FailureConfig(max_failures=workers.max_failures),
            callbacks=[_StopAtOnce()],
        ),
    )


def device_of_rank(workers: WorkerSettings) -> torch.device:
    """Where this rank computes."""
    return torch.device(ray.train.torch.get_device()) if workers.gpus_per_worker else torch.device("cpu")


def preemption_noticed() -> bool:
    """Whether a node under this group is announced to be taken away; for use on a rank."""
    return ray.train.get_preemption_info() is not None


class _Rank:
    """The function as a rank runs it: threads pinned and DeepSpeed told its accelerator before anything imports it."""

    def __init__(self, function: Function, workers: WorkerSettings) -> None:
        self._function, self._workers, self._works_for = function, workers, origin()

    def __call__(self, config: dict[str, Any]) -> None:
        os.environ["DS_ACCELERATOR"] = "cuda" if self._workers.gpus_per_worker else "cpu"
        torch.set_num_threads(self._workers.threads_per_worker)
        rank = ray.train.get_context().get_world_rank()
        take_over(self._works_for, f"{self._works_for.stage or 'train'}-rank-{rank}")
        _LOG.info("a rank starts", extra={"fields": {"rank": rank, "ranks": self._workers.num_workers}})
        self._function(config)


class _StopAtOnce(ray.train.UserCallback):
    """Ends the run at an error with a remedy: to start the workers again would only repeat it."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        error = _purposeful(list(worker_exceptions.values()))
        if error is not None:
            raise error


def _purposeful(errors: list[Any]) -> VpRayError | None:
    causes = (getattr(error, "_base_exc", error) for error in errors)
    return next((cause for cause in causes if isinstance(cause, VpRayError)), None)


def _failure_of(trainer: TorchTrainer, on_poll: Callable[[], None]) -> BaseException | None:
    """What the run failed with, or None when all ranks are done."""
    outcome: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            outcome.append(error)

    # In a thread, since in the main thread Ray Train takes Ctrl-C over for the rest of the process.
    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_SECONDS)
        on_poll()
    return outcome[0] if outcome else None


def _raise_from(failure: BaseException) -> NoReturn:
    inner = [getattr(failure, "controller_failure", None), *getattr(failure, "worker_failures", {}).values()]
    found = _purposeful([failure, *inner])
    if found is not None:
        raise found
    raise ClusterError(
        f"the workers failed ({failure})", "Look at the traceback above; start the run again: it goes on here."
    ) from failure
