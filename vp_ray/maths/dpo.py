"""Diffusion-DPO (arXiv 2311.12908, equation 14): preference pairs, by the network's own squared errors."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def diffusion_dpo_loss(
    preferred_error_B: Tensor,
    other_error_B: Tensor,
    preferred_start_error_B: Tensor,
    other_start_error_B: Tensor,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """(loss, share of pairs that the policy orders as preferred).

    Errors are (B,) means over latent values of |target - prediction|^2, of the policy and of the start, all four of a
    pair with the same timestep and noise:

        loss = mean -log sigmoid(-beta / 2 ((preferred - preferred_start) - (other - other_start)))

    A pair with equal margins costs log 2.
    """
    margin = (preferred_error_B - preferred_start_error_B) - (other_error_B - other_start_error_B)
    loss = -functional.logsigmoid(-0.5 * beta * margin).mean()
    return loss, (margin.detach() < 0).float().mean()
