"""The way from noise to picture as a list of Gaussian steps, which every sampler writes in the same form.

    mean = c_x x + c_p p,    x' = mean + std z,    x0 = k_x x + k_p p

x are the latents, p the network's prediction at x and z standard normal noise. Letters of shapes: B samples, T steps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one sampler: a timestep and the coefficients of its Gaussian each, (T,) float32."""

    timesteps: Tensor
    """What the network is told."""
    of_sample: Tensor
    of_prediction: Tensor
    std: Tensor
    clean_of_sample: Tensor
    clean_of_prediction: Tensor
    scale: Tensor | None = None
    """Factor from this sampler's latents to those that the network reads; None where they are the same."""
    start_std: float = 1.0
    """Standard deviation of the noise that the first step starts from."""

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def stochastic(self) -> Tensor:
        """Indices of the steps that have a density (std > 0); no other step has a log-probability."""
        return self.std.nonzero().flatten()

    @property
    def variance_weights(self) -> Tensor:
        """(T,) variance of each step, in the latents that the network reads, over its mean over stochastic steps."""
        std = self.std
        if self.scale is not None:
            # A step ends at the scale of the next; after the last the latents are a picture.
            std = std * torch.cat([self.scale[1:], torch.ones_like(self.scale[:1])])
        variance = std**2
        return variance / variance[self.stochastic].mean()

    def gaussian(self, sample: Tensor, prediction: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, std) for samples (B, ...) at their steps `index` (B,); std is (B, 1, ...)."""
        shape = (-1, *(1,) * (sample.dim() - 1))
        of_x, of_p, std = (table[index].view(shape) for table in (self.of_sample, self.of_prediction, self.std))
        return of_x * sample + of_p * prediction, std

    def clean(self, sample: Tensor, prediction: Tensor, index: Tensor) -> Tensor:
        """(B, ...) the picture's latents that the prediction at steps `index` (B,) points to."""
        shape = (-1, *(1,) * (sample.dim() - 1))
        of_x, of_p = (table[index].view(shape) for table in (self.clean_of_sample, self.clean_of_prediction))
        return of_x * sample + of_p * prediction

    def read_by_network(self, sample: Tensor, index: Tensor) -> Tensor:
        """(B, ...) samples at steps `index` (B,) as the network reads them."""
        if self.scale is None:
            return sample
        return sample * self.scale[index].view(-1, *(1,) * (sample.dim() - 1))

    def to(self, device: torch.device) -> Steps:
        """The same steps with their tables on a device."""
        tables = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: table.to(device) for name, table in tables.items() if isinstance(table, Tensor)}
        return replace(self, **moved)


def windowed(stochastic: Steps, deterministic: Steps, first: int, last: int) -> Steps:
    """The steps `first` to `last` (counted from 0, both included) of one sampler and all others of its noise-free twin.

    Only steps in the window have a density, so that only these are trained (Flow-GRPO-Fast, MixGRPO arXiv 2507.21802).
    """
    places = torch.arange(len(stochastic), device=stochastic.std.device)
    inside = (places >= first) & (places <= last)
    mixed: dict[str, Any] = {
        name: torch.where(inside, getattr(stochastic, name), getattr(deterministic, name))
        for name in ("of_sample", "of_prediction", "std")
    }
    return replace(stochastic, **mixed)
