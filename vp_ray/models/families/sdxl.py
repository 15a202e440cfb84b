"""Stable Diffusion XL (arXiv 2307.01952), base and refiner: a UNet that also reads pooled text and the image's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from vp_ray.models.families.base import Conditions, Inputs, PipelineParts, cut_by_all, latent_sides

_GOOD: Final = 6.0
_BAD: Final = 2.5
"""Aesthetic scores that the refiner is told for what is wanted and what is not: diffusers' own defaults."""


class StableDiffusionXL(PipelineParts):
    """Parts of a `StableDiffusionXLPipeline`, or of the refiner's `StableDiffusionXLImg2ImgPipeline`."""

    def latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """(C, h, w) for an image of H x W pixels."""
        factor = self.pipe.vae_scale_factor
        own = self.pipe.unet.config.sample_size * factor
        return (self.pipe.unet.config.in_channels, *latent_sides(height, width, (own, own), factor, factor))

    def encode(self, prompts: Sequence[str], negative_prompt: str, scales: Tensor, latents: Tensor) -> Conditions:
        """Both text encoders' states, the second's pooled state, and the image's size as the UNet is told it."""
        guided = bool((scales > 1).any())
        # Without a negative prompt the model's own rule applies: zeros where its configuration says so.
        negatives = [negative_prompt] * len(prompts) if negative_prompt else None
        states, negative_states, pooled, negative_pooled = self.pipe.encode_prompt(
            list(prompts),
            device=latents.device,
            do_classifier_free_guidance=guided,
            negative_prompt=negatives,
        )
        told, negative_told = self._sizes(latents, states, pooled)
        positive = {"encoder_hidden_states": states, "text_embeds": pooled, "time_ids": told}
        negative: Inputs | None = None
        if guided:
            negative = {
                "encoder_hidden_states": negative_states,
                "text_embeds": negative_pooled,
                "time_ids": negative_told,
            }
        return Conditions(positive, negative)

    def _sizes(self, latents: Tensor, states: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 6) original size, crop and target size; (B, 5) with an aesthetic score at the end for the refiner."""
        factor = self.pipe.vae_scale_factor
        size = [latents.shape[2] * factor, latents.shape[3] * factor]
        if getattr(self.pipe.config, "requires_aesthetics_score", False):
            rows = [[*size, 0, 0, _GOOD], [*size, 0, 0, _BAD]]
        else:
            rows = [[*size, 0, 0, *size]] * 2
        told, negative = (torch.tensor([row], dtype=states.dtype, device=pooled.device) for row in rows)
        return told.repeat(len(pooled), 1), negative.repeat(len(pooled), 1)

    def timesteps(self, steps: int, latents: Tensor) -> Tensor:
        """The scheduler's timesteps (T,)."""
        self.scheduler.set_timesteps(steps, device=latents.device)
        return self.scheduler.timesteps

    def predict(self, latents: Tensor, timestep: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The UNet's output."""
        added = {name: inputs[name] for name in ("text_embeds", "time_ids")}
        return self.pipe.unet(
            latents, timestep, inputs["encoder_hidden_states"], added_cond_kwargs=added, return_dict=False
        )[0]

    def truncated(self, prompt: str) -> bool:
        """Whether the prompt has more than both text encoders' 77 tokens."""
        tokenizers = [one for one in (self.pipe.tokenizer, self.pipe.tokenizer_2) if one is not None]
        return cut_by_all(prompt, [(tokenizer, tokenizer.model_max_length) for tokenizer in tokenizers])
