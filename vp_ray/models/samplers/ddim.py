"""DDIM (arXiv 2010.02502) for models with a noise schedule; see `vp_ray.maths.ddim`."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

from vp_ray.maths import ddim
from vp_ray.maths.steps import Steps
from vp_ray.models.families.base import Family
from vp_ray.models.loading import scheduler_like
from vp_ray.models.samplers.interface import Sampler


def _scheduler(own: Any) -> Any:
    like = scheduler_like(own, "ddim")
    # Latents are not pixels: neither of the two ways of cutting them to a range may be on.
    return type(like).from_config(like.config, clip_sample=False, thresholding=False)


def _steps(family: Family, count: int, eta: float, latents: Tensor) -> Steps:
    timesteps = family.timesteps(count, latents).cpu()
    scheduler = family.scheduler
    return ddim.steps_of(
        scheduler.alphas_cumprod,
        scheduler.final_alpha_cumprod,
        timesteps,
        scheduler.config.num_train_timesteps // count,
        eta=eta,
        prediction_type=scheduler.config.prediction_type,
    )


DDIM: Final = Sampler(_scheduler, _steps)
