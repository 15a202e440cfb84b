"""DDPO (arXiv 2305.13301, equation 5): the clipped policy gradient over the steps of DDIM or Euler-ancestral samplers.

r    = exp(log p(x' | x) - log p_old(x' | x)),    log p a mean over the D latent values
loss = mean max(-A r, -A clip(r, 1 - c, 1 + c)) + kl_coefficient KL(policy || start) / D
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from vp_ray.models.policy import DiffusionPolicy
from vp_ray.rl.config import RlSettings
from vp_ray.rl.losses.interface import Loss, Seen, StepBatch
from vp_ray.rl.losses.ratio import FIGURES, clipped_gaussian_loss


def ddpo_loss(policy: DiffusionPolicy, batch: StepBatch, settings: RlSettings, measure: bool) -> tuple[Tensor, Seen]:
    """(loss, figures) of one micro-batch.

    A weight on a step is a factor on its advantages. The gradient of a step's log-probability is (x' - mean) / std^2
    times that of the mean: its noise grows as 1 / std, while what the step can do to the reward does not. Weights of
    std^2 give each step's sum the best ratio of signal to noise.
    """
    advantages = batch.advantages
    if settings.step_weights == "variance":
        advantages = advantages * batch.trajectory.steps.variance_weights[batch.index]
    return clipped_gaussian_loss(policy, batch, advantages, settings, measure)


DDPO: Final = Loss("trajectory", ddpo_loss, FIGURES, has_ratios=True)
