import math
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from vp_ray.maths.flow import sde_step, steps_of
from vp_ray.maths.steps import windowed


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_one_step_by_hand() -> None:
    mean, std = sde_step(values(1.0), values(0.4), values(0.8), values(0.6), noise_level=0.7)
    spread = 0.49 * 0.8 / 0.2
    assert mean.item() == pytest.approx(1 - spread / 1.6 * 0.2 - 0.4 * (1 + spread * 0.2 / 1.6) * 0.2)
    assert std.item() == pytest.approx(math.sqrt(spread * 0.2))


def test_without_noise_it_is_the_euler_step_of_the_ode() -> None:
    sample, velocity = values(1.0, -2.0), values(0.5, 0.25)
    mean, std = sde_step(sample, velocity, values(0.9, 0.5), values(0.7, 0.4), noise_level=0.0)
    torch.testing.assert_close(mean, sample + velocity * values(-0.2, -0.1))
    assert not std.any()


def test_at_sigma_1_the_next_sigma_stands_under_the_root() -> None:
    _, std = sde_step(values(0.0), values(0.0), values(1.0), values(0.75), noise_level=1.0)
    assert std.item() == pytest.approx(math.sqrt(1 / 0.25 * 0.25))


@pytest.mark.parametrize("noise_level", [0.0, 0.7, 1.4])
@pytest.mark.parametrize("sigma", [0.2, 0.5, 0.9])
def test_a_small_step_keeps_the_marginal_of_gaussian_data(noise_level: float, sigma: float) -> None:
    """For x0 ~ N(0, 1), x = (1 - sigma) x0 + sigma noise has that variance, whatever the noise level."""
    step = 1e-5
    variance = (1 - sigma) ** 2 + sigma**2
    slope = (sigma - (1 - sigma)) / variance
    factor, std = sde_step(values(1.0), values(slope), values(sigma), values(sigma - step), noise_level)
    after = (1 - sigma + step) ** 2 + (sigma - step) ** 2
    assert (factor**2 * variance + std**2).item() == pytest.approx(after, abs=200 * step**2)


def scheduled(noise_level: float) -> tuple[FlowMatchEulerDiscreteScheduler, Any]:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(6)
    return scheduler, steps_of(scheduler.timesteps, scheduler.sigmas, noise_level=noise_level)


def test_the_tables_give_the_step_of_the_sde_and_without_noise_that_of_diffusers() -> None:
    scheduler, steps = scheduled(0.7)
    _, plain = scheduled(0.0)
    sample, velocity = torch.randn(2, 6, 2, 3, generator=torch.Generator().manual_seed(0))
    places = torch.arange(6)
    mean, std = steps.gaussian(sample, velocity, places)
    expected, spread = sde_step(sample, velocity, scheduler.sigmas[:-1], scheduler.sigmas[1:], 0.7)
    torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(std, spread, rtol=1e-5, atol=1e-6)
    assert steps.stochastic.tolist() == list(range(6))
    for step, timestep in enumerate(scheduler.timesteps):
        told = scheduler.step(velocity[step], timestep, sample[step]).prev_sample
        torch.testing.assert_close(plain.gaussian(sample, velocity, places)[0][step], told, rtol=1e-5, atol=1e-6)


def test_outside_the_window_steps_are_the_odes_and_have_no_density() -> None:
    (_, noisy), (_, plain) = scheduled(0.7), scheduled(0.0)
    mixed = windowed(noisy, plain, 1, 2)
    assert mixed.stochastic.tolist() == [1, 2]
    sample, velocity = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    places = torch.arange(6)
    mean = mixed.gaussian(sample, velocity, places)[0]
    for step in range(6):
        source = noisy if step in (1, 2) else plain
        assert torch.equal(mean[step], source.gaussian(sample, velocity, places)[0][step])
