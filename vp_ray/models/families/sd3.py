"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206): a transformer that predicts the flow from noise to picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from torch import Tensor

from vp_ray.models.families.base import Conditions, PipelineParts, cut_by_all, latent_sides

_T5_TOKENS: Final = 256
"""What diffusers' pipeline gives the T5 encoder."""


def dynamic_shift(scheduler: Any, tokens: int, max_shift: float) -> float:
    """mu (arXiv 2403.03206, section 5.3.2) for an image of so many tokens: linear between the scheduler's two ends."""
    config = scheduler.config
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    first, last = config.get("base_shift", 0.5), config.get("max_shift", max_shift)
    return first + (last - first) * (tokens - low) / (high - low)


class StableDiffusion3(PipelineParts):
    """Parts of a `StableDiffusion3Pipeline`."""

    network_part = "transformer"

    def latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """(C, h, w) for an image of H x W pixels."""
        config, factor = self.pipe.transformer.config, self.pipe.vae_scale_factor
        own = config.sample_size * factor
        return (config.in_channels, *latent_sides(height, width, (own, own), factor * config.patch_size, factor))

    def encode(self, prompts: Sequence[str], negative_prompt: str, scales: Tensor, latents: Tensor) -> Conditions:
        """All text encoders' states side by side, and the two CLIP encoders' pooled states."""
        guided = bool((scales > 1).any())
        states, negative_states, pooled, negative_pooled = self.pipe.encode_prompt(
            prompt=list(prompts),
            prompt_2=None,
            prompt_3=None,
            device=latents.device,
            do_classifier_free_guidance=guided,
            negative_prompt=[negative_prompt] * len(prompts),
        )
        positive = {"encoder_hidden_states": states, "pooled_projections": pooled}
        negative = {"encoder_hidden_states": negative_states, "pooled_projections": negative_pooled}
        return Conditions(positive, negative if guided else None)

    def timesteps(self, steps: int, latents: Tensor) -> Tensor:
        """The scheduler's timesteps (T,), shifted by the image's size where the model says so."""
        options = {}
        if self.scheduler.config.get("use_dynamic_shifting", None):
            patch = self.pipe.transformer.config.patch_size
            tokens = (latents.shape[2] // patch) * (latents.shape[3] // patch)
            options["mu"] = dynamic_shift(self.scheduler, tokens, 1.16)
        self.scheduler.set_timesteps(steps, device=latents.device, **options)
        return self.scheduler.timesteps

    def predict(self, latents: Tensor, timestep: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The transformer's output."""
        return self.pipe.transformer(
            hidden_states=latents, timestep=timestep.expand(len(latents)), **inputs, return_dict=False
        )[0]

    def truncated(self, prompt: str) -> bool:
        """Whether the prompt is longer than every text encoder takes: CLIP's 77 tokens, T5's 256 where it is there."""
        pipe = self.pipe
        limits = [(one, pipe.tokenizer_max_length) for one in (pipe.tokenizer, pipe.tokenizer_2) if one is not None]
        if pipe.tokenizer_3 is not None and pipe.text_encoder_3 is not None:
            limits.append((pipe.tokenizer_3, _T5_TOKENS))
        return cut_by_all(prompt, limits)
