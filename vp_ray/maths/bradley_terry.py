"""Preferences as differences of scores: P(a over b) = sigmoid(s_a - s_b) (Bradley & Terry 1952).

Letters of shapes: G groups, A aspects, K images of a group.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def pair_loss(difference: Tensor, probability: Tensor) -> Tensor:
    """Cross-entropy of the soft label `probability` that a is preferred, with `difference` = s_a - s_b, elementwise.

    -p log sigmoid(d) - (1 - p) log sigmoid(-d) = softplus(d) - p d; at p = 1 it is ImageReward's loss
    (arXiv 2304.05977, equation 1), at p = 1/2 (a tie) it is least at d = 0.
    """
    return functional.softplus(difference) - probability * difference


def listwise_loss(scores_GKA: Tensor, probability_GAKK: Tensor, weight_GAKK: Tensor) -> Tensor:
    """The mean over groups of the weighted mean of their pairs' losses, from one score for each image and aspect.

    `probability[g, a, i, j]` is the label that image i is preferred to image j; `weight` is 0 where there is no label.
    A group's mean runs over all its labelled pairs and aspects; every group must have one.
    """
    scores_GAK = scores_GKA.transpose(1, 2)
    difference = scores_GAK.unsqueeze(-1) - scores_GAK.unsqueeze(-2)
    losses = (weight_GAKK * pair_loss(difference, probability_GAKK)).sum(dim=(1, 2, 3))
    return (losses / weight_GAKK.sum(dim=(1, 2, 3))).mean()
