import math

import pytest
import torch

from vp_ray.maths.dpo import diffusion_dpo_loss


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_a_policy_at_its_start_costs_log_2_and_orders_no_pair() -> None:
    errors = values(0.3, 0.1)
    loss, share = diffusion_dpo_loss(errors, errors + 1, errors, errors + 1, beta=5000)
    assert loss.item() == pytest.approx(math.log(2))
    assert share.item() == 0.0


def test_one_pair_by_hand() -> None:
    loss, share = diffusion_dpo_loss(values(0.10), values(0.30), values(0.15), values(0.25), beta=20)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-10 * 0.1)))
    assert share.item() == 1.0


def test_its_gradient_at_the_start_is_beta_over_four_down_for_the_preferred_image_and_up_for_the_other() -> None:
    preferred, other = values(0.2).requires_grad_(), values(0.2).requires_grad_()
    diffusion_dpo_loss(preferred, other, values(0.2), values(0.2), beta=8)[0].backward()
    assert (preferred.grad, other.grad) == (values(2.0), values(-2.0))


def test_an_error_that_all_four_share_changes_nothing() -> None:
    errors = [values(0.1, 0.4), values(0.3, 0.2), values(0.2, 0.2), values(0.1, 0.5)]
    shifted = [error + 0.7 for error in errors]
    torch.testing.assert_close(diffusion_dpo_loss(*errors, beta=9)[0], diffusion_dpo_loss(*shifted, beta=9)[0])


def test_a_soft_label_is_the_mean_of_both_orders_and_a_weight_a_factor() -> None:
    errors = [values(0.1, 0.4), values(0.3, 0.2), values(0.2, 0.2), values(0.1, 0.5)]
    swapped = [errors[1], errors[0], errors[3], errors[2]]
    mixed, _ = diffusion_dpo_loss(*errors, beta=9, probability_B=values(0.7, 0.7))
    first, second = (diffusion_dpo_loss(*each, beta=9)[0] for each in (errors, swapped))
    torch.testing.assert_close(mixed, 0.7 * first + 0.3 * second)
    doubled, _ = diffusion_dpo_loss(*errors, beta=9, probability_B=values(0.7, 0.7), weight_B=values(2.0, 2.0))
    torch.testing.assert_close(doubled, 2 * mixed)


def test_the_share_of_pairs_in_order_follows_the_label_and_takes_a_tie_as_half() -> None:
    better, worse, start = values(0.1, 0.1, 0.1), values(0.3, 0.3, 0.3), values(0.2, 0.2, 0.2)
    _, share = diffusion_dpo_loss(better, worse, start, start, beta=9, probability_B=values(0.9, 0.2, 0.5))
    assert share.item() == pytest.approx((1 + 0 + 0.5) / 3)
