"""DiffusionNFT (arXiv 2509.16117, equation 5) on the model's forward process: it needs the finished images alone.

    x_t  = signal x0 + spread e
    v+   = b v + (1 - b) v_old,    v- = (1 + b) v_old - b v,    r = clip(A / (2 c) + 1/2, 0, 1)
    loss = mean (r |x0(v+) - x0|^2 / w+ + (1 - r) |x0(v-) - x0|^2 / w-) / b + reference_weight mean |v - v_start|^2

v is whatever the network predicts (a flow, noise or v), v_old that of the policy that drew the images. Any sampler may
have drawn them.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from vp_ray.maths import nft
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.rl.config import RlSettings
from vp_ray.rl.losses.interface import LatentBatch, Loss, Seen


def diffusion_nft_loss(
    policy: DiffusionPolicy, batch: LatentBatch, settings: RlSettings, measure: bool
) -> tuple[Tensor, Seen]:
    """(loss, figures) of one micro-batch; the distance to the start costs a forward pass where it has no weight."""
    chosen, process = settings.nft, policy.process
    noised = process.noised(batch.latents, batch.noise, batch.index)
    told = (noised, process.timesteps[batch.index], batch.prompted)
    start = None
    with torch.no_grad():
        with policy.at_old():
            old = policy.predict(*told)
        if chosen.reference_weight > 0 or measure:
            with policy.at_start():
                start = policy.predict(*told)
    predicted = policy.predict(*told)
    positive, negative = (
        process.clean(noised, mixed, batch.index) for mixed in nft.mixed_predictions(predicted, old, chosen.strength)
    )
    optimality = nft.optimality(batch.advantages, settings.advantage_clip)
    loss = nft.nft_loss(positive, negative, batch.latents, optimality, chosen.strength)
    seen = {"policy_loss": loss.detach()}
    if start is None:
        return loss, seen | {"start_distance": torch.full_like(loss.detach(), torch.nan)}
    distance = ((predicted - start) ** 2).mean()
    return loss + chosen.reference_weight * distance, seen | {"start_distance": distance.detach()}


DIFFUSION_NFT: Final = Loss("final latents", diffusion_nft_loss, ("policy_loss", "start_distance"))
