"""DDIM (arXiv 2010.02502, equations 12 and 16) with each stochastic step written as a Gaussian.

With a = alphas_cumprod at this timestep, a' at the next one (nearer to the picture) and the network's prediction p:

    x0 and e from x_t and p by prediction type
    s^2 = eta^2 (1 - a') / (1 - a) (1 - a / a')
    mean = sqrt(a') x0 + sqrt(1 - a' - s^2) e,    x_t' = mean + s z

x0 and e are linear in x_t and p, hence so is the mean: mean = c_x x_t + c_p p. Letters: B samples, T steps.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vp_ray.errors import NumericsError
from vp_ray.maths.steps import Steps

PredictionType = Literal["epsilon", "sample", "v_prediction"]


def _clean_and_noise(
    signal: Tensor, noise: Tensor, prediction_type: PredictionType
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coefficients of x and of the prediction in x0, then in e."""
    zero, one = torch.zeros_like(signal), torch.ones_like(signal)
    return {
        "epsilon": (1 / signal, -noise / signal, zero, one),
        "sample": (zero, one, 1 / noise, -signal / noise),
        "v_prediction": (signal, -noise, noise, signal),
    }[prediction_type]


def clean_coefficients(alpha: Tensor, prediction_type: PredictionType) -> tuple[Tensor, Tensor]:
    """(k_x, k_p) with x0 = k_x x_t + k_p prediction; both of the shape of `alpha`, in float64."""
    signal, noise = alpha.double().sqrt(), (1 - alpha.double()).sqrt()
    return _clean_and_noise(signal, noise, prediction_type)[:2]


def coefficients(
    alpha: Tensor, alpha_previous: Tensor, eta: float, prediction_type: PredictionType
) -> tuple[Tensor, Tensor, Tensor]:
    """(c_x, c_p, std) of every step, with mean = c_x x_t + c_p prediction; all of the shape of `alpha`, in float64.

    Raises `NumericsError` where the prediction type leaves x0 or e undefined (alpha 0 with `epsilon`, 1 with `sample`).
    """
    a, a_next = alpha.double(), alpha_previous.double()
    signal, noise = a.sqrt(), (1 - a).sqrt()
    variance = eta**2 * (1 - a_next) / (1 - a) * (1 - a / a_next)
    # At eta 1 the difference is 0 up to rounding where a' is 1 or a is 0.
    direction = (1 - a_next - variance).clamp(min=0).sqrt()
    clean_of_x, clean_of_p, noise_of_x, noise_of_p = _clean_and_noise(signal, noise, prediction_type)
    of_x = a_next.sqrt() * clean_of_x + direction * noise_of_x
    of_p = a_next.sqrt() * clean_of_p + direction * noise_of_p
    std = variance.clamp(min=0).sqrt()
    if not bool((of_x.isfinite() & of_p.isfinite() & std.isfinite()).all()):
        raise NumericsError(
            f"a step of this noise schedule is undefined for {prediction_type} prediction",
            "Use 'leading' timesteps, or a model of v prediction where the last alpha is 0.",
        )
    return of_x, of_p, std


def transition(
    sample: Tensor,
    prediction: Tensor,
    alpha: Tensor,
    alpha_previous: Tensor,
    *,
    eta: float,
    prediction_type: PredictionType,
) -> tuple[Tensor, Tensor]:
    """(mean, std) of the next latents; the alphas broadcast against `sample`, and std has their shape."""
    of_x, of_p, std = coefficients(alpha, alpha_previous, eta, prediction_type)
    return of_x.to(sample.dtype) * sample + of_p.to(sample.dtype) * prediction, std.to(sample.dtype)


def steps_of(
    alphas_cumprod: Tensor,
    final_alpha: Tensor,
    timesteps: Tensor,
    stride: int,
    *,
    eta: float,
    prediction_type: PredictionType,
) -> Steps:
    """Steps at descending `timesteps` (T,), each to `stride` timesteps lower; below 0 stands `final_alpha`.

    The lower timestep is tested before it is used as an index: clamping it to 0 first would replace `final_alpha`
    by `alphas_cumprod[0]` and give the last step std 0.
    """
    lower = timesteps - stride
    inside = lower >= 0
    alpha_previous = torch.where(inside, alphas_cumprod[lower.clamp(min=0)], final_alpha)
    alpha = alphas_cumprod[timesteps]
    of_x, of_p, std = coefficients(alpha, alpha_previous, eta, prediction_type)
    clean_of_x, clean_of_p = clean_coefficients(alpha, prediction_type)
    return Steps(timesteps, of_x.float(), of_p.float(), std.float(), clean_of_x.float(), clean_of_p.float())
