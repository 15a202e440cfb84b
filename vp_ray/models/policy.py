"""A Stable Diffusion model as a policy: it draws images with the log-probability of every step, and replays them.

The module that samples is the module that trains, called at the same batch shape with the same guidance, and latents
stay float32; so with unchanged weights a replayed log-probability equals the sampled one bitwise.

Letters of shapes: B samples, T steps, C, h and w of latents, D = C h w, L tokens, E their width, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor, nn

from vp_ray.errors import CheckpointError
from vp_ray.maths import gaussian
from vp_ray.maths.ddim import DdimSteps, steps_of
from vp_ray.models.config import GeneratorSettings, LoraSettings
from vp_ray.models.loading import load_pipeline
from vp_ray.models.lora import add_lora, save_lora, without_lora
from vp_ray.protocols import Pixels

Dtype = Literal["float32", "float16", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]

_CACHED_PROMPTS = 4096


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What one batch went through from noise to picture, and all that a replay needs."""

    latents: Tensor
    """(B, T + 1, C, h, w) float32: x_T first, x_0 last."""
    log_probs: Tensor
    """(B, T) log-probability over D of every step; NaN at steps that have no density."""
    prompt_embeds: Tensor
    """(B, L, E)."""
    steps: DdimSteps
    guidance_scale: float

    @property
    def final(self) -> Tensor:
        """(B, C, h, w) latents of the pictures."""
        return self.latents[:, -1]


