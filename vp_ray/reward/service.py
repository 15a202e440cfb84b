"""Reward models as a Ray Serve application: gateways take HTTP and decode, replicas score for handles and gateways."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import ray
from fastapi import FastAPI
from numpy.typing import NDArray
from ray import serve
from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from vp_ray.addresses import is_loopback
from vp_ray.distributed.metrics import RewardMetrics
from vp_ray.distributed.rewards import LOST, SCORERS, WAIT_SECONDS
from vp_ray.distributed.serving import check_open, proxy_host
from vp_ray.errors import SettingsError, VpRayError
from vp_ray.logs import Origin, origin, take_over
from vp_ray.models.scorers import load_scorer
from vp_ray.protocols import Pixels, Scorer, Scores
from vp_ray.reward.api import Access, create_api
from vp_ray.reward.batching import Pass
from vp_ray.reward.config import ServiceSettings
from vp_ray.reward.failures import Kind, ServiceError
from vp_ray.reward.replica import Replica, columns_of
from vp_ray.reward.scoring import Answer

_GATEWAYS: Final = "RewardGateway"
_STAGE: Final = "service"
"""The label of metrics and logs of the service, whichever stage asks it."""


class RewardService:
    """One replica. A request names its model as Serve does (`multiplexed_model_id`); the first one is the default."""

    async def __init__(self, models: dict[str, str], settings: dict[str, Any], works_for: Origin) -> None:  # type: ignore[misc]
        # Serve awaits it: a replica is ready when it can score.
        take_over(works_for, "reward-replica")
        checked = ServiceSettings.model_validate(settings)
        device = "cuda" if checked.gpus_per_replica else "cpu"
        metrics = RewardMetrics()

        async def load(name: str) -> Scorer:
            return await asyncio.get_running_loop().run_in_executor(None, load_scorer, models[name], device)

        def passed(one: Pass) -> None:
            metrics.batch(one.model, one.images, one.prompts, one.requests, one.seconds)

        kept = serve.multiplexed(max_num_models_per_replica=checked.models_per_replica)(load)
        self._default = next(iter(models))
        self._replica = Replica(models, kept, checked, metrics, passed)
        await self._replica.model(self._default)

    def _name(self) -> str:
        return serve.get_multiplexed_model_id() or self._default

    async def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        """(B, A) scores of (B, H, W, 3) uint8 images, given as an array or an object reference, and B prompts.

        Raises `InputError` where they do not fit and `RewardError` where a score is not finite.
        """
        return await self._replica.score(self._name(), images, prompts)

    async def score_each(self, images: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> Answer:
        """A row or an error for each image, of any size; what gateways ask."""
        return await self._replica.score_each(self._name(), images, prompts)

    async def aspects(self) -> tuple[str, ...]:
        """The names of the columns of `score`."""
        return (await self._replica.model(self._name())).aspects

    async def columns(self) -> tuple[str, ...]:
        """The names of the columns of `score_each`."""
        return columns_of(await self._replica.model(self._name()))

    async def check_health(self) -> None:
        """Raises `RewardError` when a batch has been in work for too long, after which Serve replaces the replica."""
        self._replica.check_health()


class Scorers:
    """A `Backend` over the replicas: a request that a dying one held is given to another."""

    def __init__(self, handle: DeploymentHandle, models: tuple[str, ...], settings: ServiceSettings) -> None:
        self._handle, self._settings, self.models = handle, settings, models
        self._columns: dict[str, tuple[str, ...]] = {}

    def _of(self, model: str) -> DeploymentHandle:
        return self._handle.options(multiplexed_model_id=model) if len(self.models) > 1 else self._handle

    async def columns(self, model: str) -> tuple[str, ...]:
        """The columns of the model's answers; raises `ServiceError` when no replica answers."""
        if model not in self._columns:
            handle = self._of(model)
            self._columns[model] = await self._asked(handle.columns.remote)
        return self._columns[model]

    async def score(self, model: str, images: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> Answer:
        """A row for each image; raises `ServiceError` when no replica answers in time."""
        handle = self._of(model)
        # The pixels are put once: each attempt sends a reference.
        pixels = await asyncio.get_running_loop().run_in_executor(None, ray.put, list(images))
        answer: Answer = await self._asked(lambda: handle.score_each.remote(pixels, list(prompts)))
        return answer

    async def _asked(self, send: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with asyncio.timeout(self._settings.request_timeout_seconds):
                return await self._attempts(send)
        except TimeoutError:
            seconds = f"{self._settings.request_timeout_seconds:g} s"
            raise ServiceError(
                Kind.TIMED_OUT, f"the scores did not come in {seconds}", "Send fewer images, or ask again."
            ) from None

    async def _attempts(self, send: Callable[[], Awaitable[Any]]) -> Any:
        for attempt in range(self._settings.attempts):
            try:
                return await send()
            except BackPressureError:
                raise ServiceError(Kind.OVERLOADED, "too many requests wait", "Ask again in a second.") from None
            except LOST:
                await asyncio.sleep(WAIT_SECONDS[min(attempt, len(WAIT_SECONDS) - 1)])
            except RayTaskError as error:
                if isinstance(error.cause, VpRayError):
                    raise error.cause from None
                raise
        raise ServiceError(
            Kind.LOST, f"the request was lost {self._settings.attempts} times", "Ask again; look at the Serve logs."
        )


@serve.ingress()
class RewardGateway:
    """Takes HTTP requests, checks and decodes them on threads, and asks the replicas."""

    def __init__(
        self, scorers: DeploymentHandle, models: tuple[str, ...], settings: dict[str, Any], works_for: Origin
    ) -> None:
        take_over(works_for, "reward-gateway")
        self._settings = ServiceSettings.model_validate(settings)
        self._scorers, self._host = Scorers(scorers, models, self._settings), proxy_host()
        self._token = read_token(self._settings)
        check_open(self._host, self._token)

    def __serve_build_asgi_app__(self) -> FastAPI:
        access = Access(self._token, is_loopback(self._host))
        settings = self._settings
        return create_api(self._scorers, settings.limits, access, RewardMetrics(), settings.decoding_threads)


def read_token(settings: ServiceSettings) -> str | None:
    """The bearer token out of this process's environment; raises `SettingsError` for one that is named but not set."""
    if settings.token_env is None:
        return None
    token = os.environ.get(settings.token_env, "")
    if not token:
        raise SettingsError(
            f"the environment variable {settings.token_env} is not set", "Set it to a secret.", "token_env"
        )
    return token


def application(arguments: dict[str, Any]) -> serve.Application:
    """The application of a Serve configuration file: `args` holds `checkpoint`, or `models` with a checkpoint for each
    id, and at will keys of `service`. Raises `SettingsError` for a key that does not exist.
    """
    values = dict(arguments)
    named = values.pop("models", None)
    models = {str(key): str(place) for key, place in named.items()} if named else {}
    if "checkpoint" in values:
        models = {"vp-score": str(values.pop("checkpoint")), **models}
    if not models:
        raise SettingsError("there is no model to serve", "Give 'checkpoint' or 'models'.", "args")
    return bound(models, ServiceSettings.load(values, "args"), http=True)


def bound(models: Mapping[str, str], settings: ServiceSettings, http: bool) -> serve.Application:
    """The application that serves checkpoints by their ids, over handles alone or over HTTP too."""
    scaling = {
        "min_replicas": settings.min_replicas,
        "max_replicas": settings.max_replicas,
        "initial_replicas": settings.min_replicas,
        "target_ongoing_requests": settings.target_ongoing_requests or 2.0 * settings.max_batch_images,
        "upscale_delay_s": settings.scale_up_seconds,
        "look_back_period_s": max(1.0, settings.scale_up_seconds),
        "metrics_interval_s": min(10.0, max(0.5, settings.scale_up_seconds / 2)),
        "downscale_delay_s": settings.scale_down_seconds,
    }
    resources = {"num_cpus": settings.cpus_per_replica, "num_gpus": settings.gpus_per_replica}
    values = settings.model_dump(mode="json")
    works_for = replace(origin(), stage=_STAGE)
    scorers = serve.deployment(
        name=SCORERS,
        autoscaling_config=scaling,
        # Batches fill only from requests that a replica holds; Serve's own limit of 5 would starve them.
        max_ongoing_requests=max(16, 4 * settings.max_batch_images),
        max_queued_requests=settings.max_waiting_requests,
        ray_actor_options={**resources, **({"label_selector": settings.labels} if settings.labels else {})},
        health_check_period_s=5,
        health_check_timeout_s=30,
    )(RewardService).bind(dict(models), values, works_for)
    if not http:
        return scorers
    gateways = serve.deployment(
        name=_GATEWAYS,
        num_replicas=settings.gateways,
        max_ongoing_requests=settings.max_waiting_requests,
        # It runs beside the proxy, whose node may have no CPU to give: what it takes is set by its decoding threads.
        ray_actor_options={"num_cpus": 0},
    )(RewardGateway)
    return gateways.bind(scorers, tuple(models), values, works_for)
