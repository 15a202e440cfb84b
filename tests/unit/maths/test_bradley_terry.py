"""The listwise loss is the mean of its pairs' losses, and a tie is least at equal scores."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vp_ray.maths.bradley_terry import listwise_loss, pair_loss


def test_a_sure_pair_costs_what_imagereward_charges() -> None:
    assert pair_loss(torch.tensor(2.0), torch.tensor(1.0)).item() == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-7)
    assert pair_loss(torch.tensor(0.0), torch.tensor(1.0)).item() == pytest.approx(math.log(2), abs=1e-7)


def test_a_tie_is_least_at_equal_scores() -> None:
    differences = torch.linspace(-3, 3, 13)
    losses = pair_loss(differences, torch.tensor(0.5))
    assert losses.argmin().item() == 6
    torch.testing.assert_close(losses, losses.flip(0))


def test_the_gradient_is_the_predicted_minus_the_labelled_probability() -> None:
    difference = torch.tensor([-40.0, -1.0, 0.0, 2.0, 40.0], requires_grad=True)
    pair_loss(difference, torch.tensor(0.3)).sum().backward()
    torch.testing.assert_close(difference.grad, torch.sigmoid(difference.detach()) - 0.3)


def labelled(groups: int, images: int, aspects: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(groups, images, aspects, generator=generator)
    probability = torch.rand(groups, aspects, images, images, generator=generator)
    known = torch.rand(groups, aspects, images, images, generator=generator) < share
    weight = torch.rand(groups, aspects, images, images, generator=generator) * known
    return scores, probability, weight.triu(1)


def test_a_group_costs_the_weighted_mean_of_its_pairs() -> None:
    scores, probability, weight = labelled(groups=3, images=4, aspects=2, share=0.7)
    means = []
    for g in range(3):
        total = weights = 0.0
        for a in range(2):
            for i in range(4):
                for j in range(4):
                    w = weight[g, a, i, j].item()
                    d, p = (scores[g, i, a] - scores[g, j, a]).item(), probability[g, a, i, j].item()
                    total += w * -(p * math.log(1 / (1 + math.exp(-d))) + (1 - p) * math.log(1 / (1 + math.exp(d))))
                    weights += w
        means.append(total / weights)
    assert listwise_loss(scores, probability, weight).item() == pytest.approx(sum(means) / 3, abs=1e-6)


def test_what_has_no_label_gets_no_gradient() -> None:
    scores, probability, weight = labelled(groups=1, images=4, aspects=2, share=1.0)
    weight[:, 1] = 0
    weight[:, :, 3] = weight[:, :, :, 3] = 0
    scores.requires_grad_(True)
    listwise_loss(scores, probability, weight).backward()
    assert scores.grad is not None
    assert scores.grad[:, :, 1].abs().max() == 0
    assert scores.grad[:, 3].abs().max() == 0
    assert scores.grad[:, :3, 0].abs().min() > 0


def test_a_common_shift_of_a_groups_scores_changes_nothing() -> None:
    scores, probability, weight = labelled(groups=2, images=5, aspects=3, share=0.5)
    shifted = scores + torch.tensor([10.0, -7.0])[:, None, None]
    torch.testing.assert_close(
        listwise_loss(shifted, probability, weight), listwise_loss(scores, probability, weight), atol=1e-5, rtol=0
    )


def test_the_better_of_two_may_be_named_first_or_second() -> None:
    scores, probability, weight = labelled(groups=2, images=3, aspects=1, share=1.0)
    turned = listwise_loss(scores, 1 - probability.transpose(2, 3), weight.transpose(2, 3))
    torch.testing.assert_close(turned, listwise_loss(scores, probability, weight))
