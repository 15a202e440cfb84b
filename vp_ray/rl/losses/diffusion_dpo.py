"""Diffusion-DPO (arXiv 2311.12908, equation 14) on pairs of images: offline ones, or the best and worst of a group.

    x_t    = signal x0 + spread e,    the same e and t for both images of a pair
    error  = mean over C, h, w of |target - prediction|^2, the target being e, v = signal e - spread x0 or (flow) e - x0
    m      = -beta / 2 ((error_1 - start_error_1) - (error_2 - start_error_2))
    loss   = mean w (-p log sigmoid(m) - (1 - p) log sigmoid(-m))

The reference is the policy at its start: the adapter switched off, or the copy of the weights that training began with.
The network is taken as it is, without classifier-free guidance, as in the paper.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from vp_ray.maths.dpo import diffusion_dpo_loss
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.rl.config import RlSettings
from vp_ray.rl.losses.interface import Loss, PairBatch, Seen


def pair_loss(policy: DiffusionPolicy, batch: PairBatch, settings: RlSettings, measure: bool) -> tuple[Tensor, Seen]:
    """(loss, figures) of one micro-batch: the share of pairs in the preferred order, and how far errors moved."""
    process = policy.process
    clean, noise = torch.cat([batch.first, batch.second]), torch.cat([batch.noise, batch.noise])
    index = torch.cat([batch.index, batch.index])
    places = torch.arange(len(batch.first), device=clean.device).repeat(2)
    noised, target = process.noised(clean, noise, index), process.target(clean, noise, index)
    told = (noised, process.timesteps[index], batch.prompted.rows(places).unguided)

    def errors() -> tuple[Tensor, Tensor]:
        first, second = ((target - policy.predict(*told)) ** 2).flatten(1).mean(1).chunk(2)
        return first, second

    with torch.no_grad(), policy.at_start():
        start_errors = errors()
    now = errors()
    loss, share = diffusion_dpo_loss(*now, *start_errors, settings.dpo.beta, batch.probability, batch.weight)
    moved = torch.cat(now).detach() - torch.cat(start_errors)
    return loss, {"policy_loss": loss.detach(), "pair_accuracy": share, "error_change": moved.mean()}


DIFFUSION_DPO: Final = Loss("pairs", pair_loss, ("policy_loss", "pair_accuracy", "error_change"))
