"""Euler's ancestral sampler (k-diffusion; arXiv 2206.00364, appendix B.1) with each step written as a Gaussian.

Latents here are x = x0 + sigma e, so that their scale grows with the noise; the network reads x / sqrt(sigma^2 + 1).
With sigma' the next noise level and the network's prediction p:

    epsilon       x0 = x - sigma p
    v             x0 = x / (sigma^2 + 1) - sigma / sqrt(sigma^2 + 1) p
    std^2 = eta^2 sigma'^2 (sigma^2 - sigma'^2) / sigma^2,    down = sqrt(sigma'^2 - std^2)
    mean  = x + (x - x0) / sigma (down - sigma),    x' = mean + std z

eta 1 is diffusers' `EulerAncestralDiscreteScheduler`, eta 0 its `EulerDiscreteScheduler`. The last step, to sigma' = 0,
has no noise and hence no density. Letters: T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vp_ray.errors import SettingsError
from vp_ray.maths.steps import Steps


def steps_of(timesteps: Tensor, sigmas: Tensor, start_std: float, *, eta: float, prediction_type: str) -> Steps:
    """Steps at `timesteps` (T,) between the noise levels `sigmas` (T + 1,), which fall to 0.

    Raises `SettingsError` for a prediction type that this sampler does not know.
    """
    now, after = sigmas[:-1].double(), sigmas[1:].double()
    one = torch.ones_like(now)
    known = {
        "epsilon": (one, -now),
        "v_prediction": (1 / (now**2 + 1), -now / (now**2 + 1).sqrt()),
    }
    if prediction_type not in known:
        raise SettingsError(
            f"the sampler 'euler_ancestral' does not know {prediction_type} prediction", "Use rl.sampler 'ddim'."
        )
    clean_of_x, clean_of_p = known[prediction_type]
    variance = eta**2 * after**2 * (now**2 - after**2) / now**2
    down = (after**2 - variance).clamp(min=0).sqrt()
    slope = (down - now) / now
    return Steps(
        timesteps,
        of_sample=(1 + slope * (1 - clean_of_x)).float(),
        of_prediction=(-slope * clean_of_p).float(),
        std=variance.clamp(min=0).sqrt().float(),
        clean_of_sample=clean_of_x.float(),
        clean_of_prediction=clean_of_p.float(),
        scale=(1 / (now**2 + 1).sqrt()).float(),
        start_std=start_std,
    )
