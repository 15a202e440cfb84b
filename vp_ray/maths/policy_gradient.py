"""The clipped importance-sampled policy gradient of DDPO (arXiv 2305.13301, equation 5) and PPO (arXiv 1707.06347, 7).

    ratio = exp(log p - log p_old)
    loss  = mean max(-A ratio, -A clip(ratio, 1 - c, 1 + c))

Letters of shapes: B pairs of a sample and one of its steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RatioStatistics:
    """What the ratios of one micro-batch were; zero-dimensional tensors, detached."""

    ratio_mean: Tensor
    clip_share_high: Tensor
    """Share of ratios above 1 + c."""
    clip_share_low: Tensor
    """Share of ratios below 1 - c."""
    approximate_kl: Tensor
    """Mean of (log p - log p_old)^2 / 2, in the convention of the log-probabilities."""
    largest_deviation: Tensor
    """Largest |ratio - 1|."""


def clipped_loss(
    log_probs_B: Tensor, old_log_probs_B: Tensor, advantages_B: Tensor, clip_nats: float, dimensions: int = 1
) -> tuple[Tensor, RatioStatistics]:
    """(loss, statistics); `dimensions` is D for log-probabilities that are means over D values, and c = clip_nats / D.

    At ratio 1 the gradient is -mean A grad log p; it is exactly 0 for a pair with A > 0 and ratio > 1 + c, and for
    one with A < 0 and ratio < 1 - c.
    """
    c = clip_nats / dimensions
    log_ratio = log_probs_B - old_log_probs_B
    ratio = log_ratio.exp()
    loss = torch.maximum(-advantages_B * ratio, -advantages_B * ratio.clamp(1 - c, 1 + c)).mean()
    known = ratio.detach()
    statistics = RatioStatistics(
        ratio_mean=known.mean(),
        clip_share_high=(known > 1 + c).float().mean(),
        clip_share_low=(known < 1 - c).float().mean(),
        approximate_kl=0.5 * (log_ratio.detach() ** 2).mean(),
        largest_deviation=(known - 1).abs().max(),
    )
    return loss, statistics
