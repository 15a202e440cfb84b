"""What every sampler of a policy gives: the scheduler that places its steps, and the steps as Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vp_ray.maths.steps import Steps
from vp_ray.models.families.base import Family


@dataclass(frozen=True, slots=True)
class Sampler:
    """One way from noise to picture."""

    scheduler: Callable[[Any], Any]
    """The diffusers scheduler that places its steps, from the model's own; raises `SettingsError` where the two have
    no schedule in common."""
    steps: Callable[[Family, int, float, Tensor], Steps]
    """`steps(family, count, eta, latents)`: so many steps with noise `eta` for an image of these latents' size, where
    the family has that scheduler. With eta 0 no step has noise."""
