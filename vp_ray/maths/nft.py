"""DiffusionNFT (arXiv 2509.16117, equation 5 and its public code): learning from good and bad images at once.

With the network's prediction v, the old policy's v_old, a strength b, and x0(.) the clean latents of a prediction:

    v+ = b v + (1 - b) v_old,    v- = (1 + b) v_old - b v
    r  = clip(A / (2 c) + 1/2, 0, 1)
    loss = (r |x0(v+) - x0|^2 / w+  +  (1 - r) |x0(v-) - x0|^2 / w-) / b

c is the clip of the advantages A, so that r goes from 0 for the worst to 1 for the best; w are the detached mean
absolute errors of the same images. Letters of shapes: B samples.
"""

from __future__ import annotations

from torch import Tensor


def optimality(advantages_B: Tensor, clip: float) -> Tensor:
    """r (B,) in 0..1 of advantages within -clip..clip."""
    return (advantages_B / (2 * clip) + 0.5).clamp(0, 1)


def mixed_predictions(prediction: Tensor, old: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """(v+, v-) of shape (B, ...): the implicit policies of the good and of the bad images."""
    return strength * prediction + (1 - strength) * old, (1 + strength) * old - strength * prediction


def weighted_error(clean: Tensor, target: Tensor) -> Tensor:
    """(B,) mean squared errors over the detached mean absolute errors of the same images."""
    difference = (clean - target).flatten(1)
    size = difference.detach().abs().mean(1).clamp(min=1e-5)
    return (difference**2).mean(1) / size


def nft_loss(
    clean_of_positive: Tensor, clean_of_negative: Tensor, clean: Tensor, optimality_B: Tensor, strength: float
) -> Tensor:
    """The loss, from x0(v+), x0(v-) and x0 (B, ...) and r (B,)."""
    positive, negative = weighted_error(clean_of_positive, clean), weighted_error(clean_of_negative, clean)
    return ((optimality_B * positive + (1 - optimality_B) * negative) / strength).mean()
