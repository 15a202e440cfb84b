"""Diffusion-DPO (arXiv 2311.12908, equation 14): preference pairs, by the network's own squared errors.

    margin = (error_1 - start_error_1) - (error_2 - start_error_2),    m = -beta / 2 margin
    loss   = mean w (-p log sigmoid(m) - (1 - p) log sigmoid(-m))

p is the probability that the first image is preferred (1 in the paper; 0.5 is a tie), w the weight of the pair.
Letters of shapes: B pairs.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def diffusion_dpo_loss(
    first_error_B: Tensor,
    second_error_B: Tensor,
    first_start_error_B: Tensor,
    second_start_error_B: Tensor,
    beta: float,
    probability_B: Tensor | None = None,
    weight_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(loss, share of pairs that the policy orders as preferred).

    Errors are (B,) means over latent values of |target - prediction|^2, of the policy and of the start, all four of a
    pair with the same timestep and noise. Without probabilities the first image is the preferred one, without weights
    all pairs count alike. A pair with equal margins costs log 2; ties count as ordered by half.
    """
    margin = (first_error_B - first_start_error_B) - (second_error_B - second_start_error_B)
    logit = -0.5 * beta * margin
    each = -functional.logsigmoid(logit)
    prefers = (margin.detach() < 0).to(margin.dtype)
    if probability_B is not None:
        # -log sigmoid(-m) = m - log sigmoid(m).
        each = each + (1 - probability_B) * logit
        prefers = prefers * (probability_B > 0.5) + (margin.detach() > 0) * (probability_B < 0.5)
        prefers = prefers + 0.5 * (probability_B == 0.5)
    loss = each.mean() if weight_B is None else (weight_B * each).mean()
    return loss, prefers.mean()
