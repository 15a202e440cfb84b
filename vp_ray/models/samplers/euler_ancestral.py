"""Euler's ancestral sampler for models with a noise schedule; see `vp_ray.maths.euler_ancestral`."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

from vp_ray.maths import euler_ancestral
from vp_ray.maths.steps import Steps
from vp_ray.models.families.base import Family
from vp_ray.models.loading import scheduler_like
from vp_ray.models.samplers.interface import Sampler


def _scheduler(own: Any) -> Any:
    return scheduler_like(own, "euler_ancestral")


def _steps(family: Family, count: int, eta: float, latents: Tensor) -> Steps:
    timesteps = family.timesteps(count, latents).cpu()
    scheduler = family.scheduler
    return euler_ancestral.steps_of(
        timesteps,
        scheduler.sigmas,
        float(scheduler.init_noise_sigma),
        eta=eta,
        prediction_type=scheduler.config.prediction_type,
    )


EULER_ANCESTRAL: Final = Sampler(_scheduler, _steps)
