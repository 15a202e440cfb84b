"""Densities of isotropic Gaussians over latents. Letters of shapes: B samples, D values of one sample.

Log-probabilities come in two conventions. `log_prob_sum` is the density itself, in nats. `log_prob_mean` is that sum
over D, as DDPO's public code trains with (arXiv 2305.13301): ratios stay near 1 however many values a latent has. A
clip range of c nats in the first is c / D in the second, so settings give it in nats and the loss divides.
"""

from __future__ import annotations

import math

from torch import Tensor

LOG_SQRT_TWO_PI = 0.5 * math.log(2 * math.pi)


def log_density(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log-density of each value in nats: -(x - mean)^2 / (2 std^2) - log std - log sqrt(2 pi)."""
    return -((value - mean) ** 2) / (2 * std**2) - std.log() - LOG_SQRT_TWO_PI


def log_prob_sum(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B,) log-probability in nats of samples (B, ...): the sum over their D values."""
    return log_density(value, mean, std).flatten(1).sum(1)


def log_prob_mean(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B,) log-probability over D of samples (B, ...): the mean over their D values."""
    return log_density(value, mean, std).flatten(1).mean(1)


def kl_divergence(mean: Tensor, std: Tensor, other_mean: Tensor, other_std: Tensor) -> Tensor:
    """(B,) KL(first || second) in nats between Gaussians over samples (B, ...).

    Sum over D of log(s2 / s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2.
    """
    ratio = std / other_std
    terms = -ratio.log() + 0.5 * (ratio**2 + ((mean - other_mean) / other_std) ** 2 - 1)
    return terms.expand_as(mean).flatten(1).sum(1)


def kl_of_means(mean: Tensor, other_mean: Tensor, std: Tensor) -> Tensor:
    """(B,) KL in nats between Gaussians of one std: sum over D of (m1 - m2)^2 / (2 s^2)."""
    return ((mean - other_mean) ** 2 / (2 * std**2)).flatten(1).sum(1)
