import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler

from vp_ray.errors import SettingsError
from vp_ray.maths.euler_ancestral import steps_of
from vp_ray.maths.steps import Steps

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def steps_like(scheduler: EulerAncestralDiscreteScheduler | EulerDiscreteScheduler, count: int, eta: float) -> Steps:
    scheduler.set_timesteps(count)
    return steps_of(
        scheduler.timesteps,
        scheduler.sigmas,
        float(scheduler.init_noise_sigma),
        eta=eta,
        prediction_type=scheduler.config.prediction_type,
    )


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("offset", [0, 1])
def test_every_step_and_input_equal_those_of_diffusers_with_the_same_noise(
    prediction_type: str, spacing: str, offset: int
) -> None:
    scheduler = EulerAncestralDiscreteScheduler(
        **SCHEDULE, prediction_type=prediction_type, timestep_spacing=spacing, steps_offset=offset
    )
    steps = steps_like(scheduler, 8, 1.0)
    sample, prediction = torch.randn(2, 8, 2, 4, 4, generator=torch.Generator().manual_seed(offset))
    mean, std = steps.gaussian(sample, prediction, torch.arange(8))
    read = steps.read_by_network(sample, torch.arange(8))
    clean = steps.clean(sample, prediction, torch.arange(8))
    for step, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(sample[step], timestep)
        noise = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(step))
        told = scheduler.step(prediction[step], timestep, sample[step], torch.Generator().manual_seed(step))
        torch.testing.assert_close(read[step], scaled, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(mean[step] + std[step] * noise, told.prev_sample, rtol=2e-6, atol=2e-5)
        torch.testing.assert_close(clean[step], told.pred_original_sample, rtol=2e-6, atol=2e-5)


def test_without_noise_it_is_eulers_step_of_the_ode() -> None:
    scheduler = EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="leading")
    steps = steps_like(scheduler, 6, 0.0)
    sample, prediction = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    mean, std = steps.gaussian(sample, prediction, torch.arange(6))
    assert not std.any()
    for step, timestep in enumerate(scheduler.timesteps):
        expected = scheduler.step(prediction[step], timestep, sample[step]).prev_sample
        torch.testing.assert_close(mean[step], expected, rtol=2e-6, atol=2e-5)


def test_the_last_step_has_no_density_and_weights_are_those_of_unit_variance_latents() -> None:
    steps = steps_like(EulerAncestralDiscreteScheduler(**SCHEDULE), 5, 1.0)
    assert steps.stochastic.tolist() == [0, 1, 2, 3]
    # Seen at unit variance a step's noise is part of 1, however large the sampler's own latents are.
    assert steps.std[0] > 1
    assert steps.scale is not None
    unit = steps.std[:-1] * steps.scale[1:]
    torch.testing.assert_close(steps.variance_weights[:-1], unit**2 / (unit**2).mean())
    assert unit.max() < 1


def test_a_prediction_type_that_the_sampler_does_not_know_is_refused() -> None:
    with pytest.raises(SettingsError, match="does not know sample prediction"):
        steps_of(torch.zeros(1), torch.tensor([1.0, 0.0]), 1.0, eta=1.0, prediction_type="sample")
