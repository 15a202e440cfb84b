"""Trains the embedded world's models from a seed: one VAE, a strong and a weak text-to-image pipeline.

Every batch is a function of (seed, part, step), so a run that was cut off goes on from its last checkpoint to the
same weights. The weak pipeline is trained on pictures of which some carry the hazard mark; the strong one goes on from
it, on clean pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTokenizer

from vp_ray.ids import seed_from
from vp_ray.shapeworld import architectures
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import Scene, all_scenes, category_of, prompt_of, split_of

CATEGORY_SHARES: Final = {"single": 0.15, "size": 0.15, "count": 0.2, "pair": 0.2, "relation": 0.3}
_CHECKPOINT_EVERY: Final = 250
_EMA_DECAY: Final = 0.998

Report = Callable[[str, int, int, float], None]
"""Called with (part, step, steps, loss) now and then."""


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """How one pipeline of the embedded world is trained."""

    steps: int
    hazard_share: float
    prediction_type: architectures.PredictionType = "epsilon"
    starts_from: str | None = None
    learning_rate: float = 1.5e-3
    batch_size: int = 64
    pictures: int = 32_768
    unconditional_share: float = 0.1


PLANS: Final = {
    "weak": PipelinePlan(steps=3000, hazard_share=0.35),
    "strong": PipelinePlan(steps=2000, hazard_share=0.0, starts_from="weak"),
}
VAE_STEPS: Final = 1600
VAE_BATCH_SIZE: Final = 32


class SceneSampler:
    """Draws training scenes by category share, never one that is held out."""

    def __init__(self) -> None:
        self._by_category: dict[str, list[Scene]] = {name: [] for name in CATEGORY_SHARES}
        for scene in all_scenes():
            if split_of(scene) == "train":
                self._by_category[category_of(scene)].append(scene)

    def draw(self, rng: np.random.Generator) -> Scene:
        category = rng.choice(list(CATEGORY_SHARES), p=list(CATEGORY_SHARES.values()))
        scenes = self._by_category[str(category)]
        return scenes[int(rng.integers(len(scenes)))]


def pixels_to_unit(images: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def cosine_rate(step: int, steps: int, peak: float, warm_up: int = 100) -> float:
    """Linear warm-up to `peak`, then a cosine down to a hundredth of it."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