def draw_noise(seeds: Sequence[int], steps: int, shape: tuple[int, int, int]) -> Tensor:
    """(B, 1 + steps, C, h, w) standard normal on the CPU, each row fixed by its own seed."""
    rows = [torch.randn(1 + steps, *shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)


class DiffusionPolicy:
    """SD 1.x or 2.x with a trainable low-rank adapter on its UNet, sampled by DDIM.

    `network` is what is called in a forward pass: the UNet, or the engine's wrapper around it once there is one.
    """

    def __init__(self, pipe: StableDiffusionPipeline, lora: LoraSettings, seed: int = 0) -> None:
        self.pipe: Any = pipe
        self.unet: Any = pipe.unet
        for module in (pipe.vae, pipe.text_encoder):
            module.requires_grad_(False).eval()
        add_lora(self.unet, lora, seed)
        # In eval mode a UNet that has dropout replays what it sampled.
        self.unet.eval()
        self.network: nn.Module = self.unet
        # Latents are not pixels: clipping them to -1..1, which is DDIMScheduler's default, would cut the picture.
        self._scheduler: Any = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, thresholding=False)
        self._embeds: dict[str, Tensor] = {}

    @classmethod
    def from_pretrained(
        cls, source: str, lora: LoraSettings, dtype: Dtype = "float32", seed: int = 0, device: Device = "auto"
    ) -> DiffusionPolicy:
        """The policy at its start; raises `CheckpointError` when the source is no Stable Diffusion pipeline."""
        pipe = load_pipeline(GeneratorSettings(name="policy", source=source, dtype=dtype, device=device))
        if not isinstance(pipe, StableDiffusionPipeline):
            raise CheckpointError(
                f"a {type(pipe).__name__} cannot be trained", "Give a Stable Diffusion 1.x or 2.x model.", source
            )
        return cls(pipe, lora, seed)

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return self.unet.device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) at the model's own image size."""
        side = self.unet.config.sample_size
        return (self.unet.config.in_channels, side, side)

    @property
    def dimensions(self) -> int:
        """D, the number of values of one latent."""
        channels, height, width = self.latent_shape
        return channels * height * width

    def steps(self, count: int, eta: float) -> DdimSteps:
        """The model's DDIM steps, as `DDIMScheduler.set_timesteps(count)` places them."""
        self._scheduler.set_timesteps(count)
        config = self._scheduler.config
        steps = steps_of(
            self._scheduler.alphas_cumprod,
            self._scheduler.final_alpha_cumprod,
            self._scheduler.timesteps,
            config.num_train_timesteps // count,
            eta=eta,
            prediction_type=config.prediction_type,
        )
        tables = (steps.timesteps, steps.of_sample, steps.of_prediction, steps.std)
        return DdimSteps(*(table.to(self.device) for table in tables))

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """(B, L, E) text embeddings; each prompt is encoded alone, so that its embedding depends on nothing else."""
        for prompt in prompts:
            if prompt not in self._embeds:
                if len(self._embeds) >= _CACHED_PROMPTS:
                    del self._embeds[next(iter(self._embeds))]
                self._embeds[prompt], _ = self.pipe.encode_prompt(prompt, self.device, 1, False)
        return torch.cat([self._embeds[prompt] for prompt in prompts])

    def _predict(self, latents: Tensor, timesteps: Tensor, states: Tensor, guidance_scale: float) -> Tensor:
        if guidance_scale == 1:
            return self.network(latents.to(states.dtype), timesteps, states, return_dict=False)[0].float()
        negative = self.embed([""]).expand_as(states)
        doubled = torch.cat([latents, latents]).to(states.dtype)
        predicted = self.network(
            doubled, torch.cat([timesteps, timesteps]), torch.cat([negative, states]), return_dict=False
        )[0].float()
        without, with_text = predicted.chunk(2)
        return without + guidance_scale * (with_text - without)

    @torch.no_grad()
    def sample(self, prompt_embeds: Tensor, noise: Tensor, steps: DdimSteps, guidance_scale: float = 1.0) -> Trajectory:
        """Draws B images; `noise` (B, 1 + T, C, h, w) holds x_T and what each step adds. Guidance 1 is no guidance."""
        noise = noise.to(self.device)
        latents = noise[:, 0]
        path, log_probs = [latents], []
        stochastic = set(steps.stochastic.tolist())
        for step in range(len(steps)):
            index = torch.full((len(latents),), step, device=self.device)
            predicted = self._predict(latents, steps.timesteps[index], prompt_embeds, guidance_scale)
            mean, std = steps.gaussian(latents, predicted, index)
            if step in stochastic:
                latents = mean + std * noise[:, 1 + step]
                log_probs.append(gaussian.log_prob_mean(latents, mean, std))
            else:
                latents = mean
                log_probs.append(torch.full_like(mean[:, 0, 0, 0], torch.nan))
            path.append(latents)
        return Trajectory(torch.stack(path, 1), torch.stack(log_probs, 1), prompt_embeds, steps, guidance_scale)

    def replay(self, trajectory: Trajectory, index: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, std) of the next latents at step `index` (B,) of every sample, from the present weights."""
        steps = trajectory.steps
        latents = trajectory.latents[torch.arange(len(index), device=index.device), index]
        predicted = self._predict(latents, steps.timesteps[index], trajectory.prompt_embeds, trajectory.guidance_scale)
        return steps.gaussian(latents, predicted, index)

    def log_prob(self, trajectory: Trajectory, index: Tensor) -> Tensor:
        """(B,) log-probability over D of what step `index` (B,) of every sample did, from the present weights."""
        mean, std = self.replay(trajectory, index)
        return gaussian.log_prob_mean(next_latents(trajectory, index), mean, std)

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """The policy as it was before training, while the context lasts."""
        with without_lora(self.unet):
            yield

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Pixels:
        """(B, H, W, 3) uint8 images of latents (B, C, h, w)."""
        vae = self.pipe.vae
        pixels = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample
        unit = (pixels.float() / 2 + 0.5).clamp(0, 1)
        return (unit.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()

    def save_adapter(self, folder: Path) -> None:
        """Writes the adapter so that `pipe.load_lora_weights(folder)` loads it."""
        save_lora(self.unet, folder)


def next_latents(trajectory: Trajectory, index: Tensor) -> Tensor:
    """(B, C, h, w) latents that step `index` (B,) of every sample led to."""
    return trajectory.latents[torch.arange(len(index), device=index.device), index + 1]
