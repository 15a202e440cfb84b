"""Rewards from a Ray Serve application, over its handle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import ray
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from vp_ray.errors import RewardError, VpRayError
from vp_ray.models.rewards import check_scores
from vp_ray.protocols import Pixels, Scores

SCORERS: Final = "RewardService"
"""The deployment whose replicas score, in an application of the reward service."""
WAIT_SECONDS: Final = (0.2, 1.0, 3.0)
"""Between two attempts: a replica that died is replaced within seconds."""
LOST: Final = (RayActorError, BackPressureError, DeploymentUnavailableError)
"""What a call raises when no replica answered it: it may be sent again."""


class ServeRewards:
    """A `RewardSource` that sends each batch as one request, by reference, to whichever replica is free."""

    def __init__(
        self,
        app_name: str,
        aspects: Sequence[str] | None = None,
        timeout_seconds: float = 120.0,
        attempts: int = 3,
        model: str | None = None,
    ) -> None:
        """Without `aspects` the service is asked for them; without `model`, the id of one of its models, it takes its
        first one. Raises `RewardError` when the service is not there."""
        self._timeout_seconds, self._attempts = timeout_seconds, attempts
        handle = _handle(app_name)
        self._handle = handle if model is None else handle.options(multiplexed_model_id=model)
        self.aspects = tuple(aspects if aspects is not None else self._asked_aspects(app_name))

    def _asked_aspects(self, app_name: str) -> Sequence[str]:
        try:
            return self._handle.aspects.remote().result(timeout_s=self._timeout_seconds)
        except (TimeoutError, RayError, RayServeException) as error:
            raise RewardError(
                f"the reward service '{app_name}' does not say what it scores ({type(error).__name__})",
                "Look at the replica's log.",
            ) from None

    def request(self, images: Pixels, prompts: Sequence[str]) -> _Pending:
        """Sends one batch without waiting for its scores."""
        return _Pending(self, ray.put(images), tuple(prompts))

    def send(self, images: Any, prompts: tuple[str, ...]) -> Any:
        """One request; the images travel as an object reference."""
        return self._handle.score.remote(images, prompts)

    @property
    def limits(self) -> tuple[float, int]:
        """Seconds to wait for one batch in all, and how often it may be sent."""
        return self._timeout_seconds, self._attempts


def _handle(app_name: str) -> DeploymentHandle:
    """The replicas that score: those of the reward service, past its gateways, else whatever the application has."""
    try:
        try:
            return serve.get_deployment_handle(SCORERS, app_name)
        except (KeyError, ValueError):
            return serve.get_app_handle(app_name)
    except (RayServeException, ValueError, KeyError) as error:
        raise RewardError(f"there is no reward service '{app_name}' ({error})", "Start it with the run.") from None


class _Pending:
    def __init__(self, source: ServeRewards, images: Any, prompts: tuple[str, ...]) -> None:
        self._source, self._images, self._prompts = source, images, prompts
        self._response = source.send(images, prompts)

    def result(self, timeout_seconds: float | None = None) -> Scores:
        """(B, A) scores, waiting at most so long or as long as the source allows; the batch is sent again when the
        replica that held it died. Raises `RewardError` when they do not come, and the service's own error when it
        refused the batch."""
        allowed, attempts = self._source.limits
        deadline = time.monotonic() + (allowed if timeout_seconds is None else timeout_seconds)
        for attempt in range(attempts):
            try:
                scores = self._response.result(timeout_s=max(0.0, deadline - time.monotonic()))
                return check_scores(scores, len(self._prompts), self._source.aspects)
            except TimeoutError:
                self._response.cancel()
                raise RewardError(
                    f"the rewards of {len(self._prompts)} images did not come in time",
                    "Add replicas (service.max_replicas), or raise reward_timeout_seconds.",
                ) from None
            except LOST as error:
                lost = error
            except RayTaskError as error:
                if isinstance(error.cause, VpRayError):
                    raise error.cause from None
                raise RewardError(
                    f"the reward service failed ({error.cause!r})", "Look at the replica's log."
                ) from error
            time.sleep(max(0.0, min(WAIT_SECONDS[min(attempt, 2)], deadline - time.monotonic())))
            if attempt + 1 < attempts:
                self._response = self._source.send(self._images, self._prompts)
        reason = type(lost).__name__
        raise RewardError(f"the reward service lost a batch {attempts} times ({reason})", "Look at the replica's log.")
