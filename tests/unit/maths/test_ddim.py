import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from vp_ray.errors import NumericsError
from vp_ray.maths.ddim import steps_of, transition
from vp_ray.maths.steps import Steps


def scheduler_of(**options: object) -> DDIMScheduler:
    plain = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    return DDIMScheduler(**{**plain, **options})


def steps_like(scheduler: DDIMScheduler, count: int, eta: float) -> Steps:
    scheduler.set_timesteps(count)
    return steps_of(
        scheduler.alphas_cumprod,
        scheduler.final_alpha_cumprod,
        scheduler.timesteps,
        scheduler.config.num_train_timesteps // count,
        eta=eta,
        prediction_type=scheduler.config.prediction_type,
    )


def one(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_one_step_by_hand() -> None:
    mean, std = transition(one(1.0), one(0.5), one(0.25), one(0.64), eta=1.0, prediction_type="epsilon")
    variance = (0.36 / 0.75) * (1 - 0.25 / 0.64)
    clean = (1 - math.sqrt(0.75) * 0.5) / 0.5
    assert std.item() == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert mean.item() == pytest.approx(0.8 * clean + math.sqrt(0.36 - variance) * 0.5, rel=1e-12)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("alpha_to_one", [False, True])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_every_step_equals_that_of_diffusers_with_the_same_noise(
    prediction_type: str, spacing: str, alpha_to_one: bool, offset: int, eta: float
) -> None:
    scheduler = scheduler_of(
        prediction_type=prediction_type, timestep_spacing=spacing, set_alpha_to_one=alpha_to_one, steps_offset=offset
    )
    steps = steps_like(scheduler, 8, eta)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    generator = torch.Generator().manual_seed(offset)
    sample, prediction, noise = torch.randn(3, 8, 2, 4, 4, generator=generator, dtype=torch.float64)
    index = torch.arange(8)
    mean, std = steps.gaussian(sample, prediction, index)
    for step, timestep in enumerate(scheduler.timesteps):
        expected = scheduler.step(
            prediction[step], timestep, sample[step], eta=eta, variance_noise=noise[step]
        ).prev_sample
        torch.testing.assert_close(mean[step] + std[step] * noise[step], expected, rtol=2e-6, atol=2e-6)


def test_the_last_step_goes_to_the_final_alpha_and_not_to_the_first_timesteps_alpha() -> None:
    scheduler = scheduler_of(set_alpha_to_one=True, steps_offset=0)
    steps = steps_like(scheduler, 10, 1.0)
    assert steps.timesteps[-1] == 0
    alpha = scheduler.alphas_cumprod[0]
    mean, _ = steps.gaussian(torch.ones(1, 1), torch.full((1, 1), 0.5), torch.tensor([9]))
    assert mean.item() == pytest.approx(((1 - (1 - alpha).sqrt() * 0.5) / alpha.sqrt()).item(), rel=1e-6)


@pytest.mark.parametrize(("alpha_to_one", "offset", "eta", "without_density"), [
    (True, 1, 1.0, [4]),
    (False, 0, 1.0, [4]),
    (False, 1, 1.0, []),
    (True, 0, 0.0, [0, 1, 2, 3, 4]),
])  # fmt: skip
def test_steps_of_std_0_are_not_among_the_stochastic_ones(
    alpha_to_one: bool, offset: int, eta: float, without_density: list[int]
) -> None:
    steps = steps_like(scheduler_of(set_alpha_to_one=alpha_to_one, steps_offset=offset), 5, eta)
    assert [step for step in range(5) if step not in steps.stochastic.tolist()] == without_density


def test_at_any_eta_the_noise_of_a_step_adds_up_to_that_of_its_alpha() -> None:
    """direction^2 + std^2 = 1 - a': with the true noise as prediction the next latents have the right variance."""
    alphas = torch.linspace(0.05, 0.99, 9, dtype=torch.float64)
    for alpha, lower in pairwise(alphas):
        for eta in (0.0, 0.5, 1.0):
            mean, std = transition(one(0.0), one(1.0), alpha, lower, eta=eta, prediction_type="sample")
            direction = (lower.sqrt() - mean) * (1 - alpha).sqrt() / alpha.sqrt()
            assert (direction**2 + std**2).item() == pytest.approx(1 - lower.item(), abs=1e-12)


def test_an_undefined_clean_image_is_refused_and_v_prediction_is_defined_there() -> None:
    with pytest.raises(NumericsError, match="undefined for epsilon"):
        transition(one(1.0), one(1.0), one(0.0), one(0.1), eta=1.0, prediction_type="epsilon")
    mean, std = transition(one(1.0), one(-2.0), one(0.0), one(0.25), eta=1.0, prediction_type="v_prediction")
    assert (mean.item(), std.item()) == (pytest.approx(0.5 * 2.0), pytest.approx(math.sqrt(0.75)))