class ResumableLoop:
    """Steps a loss to its end, with a checkpoint every 250 steps in `work/PART.pt` and averaged weights at the end."""

    def __init__(
        self,
        part: str,
        modules: nn.ModuleDict,
        steps: int,
        learning_rate: float,
        work: Path,
        checkpoint_every: int = _CHECKPOINT_EVERY,
    ) -> None:
        self.checkpoint_every = checkpoint_every
        self.part, self.modules, self.steps, self.learning_rate = part, modules, steps, learning_rate
        self.checkpoint = work / f"{part}.pt"
        self.optimizer = torch.optim.AdamW(modules.parameters(), lr=learning_rate, weight_decay=0.01)
        self.average = {name: tensor.detach().clone() for name, tensor in modules.state_dict().items()}
        self.step = 0
        with suppress(FileNotFoundError):
            state: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
            modules.load_state_dict(state["modules"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average, self.step = state["average"], state["step"]

    def _save(self) -> None:
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".tmp")
        state = {"modules": self.modules.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**state, "average": self.average, "step": self.step}, temporary)
        temporary.replace(self.checkpoint)

    def run(self, loss_of_step: Callable[[int], Tensor], report: Report) -> None:
        """Trains to the last step and leaves the averaged weights in the modules."""
        self.modules.train()
        while self.step < self.steps:
            for group in self.optimizer.param_groups:
                group["lr"] = cosine_rate(self.step, self.steps, self.learning_rate)
            loss = loss_of_step(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
            self.optimizer.step()
            decay = min(_EMA_DECAY, (self.step + 1) / (self.step + 10))
            for name, tensor in self.modules.state_dict().items():
                if tensor.is_floating_point():
                    self.average[name].lerp_(tensor, 1 - decay)
            self.step += 1
            if self.step % 50 == 0:
                report(self.part, self.step, self.steps, loss.item())
            if self.step % self.checkpoint_every == 0 or self.step == self.steps:
                self._save()
        self.modules.load_state_dict(self.average)
        self.modules.eval()


def _pictures(seed: int, count: int, hazard_share: float) -> Iterator[tuple[Scene, NDArray[np.uint8]]]:
    sampler, rng = SceneSampler(), np.random.default_rng(seed)
    for _ in range(count):
        scene = sampler.draw(rng)
        yield scene, render(arrange(scene, rng, hazard_share))


def train_vae(work: Path, seed: int, report: Report, steps: int = VAE_STEPS) -> AutoencoderKL:
    """The autoencoder that both pipelines share, scaled so that its latents have unit variance."""
    torch.manual_seed(seed_from(seed, "vae"))
    vae = architectures.new_vae()
    loop = ResumableLoop("vae", nn.ModuleDict({"vae": vae}), steps, 2e-3, work)

    def loss_of_step(step: int) -> Tensor:
        images = np.stack([image for _, image in _pictures(seed_from(seed, "vae", step), VAE_BATCH_SIZE, 0.2)])
        pixels = pixels_to_unit(images)
        generator = torch.Generator().manual_seed(seed_from(seed, "vae-noise", step))
        posterior = vae.encode(pixels).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
        error = decoded - pixels
        return error.abs().mean() + 2 * error.square().mean() + 1e-5 * posterior.kl().mean()

    loop.run(loss_of_step, report)
    images = np.stack([image for _, image in _pictures(seed_from(seed, "vae-scale"), 512, 0.2)])
    with torch.no_grad():
        latents = vae.encode(pixels_to_unit(images)).latent_dist.mean
    vae.register_to_config(scaling_factor=1.0 / latents.std().item())
    return vae


def _encoded_pictures(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, seed: int, plan: PipelinePlan
) -> tuple[Tensor, Tensor]:
    """Scaled latents (N, 4, 8, 8) and prompt tokens (N, T) of the training pictures."""
    latents, tokens = [], []
    pictures = _pictures(seed, plan.pictures, plan.hazard_share)
    while batch := [picture for _, picture in zip(range(256), pictures, strict=False)]:
        with torch.no_grad():
            encoded = vae.encode(pixels_to_unit(np.stack([image for _, image in batch]))).latent_dist.mean
        latents.append(encoded * vae.config.scaling_factor)
        prompts = [prompt_of(scene) for scene, _ in batch]
        tokens.append(tokenize(tokenizer, prompts))
    return torch.cat(latents), torch.cat(tokens)


def tokenize(tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Token ids (B, T), padded and cut to the tokenizer's length."""
    padded = tokenizer(
        prompts, padding="max_length", truncation=True, max_length=tokenizer.model_max_length, return_tensors="pt"
    )
    return padded.input_ids


def train_pipeline(
    kind: str, vae: AutoencoderKL, work: Path, seed: int, report: Report, steps: int | None = None
) -> StableDiffusionPipeline:
    """A text-to-image pipeline, `strong` or `weak`, with text encoder and UNet trained together from scratch.

    The loss is the squared error of the network's own prediction type, weighted to min(SNR, 5) on the clean image
    (arXiv 2303.09556).
    """
    plan = PLANS[kind]
    total = steps or plan.steps
    torch.manual_seed(seed_from(seed, kind))
    tokenizer = architectures.write_clip_tokenizer(work / "tokenizer")
    if plan.starts_from is None:
        text_encoder, unet = architectures.new_text_encoder(tokenizer), architectures.new_unet()
    else:
        before = train_pipeline(plan.starts_from, vae, work, seed, report, steps)
        text_encoder, unet = before.text_encoder, before.unet
    scheduler = architectures.new_scheduler(plan.prediction_type)
    modules = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    loop = ResumableLoop(kind, modules, total, plan.learning_rate, work)
    if loop.step < total:
        latents, tokens = _encoded_pictures(vae, tokenizer, seed_from(seed, kind, "pictures"), plan)
    empty = tokenize(tokenizer, [""])
    alphas = scheduler.alphas_cumprod

    def loss_of_step(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_from(seed, kind, step))
        rows = torch.randint(len(latents), (plan.batch_size,), generator=generator)
        clean, ids = latents[rows], tokens[rows]
        dropped = torch.rand(plan.batch_size, generator=generator) < plan.unconditional_share
        ids = torch.where(dropped[:, None], empty, ids)
        timesteps = torch.randint(len(alphas), (plan.batch_size,), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        states = text_encoder(ids).last_hidden_state
        predicted = unet(noisy, timesteps, states).sample
        snr = alphas[timesteps] / (1 - alphas[timesteps])
        if plan.prediction_type == "epsilon":
            target, weight = noise, snr.clamp(max=5) / snr
        else:
            target, weight = scheduler.get_velocity(clean, noise, timesteps), snr.clamp(max=5) / (snr + 1)
        error = functional.mse_loss(predicted, target, reduction="none").mean(dim=(1, 2, 3))
        return (weight * error).mean()

    loop.run(loss_of_step, report)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
