"""Draws an epoch's images and has them scored meanwhile: a batch's scores are collected after the next was drawn.

Letters of shapes: B images, A aspects.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vp_ray.errors import RewardError
from vp_ray.maths.steps import Steps
from vp_ray.models.policy import DiffusionPolicy, Trajectory, draw_noise
from vp_ray.models.rewards import check_scores
from vp_ray.protocols import Collective, PendingScores, RewardSource, Scores
from vp_ray.rl.config import RlSettings
from vp_ray.rl.plan import Batch, image_seeds, start_seeds

ResultT = TypeVar("ResultT")


def together(collective: Collective, work: Callable[[], ResultT]) -> ResultT:
    """What `work` returns; a `RewardError` that it raises on one rank is raised on every rank, so that none waits."""
    failure: RewardError | None = None
    result: list[ResultT] = []
    try:
        result.append(work())
    except RewardError as error:
        failure = error
    if collective.gather(np.array([failure is not None])).any():
        raise failure or RewardError("the rewards of another rank stayed out", "See the error of that rank.", "rl")
    return result[0]


@dataclass(frozen=True, slots=True)
class Rollout:
    """The images of one batch as trajectories, with their scores (B, A)."""

    batch: Batch
    trajectory: Trajectory
    scores: Scores


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one rank drew in an epoch, and the seconds it took: drawing, and waiting for scores."""

    rollouts: list[Rollout]
    seconds_sampling: float
    seconds_reward_wait: float


def draw_epoch(
    settings: RlSettings,
    policy: DiffusionPolicy,
    steps: Steps,
    *,
    rewards: RewardSource,
    batches: Sequence[Batch],
    epoch: int,
) -> Drawn:
    """The rollouts of this rank's batches; raises `RewardError` when scores stay out.

    Paths are kept where a step of them has a density; without one, as without noise, the final latents alone.
    """
    rollouts: list[Rollout] = []
    waiting: tuple[Batch, Trajectory, PendingScores] | None = None
    sampling = waited = 0.0

    def collect(batch: Batch, trajectory: Trajectory, pending: PendingScores) -> float:
        started = time.perf_counter()
        scores = pending.result(settings.reward_timeout_seconds)
        rollouts.append(Rollout(batch, trajectory, check_scores(scores, len(batch.prompts), rewards.aspects)))
        return time.perf_counter() - started

    # Text encoders that lie in main memory come to the GPU once an epoch.
    policy.embed([prompt for batch in batches for prompt in batch.prompts], settings.guidance_scale)
    for batch in batches:
        started = time.perf_counter()
        trajectory = _draw(settings, policy, steps, batch, epoch)
        images = policy.decode(trajectory.final)
        drawn = time.perf_counter()
        pending = rewards.request(images, batch.prompts)
        # A source in this process scores here, one on a cluster only sends.
        sampling, waited = sampling + drawn - started, waited + time.perf_counter() - drawn
        if waiting is not None:
            waited += collect(*waiting)
        waiting = (batch, trajectory, pending)
    if waiting is not None:
        waited += collect(*waiting)
    return Drawn(rollouts, sampling, waited)


def _draw(settings: RlSettings, policy: DiffusionPolicy, steps: Steps, batch: Batch, epoch: int) -> Trajectory:
    has_path = bool(len(steps.stochastic))
    noise = draw_noise(image_seeds(settings, epoch, batch), len(steps) if has_path else 0, policy.latent_shape)
    if settings.same_start_noise:
        noise[:, 0] = draw_noise(start_seeds(settings, epoch, batch), 0, policy.latent_shape)[:, 0]
    prompted = policy.embed(batch.prompts, settings.guidance_scale)
    with policy.at_old():
        return policy.sample(prompted, noise, steps, keep_path=has_path)
