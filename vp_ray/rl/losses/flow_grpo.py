"""Flow-GRPO (arXiv 2505.05470, equations 5 and 12): the clipped policy gradient over the steps of the flow SDE.

    r    = exp(log p(x' | x) - log p_old(x' | x)),    log p a mean over the D latent values
    KL   = |mean - mean_start|^2 / (2 std^2) as a mean over D
    loss = mean max(-A r, -A clip(r, 1 - c, 1 + c)) + kl_coefficient KL

The paper takes every step alike, c = 1e-4 or 1e-5 (so clip_nats = c D), kl_coefficient 0.04 (0.01 for PickScore),
advantages over the standard deviation of the whole epoch, and eta 0.7. `noise_window` trains a few early steps alone
(Flow-GRPO-Fast): the others are steps of the ODE and have no density.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from vp_ray.models.policy import DiffusionPolicy
from vp_ray.rl.config import RlSettings
from vp_ray.rl.losses.interface import Loss, Seen, StepBatch
from vp_ray.rl.losses.ratio import FIGURES, clipped_gaussian_loss


def flow_grpo_loss(
    policy: DiffusionPolicy, batch: StepBatch, settings: RlSettings, measure: bool
) -> tuple[Tensor, Seen]:
    """(loss, figures) of one micro-batch."""
    return clipped_gaussian_loss(policy, batch, batch.advantages, settings, measure)


FLOW_GRPO: Final = Loss("trajectory", flow_grpo_loss, FIGURES, has_ratios=True)
