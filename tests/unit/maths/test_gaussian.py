import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vp_ray.maths import gaussian


def test_the_standard_normal_at_0_has_minus_log_sqrt_two_pi_a_value() -> None:
    zero = torch.zeros(2, 3, 4)
    assert gaussian.log_prob_sum(zero, zero, torch.ones(2, 1, 1)).tolist() == pytest.approx([-12 * 0.9189385] * 2)
    assert gaussian.log_prob_mean(zero, zero, torch.ones(2, 1, 1)).tolist() == pytest.approx([-0.9189385] * 2)


def test_it_equals_torchs_normal_and_the_mean_convention_is_the_sum_over_d() -> None:
    torch.manual_seed(0)
    value, mean = torch.randn(2, 5, 4, 3, 3, dtype=torch.float64)
    std = torch.rand(5, 1, 1, 1, dtype=torch.float64) + 0.1
    expected = Normal(mean, std).log_prob(value).flatten(1).sum(1)
    torch.testing.assert_close(gaussian.log_prob_sum(value, mean, std), expected)
    torch.testing.assert_close(gaussian.log_prob_mean(value, mean, std) * 36, expected)


def test_the_kl_of_two_known_gaussians_equals_the_closed_form() -> None:
    zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    assert gaussian.kl_divergence(zero, one, one, one).item() == pytest.approx(1.5)
    assert gaussian.kl_divergence(zero, one, zero, 2 * one).item() == pytest.approx(3 * (math.log(2) + 1 / 8 - 1 / 2))
    assert gaussian.kl_divergence(one, one, one, one).item() == 0.0
    torch.manual_seed(1)
    mean, other = torch.randn(2, 4, 6, dtype=torch.float64)
    std, other_std = torch.rand(2, 4, 1, dtype=torch.float64) + 0.2
    expected = kl_divergence(Normal(mean, std), Normal(other, other_std)).sum(1)
    torch.testing.assert_close(gaussian.kl_divergence(mean, std, other, other_std), expected)


def test_with_equal_stds_the_kl_is_the_squared_distance_of_the_means_over_two_variances() -> None:
    torch.manual_seed(2)
    mean, other = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    std = torch.full((4, 1, 1), 0.3, dtype=torch.float64)
    torch.testing.assert_close(
        gaussian.kl_of_means(mean, other, std), gaussian.kl_divergence(mean, std, other, std), atol=1e-12, rtol=1e-12
    )
