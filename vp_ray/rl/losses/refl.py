"""ReFL (ImageReward, arXiv 2304.05977, algorithm 1): the reward's own gradient through one late step.

    x_t by all steps before a random one of the last, without gradient
    x0   = the clean latents that the network expects from x_t, with gradient
    loss = scale mean relu(threshold - R(decode(x0), prompt))

It needs a scorer that gradients flow through, in this process.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from vp_ray.models.policy import DiffusionPolicy
from vp_ray.rl.config import RlSettings
from vp_ray.rl.losses.interface import Loss, PromptBatch, Seen


def refl_loss(policy: DiffusionPolicy, batch: PromptBatch, settings: RlSettings, measure: bool) -> tuple[Tensor, Seen]:
    """(loss, figures) of one micro-batch: its mean reward, and the share of images beyond the threshold."""
    steps = policy.steps(settings.steps, 0.0)
    before = policy.sample(batch.prompted, batch.noise, steps, keep_path=False, stop=batch.stop).final
    index = torch.full((len(before),), batch.stop, device=before.device)
    pixels = policy.pixels(policy.clean(before, index, batch.prompted, steps))
    rewards = batch.reward(pixels, batch.prompts)
    loss = settings.refl.scale * (settings.refl.threshold - rewards).relu().mean()
    known = rewards.detach()
    beyond = (known > settings.refl.threshold).float().mean()
    return loss, {"reward": known.mean(), "beyond_threshold": beyond}


REFL: Final = Loss("differentiable reward", refl_loss, ("reward", "beyond_threshold"))
