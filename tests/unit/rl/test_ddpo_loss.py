from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vp_ray.models.policy import DiffusionPolicy, draw_noise
from vp_ray.rl.losses.ddpo import ddpo_loss
from vp_ray.rl.losses.interface import RATIO_DEVIATION, StepBatch

from .conftest import settings_of

ADVANTAGES = torch.tensor([1.0, -2.0, 0.5])


@pytest.fixture
def batch(policy: DiffusionPolicy) -> StepBatch:
    steps = policy.steps(3, 1.0)
    noise = draw_noise([1, 2, 3], 3, policy.latent_shape)
    trajectory = policy.sample(policy.embed(["a red circle"] * 3), noise, steps)
    return StepBatch(trajectory, torch.tensor([0, 1, 0]), ADVANTAGES)


def gradient(policy: DiffusionPolicy, loss: Tensor) -> Tensor:
    parameters = [p for p in policy.denoiser.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat([each.flatten() for each in found if each is not None])


@pytest.mark.parametrize("step_weights", ["equal", "variance"])
def test_at_ratio_1_the_gradient_is_that_of_the_weighted_log_probabilities(
    policy: DiffusionPolicy, batch: StepBatch, tiny_pipeline: Path, step_weights: str
) -> None:
    settings = settings_of(tiny_pipeline, step_weights=step_weights, kl_coefficient=0.0)
    loss, seen = ddpo_loss(policy, batch, settings, measure=False)
    weights = torch.ones(3)
    if step_weights == "variance":
        variance = batch.trajectory.steps.std**2
        weights = variance[batch.index] / variance.mean()
        assert weights[0] > 100 * weights[1]
    expected = -(ADVANTAGES * weights * policy.log_prob(batch.trajectory, batch.index)).mean()
    torch.testing.assert_close(gradient(policy, loss), gradient(policy, expected))
    assert seen[RATIO_DEVIATION] == 0
    assert seen["kl"].isnan()


def test_the_penalty_is_the_squared_distance_of_the_means_over_two_variances_and_over_d(
    policy: DiffusionPolicy, batch: StepBatch, tiny_pipeline: Path
) -> None:
    with torch.no_grad():
        start, std = policy.replay(batch.trajectory, batch.index)
        for parameter in policy.denoiser.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
        now, _ = policy.replay(batch.trajectory, batch.index)
    kl = ((now - start) ** 2 / (2 * std**2)).sum((1, 2, 3)).mean()
    plain, _ = ddpo_loss(policy, batch, settings_of(tiny_pipeline, kl_coefficient=0.0), measure=False)
    held, seen = ddpo_loss(policy, batch, settings_of(tiny_pipeline, kl_coefficient=2.0), measure=False)
    torch.testing.assert_close(seen["kl"], kl)
    torch.testing.assert_close(held - plain, 2.0 * kl / 256, rtol=1e-4, atol=1e-6)


def test_the_start_costs_a_forward_pass_only_where_it_is_needed(
    policy: DiffusionPolicy, batch: StepBatch, tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    forward = policy.denoiser.forward

    def counted(*arguments: Any, **options: Any) -> Any:
        passes.append(1)
        return forward(*arguments, **options)

    monkeypatch.setattr(policy.denoiser, "forward", counted)
    for coefficient, measure, expected in ((0.0, False, 1), (0.0, True, 2), (0.1, False, 2)):
        passes.clear()
        ddpo_loss(policy, batch, settings_of(tiny_pipeline, kl_coefficient=coefficient), measure)
        assert len(passes) == expected
