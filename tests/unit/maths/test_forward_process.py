from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from vp_ray.maths.forward_process import ForwardProcess, of_flow, of_noise_schedule

CLEAN, NOISE = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def process_of(prediction_type: Any) -> tuple[DDPMScheduler, ForwardProcess]:
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return scheduler, of_noise_schedule(scheduler.alphas_cumprod, prediction_type)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_noise_is_added_and_predicted_as_diffusers_trains(prediction_type: str) -> None:
    scheduler, process = process_of(prediction_type)
    index = torch.tensor([0, 250, 700, 999])
    noised, target = process.noised(CLEAN, NOISE, index), process.target(CLEAN, NOISE, index)
    torch.testing.assert_close(noised, scheduler.add_noise(CLEAN, NOISE, index), rtol=1e-5, atol=1e-6)
    expected = {"epsilon": NOISE, "sample": CLEAN, "v_prediction": scheduler.get_velocity(CLEAN, NOISE, index)}
    torch.testing.assert_close(target, expected[prediction_type], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(process.clean(noised, target, index), CLEAN, rtol=1e-4, atol=1e-4)


def test_a_flow_goes_in_a_straight_line_at_a_velocity_that_is_told() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    process = of_flow(scheduler.timesteps, scheduler.sigmas)
    index = torch.tensor([0, 250, 700, 999])
    noised = process.noised(CLEAN, NOISE, index)
    expected = scheduler.scale_noise(CLEAN, scheduler.timesteps[index], NOISE)
    torch.testing.assert_close(noised, expected, rtol=1e-5, atol=1e-6)
    target = process.target(CLEAN, NOISE, index)
    torch.testing.assert_close(target, NOISE - CLEAN)
    torch.testing.assert_close(process.clean(noised, target, index), CLEAN, rtol=1e-6, atol=1e-6)


def test_a_level_without_signal_is_left_out_where_noise_says_nothing_of_the_picture() -> None:
    alphas = torch.tensor([0.9, 0.5, 0.0])
    assert len(of_noise_schedule(alphas, "epsilon")) == 2
    assert len(of_noise_schedule(alphas, "v_prediction")) == 3
