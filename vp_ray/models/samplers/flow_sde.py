"""Flow-GRPO's stochastic sampler (arXiv 2505.05470) for flow models; see `vp_ray.maths.flow`."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

from vp_ray.maths import flow
from vp_ray.maths.steps import Steps
from vp_ray.models.families.base import Family
from vp_ray.models.loading import scheduler_like
from vp_ray.models.samplers.interface import Sampler


def _scheduler(own: Any) -> Any:
    return scheduler_like(own, "flow_euler")


def _steps(family: Family, count: int, eta: float, latents: Tensor) -> Steps:
    timesteps = family.timesteps(count, latents).cpu()
    return flow.steps_of(timesteps, family.scheduler.sigmas.cpu(), noise_level=eta)


FLOW_SDE: Final = Sampler(_scheduler, _steps)
