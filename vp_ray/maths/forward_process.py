"""The way from picture to noise, on which losses that need only final latents train the network's own predictions.

    x_t = signal x0 + spread e,    target = g_x x0 + g_e e,    x0 = k_x x_t + k_p p

Noise-schedule models have signal = sqrt(a), spread = sqrt(1 - a) and predict e, x0 or v = signal e - spread x0
(arXiv 2202.00512); flow models have signal = 1 - sigma, spread = sigma and predict e - x0 (arXiv 2209.03003).
Letters of shapes: B samples, K noise levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vp_ray.maths.ddim import PredictionType, clean_coefficients


@dataclass(frozen=True, slots=True)
class ForwardProcess:
    """The noise levels that a model is trained at, each table (K,) float32."""

    timesteps: Tensor
    """What the network is told."""
    signal: Tensor
    spread: Tensor
    target_of_clean: Tensor
    target_of_noise: Tensor
    clean_of_sample: Tensor
    clean_of_prediction: Tensor

    def __len__(self) -> int:
        return len(self.timesteps)

    def noised(self, clean: Tensor, noise: Tensor, index: Tensor) -> Tensor:
        """x_t (B, ...) of latents and noise (B, ...) at levels `index` (B,)."""
        return _mixed(self.signal, clean, self.spread, noise, index)

    def target(self, clean: Tensor, noise: Tensor, index: Tensor) -> Tensor:
        """(B, ...) what a perfect network would predict at levels `index` (B,)."""
        return _mixed(self.target_of_clean, clean, self.target_of_noise, noise, index)

    def clean(self, noised: Tensor, prediction: Tensor, index: Tensor) -> Tensor:
        """(B, ...) the latents that the prediction at levels `index` (B,) points to."""
        return _mixed(self.clean_of_sample, noised, self.clean_of_prediction, prediction, index)


def _mixed(first_table: Tensor, first: Tensor, second_table: Tensor, second: Tensor, index: Tensor) -> Tensor:
    shape = (-1, *(1,) * (first.dim() - 1))
    return first_table[index].view(shape) * first + second_table[index].view(shape) * second


def of_noise_schedule(alphas_cumprod: Tensor, prediction_type: PredictionType) -> ForwardProcess:
    """The process of a model with a noise schedule; a level at which x0 is undefined is left out."""
    timesteps = torch.arange(len(alphas_cumprod), device=alphas_cumprod.device)
    of_x, of_p = clean_coefficients(alphas_cumprod, prediction_type)
    defined = of_x.isfinite() & of_p.isfinite()
    alpha = alphas_cumprod.double()[defined]
    signal, spread = alpha.sqrt(), (1 - alpha).sqrt()
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    of_clean, of_noise = {
        "epsilon": (zero, one),
        "sample": (one, zero),
        "v_prediction": (-spread, signal),
    }[prediction_type]
    tables = (signal, spread, of_clean, of_noise, of_x[defined], of_p[defined])
    return ForwardProcess(timesteps[defined], *(table.float() for table in tables))


def of_flow(timesteps: Tensor, sigmas: Tensor) -> ForwardProcess:
    """The process of a flow model at noise levels `sigmas` (K,) in (0, 1], told as `timesteps` (K,)."""
    sigma = sigmas.double()
    one = torch.ones_like(sigma)
    tables = (1 - sigma, sigma, -one, one, one, -sigma)
    return ForwardProcess(timesteps, *(table.float() for table in tables))
