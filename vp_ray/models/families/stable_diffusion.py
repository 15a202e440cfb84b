"""Stable Diffusion 1.x and 2.x, and models of their shape: a UNet that reads one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from vp_ray.models.families.base import Conditions, PipelineParts, cut_by_all, latent_sides


class StableDiffusion(PipelineParts):
    """Parts of a `StableDiffusionPipeline`."""

    def latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """(C, h, w) for an image of H x W pixels."""
        factor, side = self.pipe.vae_scale_factor, self.pipe.unet.config.sample_size
        own = side if isinstance(side, list | tuple) else (side, side)
        sides = latent_sides(height, width, (own[0] * factor, own[1] * factor), factor, factor)
        return (self.pipe.unet.config.in_channels, *sides)

    def encode(self, prompts: Sequence[str], negative_prompt: str, scales: Tensor, latents: Tensor) -> Conditions:
        """The text encoder's last states of each prompt."""
        guided = bool((scales > 1).any())
        positive, negative = self.pipe.encode_prompt(
            list(prompts), latents.device, 1, guided, negative_prompt=[negative_prompt] * len(prompts)
        )
        return Conditions({"encoder_hidden_states": positive}, {"encoder_hidden_states": negative} if guided else None)

    def timesteps(self, steps: int, latents: Tensor) -> Tensor:
        """The scheduler's timesteps (T,)."""
        self.scheduler.set_timesteps(steps, device=latents.device)
        return self.scheduler.timesteps

    def predict(self, latents: Tensor, timestep: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The UNet's output."""
        return self.pipe.unet(latents, timestep, **inputs, return_dict=False)[0]

    def truncated(self, prompt: str) -> bool:
        """Whether the prompt has more than the text encoder's 77 tokens."""
        return cut_by_all(prompt, [(self.pipe.tokenizer, self.pipe.tokenizer.model_max_length)])
