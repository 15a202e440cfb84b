"""The clipped importance-sampled policy gradient over Gaussian steps, with the divergence from the start as penalty."""

from __future__ import annotations

import torch
from torch import Tensor

from vp_ray.maths import gaussian
from vp_ray.maths.policy_gradient import clipped_loss
from vp_ray.models.policy import DiffusionPolicy, next_latents
from vp_ray.rl.config import RlSettings
from vp_ray.rl.losses.interface import RATIO_DEVIATION, Seen, StepBatch

FIGURES = ("ratio_mean", "clip_share_high", "clip_share_low", "kl")


def clipped_gaussian_loss(
    policy: DiffusionPolicy, batch: StepBatch, advantages: Tensor, settings: RlSettings, measure: bool
) -> tuple[Tensor, Seen]:
    """(loss, figures): the clipped policy gradient of advantages (B,) plus kl_coefficient KL(policy || start) / D.

    Both parts are means over the D latent values, so the coefficient weighs a nat against an advantage of 1. The
    KL of each step is that of two Gaussians of one std, |mean - mean_start|^2 / (2 std^2); it costs one more forward
    pass, and is left out where it has no weight and is not to be measured.
    """
    start_mean = None
    if settings.kl_coefficient > 0 or measure:
        with torch.no_grad(), policy.at_start():
            start_mean, _ = policy.replay(batch.trajectory, batch.index)
    mean, std = policy.replay(batch.trajectory, batch.index)
    log_probs = gaussian.log_prob_mean(next_latents(batch.trajectory, batch.index), mean, std)
    old_log_probs = batch.trajectory.log_probs.gather(1, batch.index[:, None])[:, 0]
    loss, ratio = clipped_loss(log_probs, old_log_probs, advantages, settings.clip_nats, policy.dimensions)
    seen = {
        "ratio_mean": ratio.ratio_mean,
        "clip_share_high": ratio.clip_share_high,
        "clip_share_low": ratio.clip_share_low,
        RATIO_DEVIATION: ratio.largest_deviation,
    }
    if start_mean is None:
        return loss, seen | {"kl": torch.full_like(loss.detach(), torch.nan)}
    kl = gaussian.kl_of_means(mean, start_mean, std).mean()
    return loss + settings.kl_coefficient / policy.dimensions * kl, seen | {"kl": kl.detach()}
