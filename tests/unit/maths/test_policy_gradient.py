import math

import pytest
import torch

from vp_ray.maths.policy_gradient import clipped_loss


def gradient_of(ratio: float, advantage: float, clip_nats: float = 0.2) -> float:
    log_prob = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    loss, _ = clipped_loss(log_prob, torch.zeros(1, dtype=torch.float64), torch.tensor([advantage]), clip_nats)
    loss.backward()
    assert log_prob.grad is not None
    return log_prob.grad.item()


@pytest.mark.parametrize(("advantage", "ratio", "gradient"), [
    (2.0, 1.0, -2.0),
    (-2.0, 1.0, 2.0),
    (2.0, 1.3, 0.0),    # better and already likelier: nothing more to gain
    (2.0, 0.7, -1.4),   # better and less likely: pulled back
    (-2.0, 0.7, 0.0),
    (-2.0, 1.3, 2.6),
    (0.0, 1.3, 0.0),
])  # fmt: skip
def test_the_sign_table_of_advantage_and_ratio(advantage: float, ratio: float, gradient: float) -> None:
    assert gradient_of(ratio, advantage) == pytest.approx(gradient, abs=1e-12)
    if gradient == 0.0:
        assert gradient_of(ratio, advantage) == 0.0


def test_at_ratio_1_the_gradient_is_minus_the_mean_of_advantage_times_the_gradient_of_log_p() -> None:
    torch.manual_seed(0)
    features, advantages = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    weights = torch.randn(3, dtype=torch.float64, requires_grad=True)
    log_probs = features @ weights
    loss, statistics = clipped_loss(log_probs, log_probs.detach(), advantages, 0.2)
    loss.backward()
    torch.testing.assert_close(weights.grad, -(advantages[:, None] * features).mean(0))
    assert (statistics.ratio_mean.item(), statistics.largest_deviation.item()) == (1.0, 0.0)
    assert (statistics.clip_share_high.item(), statistics.clip_share_low.item()) == (0.0, 0.0)


def test_the_clip_in_nats_is_divided_by_the_number_of_latent_values() -> None:
    """1.6 nats over 16,384 values are DDPO's 1e-4 for Stable Diffusion at 512 pixels."""
    log_probs = torch.tensor([0.9e-4, 1.1e-4, -0.9e-4, -1.1e-4], dtype=torch.float64)
    _, statistics = clipped_loss(log_probs, torch.zeros_like(log_probs), torch.ones_like(log_probs), 1.6384, 16384)
    assert (statistics.clip_share_high.item(), statistics.clip_share_low.item()) == (0.25, 0.25)


def test_loss_and_statistics_by_hand() -> None:
    log_probs = torch.log(torch.tensor([1.5, 0.5], dtype=torch.float64))
    loss, statistics = clipped_loss(log_probs, torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 1.0]), 0.2)
    assert loss.item() == pytest.approx((-1.2 - 0.5) / 2)
    assert statistics.largest_deviation.item() == pytest.approx(0.5)
    assert statistics.approximate_kl.item() == pytest.approx((math.log(1.5) ** 2 + math.log(0.5) ** 2) / 4)
