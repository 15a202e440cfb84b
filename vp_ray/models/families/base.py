"""What every family of text-to-image models gives the sampler.

Letters of shapes: B rows, C latent channels, h and w latent sides, H and W pixel sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from vp_ray.errors import SettingsError

Inputs = dict[str, Tensor]
"""What the denoising network is told beside latents and time; row b of every tensor belongs to image b."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """A batch of prompts as its model reads them."""

    positive: Inputs
    negative: Inputs | None
    """Those of the negative prompt; None where nothing is guided, or the network takes the scale as an input."""


class Family(Protocol):
    """A pipeline's parts, as the sampler uses them."""

    pipe: Any
    """The diffusers pipeline."""
    network: nn.Module
    """The denoising network, which may be replaced by a wrapper around it."""
    network_part: ClassVar[str]
    """The pipeline's name of the denoising network."""

    @property
    def scheduler(self) -> Any:
        """The pipeline's diffusers scheduler."""
        ...

    def latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """(C, h, w) for an image of H x W pixels, the model's own size where a side is None."""
        ...

    def encode(self, prompts: Sequence[str], negative_prompt: str, scales: Tensor, latents: Tensor) -> Conditions:
        """Conditions of B prompts with guidance scales (B,), for latents (B, C, h, w)."""
        ...

    def timesteps(self, steps: int, latents: Tensor) -> Tensor:
        """Sets the scheduler to so many steps and returns its timesteps (T,)."""
        ...

    def predict(self, latents: Tensor, timestep: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The network's output (B, C, h, w) at one timestep (), or at one of each row (B,)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in -1..1 of final latents (B, C, h, w)."""
        ...

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """(B, C, h, w) float32 latents of pixels (B, 3, H, W) in -1..1, which `decode` turns back into them."""
        ...

    def truncated(self, prompt: str) -> bool:
        """Whether every text encoder cuts this prompt."""
        ...


class PipelineParts:
    """What the families share: the parts of one diffusers pipeline."""

    network_part: ClassVar[str] = "unet"
    """The pipeline's name of its denoising network."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    @property
    def network(self) -> nn.Module:
        """The denoising network."""
        found: nn.Module = getattr(self.pipe, self.network_part)
        return found

    @network.setter
    def network(self, module: nn.Module) -> None:
        setattr(self.pipe, self.network_part, module)

    @property
    def scheduler(self) -> Any:
        """The pipeline's scheduler."""
        return self.pipe.scheduler

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in -1..1."""
        return decoded(self.pipe.vae, latents)

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """(B, C, h, w) float32 latents of pixels (B, 3, H, W) in -1..1."""
        return encoded(self.pipe.vae, pixels)


def stacked(first: Inputs, second: Inputs) -> Inputs:
    """The rows of two batches, one after the other."""
    return {name: torch.cat([first[name], second[name]]) for name in first}


def latent_sides(
    height: int | None, width: int | None, own: tuple[int, int], step: int, factor: int
) -> tuple[int, int]:
    """(h, w) of latents; raises `SettingsError` where a side in pixels is not a multiple of `step`.

    `own` is the model's own (height, width) in pixels, `factor` the VAE's reduction.
    """
    sides = (height or own[0], width or own[1])
    if any(side % step for side in sides):
        raise SettingsError(
            f"an image of {sides[0]} x {sides[1]} pixels does not fit this model",
            f"Set height and width to multiples of {step}.",
        )
    return sides[0] // factor, sides[1] // factor


def decoded(vae: Any, latents: Tensor) -> Tensor:
    """(B, 3, H, W) pixels of latents, with whatever shift, mean and deviation the VAE's configuration states."""
    config = vae.config
    latents = latents.to(vae.dtype)
    mean, std = (getattr(config, f"latents_{name}", None) for name in ("mean", "std"))
    if mean is not None and std is not None:
        shape = (1, -1, 1, 1)
        mean, std = (latents.new_tensor(values).view(shape) for values in (mean, std))
        latents = latents * std / config.scaling_factor + mean
    else:
        latents = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    pixels: Tensor = vae.decode(latents, return_dict=False)[0]
    return pixels


def encoded(vae: Any, pixels: Tensor) -> Tensor:
    """(B, C, h, w) float32 latents of pixels: the mode of what the VAE says of them, from which `decoded` goes back."""
    config = vae.config
    latents: Tensor = vae.encode(pixels.to(vae.dtype)).latent_dist.mode().float()
    mean, std = (getattr(config, f"latents_{name}", None) for name in ("mean", "std"))
    if mean is not None and std is not None:
        mean, std = (latents.new_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        return (latents - mean) * config.scaling_factor / std
    return (latents - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor


def cut_by_all(prompt: str, limits: Sequence[tuple[Any, int]]) -> bool:
    """Whether the prompt has more tokens than the limit of each (tokenizer, limit)."""
    return bool(limits) and all(
        len(tokenizer(prompt, truncation=False, verbose=False).input_ids) > limit for tokenizer, limit in limits
    )
