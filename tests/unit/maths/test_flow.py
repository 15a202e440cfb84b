import math

import pytest
import torch

from vp_ray.maths.flow import sde_step


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
