"""Flow-GRPO's stochastic step for flow-matching models (arXiv 2505.05470, equation 9 and its public code).

With x = (1 - sigma) x0 + sigma noise, velocity v = noise - x0, dt = sigma' - sigma < 0 and noise level a:

    s    = a sqrt(sigma / (1 - sigma))
    mean = x (1 + s^2 / (2 sigma) dt) + v (1 + s^2 (1 - sigma) / (2 sigma)) dt
    x'   = mean + s sqrt(-dt) z

a = 0 is the Euler step of the ODE. At sigma 1, where s is infinite, the next sigma stands in under the root. The mean
is linear in x and v, so that the steps fit `Steps`. Letters: T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vp_ray.maths.steps import Steps


def sde_step(
    sample: Tensor, velocity: Tensor, sigma: Tensor, sigma_next: Tensor, noise_level: float
) -> tuple[Tensor, Tensor]:
    """(mean, std) of the next latents; sigmas (B,) in (0, 1] against samples (B, ...), std of shape (B, 1, ...)."""
    shape = (-1, *(1,) * (sample.dim() - 1))
    now, after = sigma.view(shape).to(sample.dtype), sigma_next.view(shape).to(sample.dtype)
    dt = after - now
    spread = noise_level**2 * now / (1 - torch.where(now == 1, after, now))
    mean = sample * (1 + spread / (2 * now) * dt) + velocity * (1 + spread * (1 - now) / (2 * now)) * dt
    return mean, (spread * -dt).sqrt()


def steps_of(timesteps: Tensor, sigmas: Tensor, *, noise_level: float) -> Steps:
    """Steps at `timesteps` (T,) between the noise levels `sigmas` (T + 1,), which fall from at most 1 to 0."""
    now, after = sigmas[:-1].double(), sigmas[1:].double()
    zero, one = torch.zeros_like(now), torch.ones_like(now)
    of_x, std = sde_step(one, zero, now, after, noise_level)
    of_v, _ = sde_step(zero, one, now, after, noise_level)
    # x0 = x - sigma v.
    return Steps(timesteps, of_x.float(), of_v.float(), std.float(), one.float(), (-now).float())
