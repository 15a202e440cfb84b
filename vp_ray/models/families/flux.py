"""FLUX.1: a flow transformer on packed latents that reads its guidance scale as an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from vp_ray.models.families.base import Conditions, PipelineParts, cut_by_all, latent_sides
from vp_ray.models.families.sd3 import dynamic_shift

_T5_TOKENS: Final = 512
"""What diffusers' pipeline gives the T5 encoder."""


class Flux(PipelineParts):
    """Parts of a `FluxPipeline`. Each 2 x 2 patch of latents is one token, so sides are multiples of two latents."""

    network_part = "transformer"

    def latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """(C, h, w) for an image of H x W pixels, before packing."""
        factor = self.pipe.vae_scale_factor
        own = self.pipe.default_sample_size * factor
        sides = latent_sides(height, width, (own, own), 2 * factor, factor)
        return (self.pipe.transformer.config.in_channels // 4, *sides)

    def encode(self, prompts: Sequence[str], negative_prompt: str, scales: Tensor, latents: Tensor) -> Conditions:
        """T5's states, CLIP's pooled state, and each row's guidance scale where the model was distilled with one."""
        states, pooled, _ = self.pipe.encode_prompt(prompt=list(prompts), prompt_2=None, device=latents.device)
        inputs = {"encoder_hidden_states": states, "pooled_projections": pooled}
        if self.pipe.transformer.config.guidance_embeds:
            inputs["guidance"] = scales.to(latents.device, torch.float32)
        return Conditions(inputs, None)

    def timesteps(self, steps: int, latents: Tensor) -> Tensor:
        """The scheduler's timesteps (T,), shifted by the image's size."""
        config = self.scheduler.config
        sigmas = None if config.get("use_flow_sigmas", False) else np.linspace(1.0, 1 / steps, steps)
        tokens = (latents.shape[2] // 2) * (latents.shape[3] // 2)
        mu = dynamic_shift(self.scheduler, tokens, 1.15)
        self.scheduler.set_timesteps(steps if sigmas is None else None, device=latents.device, sigmas=sigmas, mu=mu)
        return self.scheduler.timesteps

    def predict(self, latents: Tensor, timestep: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The transformer's output, unpacked."""
        rows, channels, height, width = latents.shape
        states = inputs["encoder_hidden_states"]
        flow = self.pipe.transformer(
            hidden_states=self.pipe._pack_latents(latents, rows, channels, height, width),
            timestep=timestep.expand(rows).to(latents.dtype) / 1000,
            guidance=inputs.get("guidance"),
            pooled_projections=inputs["pooled_projections"],
            encoder_hidden_states=states,
            txt_ids=torch.zeros(states.shape[1], 3, device=latents.device, dtype=states.dtype),
            img_ids=self.pipe._prepare_latent_image_ids(rows, height // 2, width // 2, latents.device, states.dtype),
            return_dict=False,
        )[0]
        factor = self.pipe.vae_scale_factor
        return self.pipe._unpack_latents(flow, height * factor, width * factor, factor)

    def truncated(self, prompt: str) -> bool:
        """Whether the prompt has more than T5's 512 tokens; CLIP's 77 give only the pooled state."""
        return cut_by_all(prompt, [(self.pipe.tokenizer_2, _T5_TOKENS)])
