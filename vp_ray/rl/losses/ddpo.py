"""DDPO's loss on one micro-batch (arXiv 2305.13301, equation 5) with the divergence from the start as a penalty."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vp_ray.maths import gaussian
from vp_ray.maths.policy_gradient import RatioStatistics, clipped_loss
from vp_ray.models.policy import DiffusionPolicy, Trajectory, next_latents
from vp_ray.rl.config import RlSettings


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One step of every image of a batch."""

    trajectory: Trajectory
    index: Tensor
    """(B,) which step."""
    advantages: Tensor
    """(B,)."""


@dataclass(frozen=True, slots=True)
class LossStatistics:
    """What a micro-batch was like; zero-dimensional tensors, detached."""

    ratio: RatioStatistics
    kl: Tensor
    """KL to the start in nats a step; NaN where it was not measured."""


def ddpo_loss(
    policy: DiffusionPolicy, batch: MicroBatch, settings: RlSettings, measure_kl: bool
) -> tuple[Tensor, LossStatistics]:
    """(loss, statistics): the clipped policy gradient plus kl_coefficient KL(policy || start) / D.

    A weight on a step is a factor on its advantages. The gradient of a step's log-probability is (x' - mean) / std^2
    times that of the mean: its noise grows as 1 / std, while what the step can do to the reward does not. Weights of
    std^2 give each step's sum the best ratio of signal to noise.

    Both parts are means over the D latent values, so the coefficient weighs a nat against an advantage of 1. The
    KL of each step is that of two Gaussians of one std, |mean - mean_start|^2 / (2 std^2); it costs one more forward
    pass, and is left out where it has no weight and is not to be measured.
    """
    start_mean = None
    if settings.kl_coefficient > 0 or measure_kl:
        with torch.no_grad(), policy.at_start():
            start_mean, _ = policy.replay(batch.trajectory, batch.index)
    mean, std = policy.replay(batch.trajectory, batch.index)
    log_probs = gaussian.log_prob_mean(next_latents(batch.trajectory, batch.index), mean, std)
    old_log_probs = batch.trajectory.log_probs.gather(1, batch.index[:, None])[:, 0]
    advantages = batch.advantages
    if settings.step_weights == "variance":
        advantages = advantages * batch.trajectory.steps.variance_weights[batch.index]
    loss, ratio = clipped_loss(log_probs, old_log_probs, advantages, settings.clip_nats, policy.dimensions)
    if start_mean is None:
        return loss, LossStatistics(ratio, torch.full_like(loss.detach(), torch.nan))
    kl = gaussian.kl_of_means(mean, start_mean, std).mean()
    return loss + settings.kl_coefficient / policy.dimensions * kl, LossStatistics(ratio, kl.detach())
