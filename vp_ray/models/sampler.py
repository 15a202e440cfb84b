"""Denoising of a batch whose rows have seeds and guidance scales of their own, for every family.

Each row's result equals what diffusers' own pipeline draws for it alone (tests hold them within 1e-5 in float32).
Letters of shapes: B rows, C latent channels, h and w latent sides.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vp_ray.models.families.base import Conditions, Family, stacked


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One image to draw."""

    prompt: str
    seed: int
    guidance_scale: float
    """Scale of classifier-free guidance (arXiv 2207.12598, equation 6 as 1 + w); 1 and less is none."""


def noise_of(requests: Sequence[ImageRequest], shape: tuple[int, int, int]) -> tuple[Tensor, list[torch.Generator]]:
    """(B, C, h, w) float32 standard normal, each row from its own generator, and the generators for later draws.

    Drawn on the CPU, so that a seed means the same noise on every device.
    """
    generators = [torch.Generator().manual_seed(request.seed) for request in requests]
    return torch.cat([torch.randn((1, *shape), generator=generator) for generator in generators]), generators


def guided(family: Family, latents: Tensor, timestep: Tensor, conditions: Conditions, scales: Tensor) -> Tensor:
    """The network's float32 output (B, C, h, w), with classifier-free guidance of each row's own scale (B,).

    A scale of 1 or less is no guidance; both halves of a guided batch go through the network together. `timestep` is
    that of all rows () or of each (B,).
    """
    dtype = next(iter(conditions.positive.values())).dtype
    if conditions.negative is None:
        return family.predict(latents.to(dtype), timestep, conditions.positive).float()
    inputs = stacked(conditions.negative, conditions.positive)
    both = torch.cat([timestep, timestep]) if timestep.ndim else timestep
    output = family.predict(torch.cat([latents, latents]).to(dtype), both, inputs).float()
    without, with_text = output.chunk(2)
    return without + scales[:, None, None, None] * (with_text - without)


@torch.no_grad()
def denoise(
    family: Family,
    requests: Sequence[ImageRequest],
    steps: int,
    size: tuple[int | None, int | None] = (None, None),
    negative_prompt: str = "",
    refiner: tuple[Family, float] | None = None,
) -> Tensor:
    """Final latents (B, C, h, w), float32, of images of `size` (height, width) in pixels.

    With a `refiner` and the share of the schedule at which it takes over, the rest of the steps are its own.
    """
    device = next(family.network.parameters()).device
    noise, generators = noise_of(requests, family.latent_shape(*size))
    latents = noise.to(device)
    scales = torch.tensor([max(1.0, request.guidance_scale) for request in requests], device=device)
    prompts = [request.prompt for request in requests]
    timesteps = family.timesteps(steps, latents)
    # Flow schedulers start from plain noise and have no such scale.
    latents = latents * getattr(family.scheduler, "init_noise_sigma", 1.0)
    cut = None if refiner is None else _cut_off(family.scheduler, refiner[1])
    conditions = family.encode(prompts, negative_prompt, scales, latents)
    chosen = timesteps if cut is None else timesteps[timesteps >= cut]
    latents = _walk(family, latents, chosen, 0, conditions, scales, generators)
    if refiner is None or cut is None:
        return latents
    second = refiner[0]
    timesteps = second.timesteps(steps, latents)
    first = int((timesteps >= cut).sum())
    conditions = second.encode(prompts, negative_prompt, scales, latents)
    return _walk(second, latents, timesteps[first:], first, conditions, scales, generators)


def _cut_off(scheduler: Any, share: float) -> int:
    """The training timestep at which so large a share of the schedule is done."""
    count = scheduler.config.num_train_timesteps
    return round(count - share * count)


def _walk(
    family: Family,
    latents: Tensor,
    timesteps: Tensor,
    first: int,
    conditions: Conditions,
    scales: Tensor,
    generators: list[torch.Generator],
) -> Tensor:
    scheduler = family.scheduler
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    takes = inspect.signature(scheduler.step).parameters
    options: Mapping[str, Any] = {"generator": generators} if "generator" in takes else {}
    for timestep in timesteps:
        scaled = scheduler.scale_model_input(latents, timestep) if hasattr(scheduler, "scale_model_input") else latents
        output = guided(family, scaled, timestep, conditions, scales)
        latents = scheduler.step(output, timestep, latents, **options, return_dict=False)[0]
    return latents
