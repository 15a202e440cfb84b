"""DDPO as one process does it with diffusers alone: the order of work of ddpo-pytorch (kvablack), in code of our own.

Each batch of prompts is tokenised and encoded; images are drawn under `no_grad` and handed to a pool of two threads for
their rewards, which are collected when all are drawn; each sample's steps are shuffled, and each step of each batch is
one micro-batch of the update. Noise and the order of steps are given, so that another system can do the same work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Reward = Callable[[Any, list[str]], Any]


@dataclass(frozen=True, slots=True)
class PlainSettings:
    """What the loop needs to know."""

    steps: int
    guidance_scale: float
    eta: float
    learning_rate: float
    clip_range: float
    advantage_clip: float
    max_gradient_norm: float
    adam_epsilon: float


@dataclass(frozen=True, slots=True)
class Work:
    """One batch of an epoch: its prompts, their noise (B, 1 + T, C, h, w), the order of steps (T, B), its update."""

    prompts: list[str]
    noise: Tensor
    order: Tensor
    update: int


@dataclass(frozen=True, slots=True)
class Seconds:
    """Where an epoch's time went."""

    sampling: float
    reward: float
    update: float

    @property
    def total(self) -> float:
        return self.sampling + self.reward + self.update


def step_with_log_prob(
    scheduler: Any, predicted: Tensor, timestep: Tensor, sample: Tensor, eta: float, noise: Tensor | None, after: Any
) -> tuple[Tensor, Tensor]:
    """(next latents, log-probability (B,)) of one DDIM step; `after` are the next latents where they are known."""
    previous = timestep - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    alphas = scheduler.alphas_cumprod.to(sample.device)
    shape = (-1, 1, 1, 1)
    alpha = alphas.gather(0, timestep).view(shape)
    inside = previous.clamp(0, scheduler.config.num_train_timesteps - 1)
    alpha_previous = torch.where(previous >= 0, alphas.gather(0, inside), scheduler.final_alpha_cumprod).view(shape)
    clean = (sample - (1 - alpha).sqrt() * predicted) / alpha.sqrt()
    variance = (1 - alpha_previous) / (1 - alpha) * (1 - alpha / alpha_previous)
    std = eta * variance.sqrt()
    mean = alpha_previous.sqrt() * clean + (1 - alpha_previous - std**2).sqrt() * predicted
    if after is None:
        after = mean + std * noise
    log_prob = (
        -((after.detach() - mean) ** 2) / (2 * std**2) - torch.log(std) - torch.log(torch.sqrt(2 * torch.tensor(np.pi)))
    )
    return after, log_prob.mean(dim=tuple(range(1, log_prob.ndim)))


class PlainDdpo:
    """A pipeline whose UNet has a trainable adapter, and the optimiser of that."""

    def __init__(self, pipe: Any, scheduler: Any, settings: PlainSettings) -> None:
        self.pipe, self.scheduler, self.settings = pipe, scheduler, settings
        self.unet = pipe.unet
        self.parameters = [parameter for parameter in self.unet.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, eps=settings.adam_epsilon, weight_decay=0.0
        )
        self.pool = ThreadPoolExecutor(2)
        self.negative = self.encode([""])
        scheduler.set_timesteps(settings.steps, device=self.unet.device)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        tokenizer = self.pipe.tokenizer
        ids = tokenizer(
            list(prompts),
            return_tensors="pt",
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
        ).input_ids
        embedded: Tensor = self.pipe.text_encoder(ids.to(self.unet.device))[0]
        return embedded

    def predict(self, latents: Tensor, timesteps: Tensor, embeds: Tensor) -> Tensor:
        scale, dtype = self.settings.guidance_scale, embeds.dtype
        if scale == 1:
            return self.unet(latents.to(dtype), timesteps, embeds).sample.float()
        negative, read = self.negative.repeat(len(latents), 1, 1), torch.cat([latents] * 2).to(dtype)
        both = self.unet(read, torch.cat([timesteps] * 2), torch.cat([negative, embeds])).sample.float()
        without, with_text = both.chunk(2)
        return without + scale * (with_text - without)

    @torch.no_grad()
    def draw(self, work: Work) -> dict[str, Any]:
        embeds = self.encode(work.prompts)
        latents = work.noise[:, 0]
        path, log_probs = [latents], []
        for number, timestep in enumerate(self.scheduler.timesteps):
            timesteps = timestep.repeat(len(latents))
            predicted = self.predict(latents, timesteps, embeds)
            latents, log_prob = step_with_log_prob(
                self.scheduler, predicted, timesteps, latents, self.settings.eta, work.noise[:, 1 + number], None
            )
            path.append(latents)
            log_probs.append(log_prob)
        vae = self.pipe.vae
        pixels = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
        images = self.pipe.image_processor.postprocess(pixels, output_type="pt", do_denormalize=[True] * len(pixels))
        uint8 = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
        return {
            "embeds": embeds,
            "latents": torch.stack(path, dim=1),
            "log_probs": torch.stack(log_probs, dim=1),
            "rewards": uint8,
        }

    def epoch(self, batches: Sequence[Work], updates: Sequence[int], reward: Reward) -> Seconds:
        """Draws, scores and learns from one epoch's batches, in this order of updates."""
        began = time.perf_counter()
        samples = []
        for work in batches:
            sample = self.draw(work)
            sample["rewards"] = self.pool.submit(reward, sample["rewards"], work.prompts)
            time.sleep(0)
            samples.append(sample)
        drawn = time.perf_counter()
        rewards = np.concatenate([sample["rewards"].result() for sample in samples]).astype(np.float64)
        scored = time.perf_counter()
        owners = np.array([prompt for work in batches for prompt in work.prompts])
        advantages = np.empty_like(rewards)
        for prompt in np.unique(owners):
            own = rewards[owners == prompt]
            advantages[owners == prompt] = (own - own.mean()) / (own.std() + 1e-6)
        advantages = np.clip(advantages, -self.settings.advantage_clip, self.settings.advantage_clip)
        parts = np.split(advantages, np.cumsum([len(work.prompts) for work in batches])[:-1])
        for update in updates:
            self.update(
                [(work, *rest) for work, *rest in zip(batches, samples, parts, strict=True) if work.update == update]
            )
        if self.unet.device.type == "cuda":
            torch.cuda.synchronize()
        return Seconds(drawn - began, scored - drawn, time.perf_counter() - scored)

    def update(self, members: Sequence[tuple[Work, dict[str, Any], Any]]) -> None:
        micro_batches = sum(len(work.order) for work, _, _ in members)
        for work, sample, advantage in members:
            rows = torch.arange(len(work.prompts))
            advantages = torch.from_numpy(advantage).float().to(self.unet.device)
            for index in work.order:
                timesteps = self.scheduler.timesteps[index]
                latents, after = sample["latents"][rows, index], sample["latents"][rows, index + 1]
                predicted = self.predict(latents, timesteps, sample["embeds"])
                _, log_prob = step_with_log_prob(
                    self.scheduler, predicted, timesteps, latents, self.settings.eta, None, after
                )
                ratio = torch.exp(log_prob - sample["log_probs"][rows, index])
                low, high = 1 - self.settings.clip_range, 1 + self.settings.clip_range
                loss = torch.mean(torch.maximum(-advantages * ratio, -advantages * torch.clamp(ratio, low, high)))
                (loss / micro_batches).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
