"""Cuts an epoch's material into the micro-batches that losses take: the same ones for any number of ranks.

Letters of shapes: B images, P pairs, K micro-batches of one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vp_ray.ids import seed_from
from vp_ray.models.policy import DiffusionPolicy, draw_noise
from vp_ray.rl.config import RlSettings
from vp_ray.rl.losses.interface import LatentBatch, StepBatch
from vp_ray.rl.plan import step_columns
from vp_ray.rl.rollout import Rollout

Learnt = Sequence[tuple[Rollout, NDArray[np.float64]]]
"""Rollouts of this rank with the advantages (B,) of their images."""


def step_batches(
    settings: RlSettings, policy: DiffusionPolicy, learnt: Learnt, epoch: int, inner_epoch: int, update: int
) -> Iterator[StepBatch]:
    """For each batch of an update, K times one step of every image."""
    for rollout, advantage in learnt:
        if rollout.batch.update != update:
            continue
        advantages_B = torch.from_numpy(advantage).float().to(policy.device)
        for index in step_columns(settings, rollout.trajectory.steps, epoch, inner_epoch, rollout.batch).to(
            policy.device
        ):
            yield StepBatch(rollout.trajectory, index, advantages_B)


def latent_batches(
    settings: RlSettings, policy: DiffusionPolicy, learnt: Learnt, epoch: int, inner_epoch: int, update: int
) -> Iterator[LatentBatch]:
    """For each batch of an update, K times every finished image at a noise level of its own."""
    for rollout, advantage in learnt:
        if rollout.batch.update != update:
            continue
        advantages_B = torch.from_numpy(advantage).float().to(policy.device)
        images = zip(rollout.batch.prompts, rollout.batch.samples, strict=True)
        names = [(epoch, inner_epoch, *image) for image in images]
        for column in range(settings.timesteps_per_image):
            noise, index = noise_levels(settings, policy, [(*name, column) for name in names])
            trajectory = rollout.trajectory
            yield LatentBatch(trajectory.final, trajectory.prompted, advantages_B, noise, index)


def noise_levels(
    settings: RlSettings, policy: DiffusionPolicy, names: Sequence[tuple[Any, ...]]
) -> tuple[Tensor, Tensor]:
    """(noise (B, C, h, w), levels (B,)) on the policy's device, each row fixed by the seed and its name."""
    noise = draw_noise([seed_from(settings.seed, "noise", *name) for name in names], 0, policy.latent_shape)[:, 0]
    seeds = [seed_from(settings.seed, "level", *name) for name in names]
    index = [int(np.random.default_rng(seed).integers(len(policy.process))) for seed in seeds]
    return noise.to(policy.device), torch.tensor(index, device=policy.device)
