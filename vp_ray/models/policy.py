"""A text-to-image model of any family as a policy: it draws images with the log-probability of every step, and replays
them.

The module that samples is the module that trains, called at the same batch shape with the same guidance, and latents
stay float32; so with unchanged weights a replayed log-probability equals the sampled one bitwise.

Letters of shapes: B samples, T steps, C, h and w of latents, D = C h w, H and W pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from vp_ray.errors import CheckpointError
from vp_ray.maths import forward_process, gaussian
from vp_ray.maths.forward_process import ForwardProcess
from vp_ray.maths.steps import Steps, windowed
from vp_ray.models.averages import AveragedWeights
from vp_ray.models.config import GeneratorSettings, LoraSettings
from vp_ray.models.families.base import Conditions, Family
from vp_ray.models.loading import family_of, load_pipeline
from vp_ray.models.lora import add_lora, save_lora, without_lora
from vp_ray.models.sampler import guided
from vp_ray.models.samplers.ddim import DDIM
from vp_ray.models.samplers.euler_ancestral import EULER_ANCESTRAL
from vp_ray.models.samplers.flow_sde import FLOW_SDE
from vp_ray.models.samplers.interface import Sampler
from vp_ray.models.text_encoders import PromptCache
from vp_ray.protocols import Pixels

Dtype = Literal["float32", "float16", "bfloat16"]
VaeDtype = Literal["auto", "float32", "same"]
Device = Literal["auto", "cpu", "cuda"]
SamplerName = Literal["ddim", "euler_ancestral", "flow_sde"]

_COMPILED: Final = frozenset(
    {"BasicTransformerBlock", "JointTransformerBlock", "FluxTransformerBlock", "FluxSingleTransformerBlock"}
)
"""Classes of the blocks that `torch.compile` is given: few codes for many blocks, so that it takes minutes."""

SAMPLERS: Final[dict[str, Sampler]] = {"ddim": DDIM, "euler_ancestral": EULER_ANCESTRAL, "flow_sde": FLOW_SDE}


@dataclass(frozen=True, slots=True)
class Prompted:
    """B prompts as the network reads them, with the guidance that they are drawn with: 1 is none."""

    conditions: Conditions
    guidance_scale: float

    @property
    def unguided(self) -> Prompted:
        """The same prompts without classifier-free guidance, for losses on the network's own predictions."""
        return Prompted(replace(self.conditions, negative=None), 1.0)

    def rows(self, index: Tensor) -> Prompted:
        """The prompts at places `index`."""
        positive, negative = self.conditions.positive, self.conditions.negative
        chosen = {name: tensor[index] for name, tensor in positive.items()}
        left = None if negative is None else {name: tensor[index] for name, tensor in negative.items()}
        return Prompted(Conditions(chosen, left), self.guidance_scale)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What one batch went through from noise to picture, and all that a replay needs."""

    latents: Tensor
    """(B, T + 1, C, h, w) float32: x_T first, x_0 last; (B, 1, C, h, w), x_0 alone, where no path was kept."""
    log_probs: Tensor
    """(B, T) log-probability over D of every step, NaN at steps that have no density; (B, 0) without a path."""
    prompted: Prompted
    steps: Steps

    @property
    def final(self) -> Tensor:
        """(B, C, h, w) latents of the pictures."""
        return self.latents[:, -1]


def draw_noise(seeds: Sequence[int], steps: int, shape: tuple[int, int, int]) -> Tensor:
    """(B, 1 + steps, C, h, w) standard normal on the CPU, each row fixed by its own seed."""
    rows = [torch.randn(1 + steps, *shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)


class DiffusionPolicy:
    """A diffusers pipeline whose denoising network is trained, by a low-rank adapter or (`lora` None) as a whole.

    `denoiser` is that network; `network` is what a forward pass calls: the same, or the engine's wrapper around it.
    """

    def __init__(
        self,
        pipe: Any,
        lora: LoraSettings | None,
        seed: int = 0,
        *,
        sampler: SamplerName | None = None,
        size: tuple[int | None, int | None] = (None, None),
        offload_text_encoders: bool = False,
    ) -> None:
        family = family_of(pipe)
        if family is None:
            raise CheckpointError(
                f"a {type(pipe).__name__} cannot be trained",
                "Give a Stable Diffusion (1.x, 2.x, XL, 3) or FLUX model.",
            )
        self.pipe: Any = pipe
        self.family: Family = family
        self.denoiser: Any = family.network
        for module in pipe.components.values():
            if isinstance(module, nn.Module):
                module.requires_grad_(False).eval()
        self.lora = lora
        # In eval mode a network that has dropout replays what it sampled.
        if lora is not None:
            add_lora(self.denoiser, lora, seed)
            self.denoiser.eval()
            self._start: Any = None
        else:
            self._start = copy.deepcopy(self.denoiser)
            self.denoiser.requires_grad_(True)
        self._is_flow = "Flow" in type(pipe.scheduler).__name__
        self.sampler_name: SamplerName = sampler or ("flow_sde" if self._is_flow else "ddim")
        self._sampler = SAMPLERS[self.sampler_name]
        pipe.scheduler = self._sampler.scheduler(pipe.scheduler)
        self.latent_shape: tuple[int, int, int] = family.latent_shape(*size)
        """(C, h, w)."""
        self._reader = PromptCache(family, self.latent_shape, offload_text_encoders)
        self.old: AveragedWeights | None = None
        """The weights that draw images, where these are others than those that are trained."""
        self._compiled = False

    @classmethod
    def from_pretrained(
        cls,
        source: str,
        lora: LoraSettings | None,
        dtype: Dtype = "float32",
        seed: int = 0,
        device: Device = "auto",
        *,
        height: int | None = None,
        width: int | None = None,
        vae_dtype: VaeDtype = "auto",
        vae_tiling: bool = False,
        **options: Any,
    ) -> DiffusionPolicy:
        """The policy at its start; raises `CheckpointError` when the source is of no family that can be trained."""
        settings = GeneratorSettings(
            name="policy",
            source=source,
            dtype=dtype,
            device=device,
            height=height,
            width=width,
            vae_dtype=vae_dtype,
            vae_tiling=vae_tiling,
        )
        return cls(load_pipeline(settings), lora, seed, size=(height, width), **options)

    def compile(self) -> None:
        """Lets `torch.compile` compile the network's repeated blocks, at the first call of each shape.

        Images are from then on drawn by the code that is compiled for training, with its records for gradients: code
        that is compiled without them may round in other places, and then ratios would not begin at 1.
        """
        # A block counts its variants over all sizes in the network, with and without adapter and gradients.
        torch.compiler.config.recompile_limit = 64
        for network in (self.denoiser, self._start):
            for module in network.modules() if network is not None else ():
                if type(module).__name__ in _COMPILED:
                    module.compile(dynamic=False)
        self._compiled = True

    @property
    def network(self) -> nn.Module:
        """What a forward pass calls."""
        return self.family.network

    @network.setter
    def network(self, module: nn.Module) -> None:
        self.family.network = module

    @property
    def device(self) -> torch.device:
        """Where the denoising network is."""
        return self.denoiser.device

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        factor = self.pipe.vae_scale_factor
        return self.latent_shape[1] * factor, self.latent_shape[2] * factor

    @property
    def dimensions(self) -> int:
        """D, the number of values of one latent."""
        channels, height, width = self.latent_shape
        return channels * height * width

    def _one_latent(self) -> Tensor:
        return torch.empty(1, *self.latent_shape, device=self.device)

    def steps(self, count: int, eta: float, window: tuple[int, int] | None = None) -> Steps:
        """So many steps of this policy's sampler, as its scheduler places them, with noise `eta`.

        With a window (first, last), counted from 0, only its steps have noise.
        """
        latents = self._one_latent()
        steps = self._sampler.steps(self.family, count, eta, latents)
        if window is not None:
            steps = windowed(steps, self._sampler.steps(self.family, count, 0.0, latents), *window)
        return steps.to(self.device)

    @cached_property
    def process(self) -> ForwardProcess:
        """The noise levels of the model's own training, for losses on its predictions."""
        scheduler = self.pipe.scheduler
        if self._is_flow:
            count = scheduler.config.num_train_timesteps
            timesteps = self.family.timesteps(count, self._one_latent())
            return forward_process.of_flow(timesteps, scheduler.sigmas[:count].to(self.device))
        alphas = scheduler.alphas_cumprod.to(self.device)
        return forward_process.of_noise_schedule(alphas, scheduler.config.prediction_type)

    def embed(self, prompts: Sequence[str], guidance_scale: float = 1.0) -> Prompted:
        """The prompts as the network reads them; each is encoded alone, so that it depends on nothing else."""
        return Prompted(self._reader.read(prompts, guidance_scale, self.device), guidance_scale)

    def predict(self, latents: Tensor, timesteps: Tensor, prompted: Prompted) -> Tensor:
        """The network's float32 output (B, C, h, w) at timesteps (B,), guided as the prompts say."""
        scales = torch.full((len(latents),), prompted.guidance_scale, device=latents.device)
        return guided(self.family, latents, timesteps, prompted.conditions, scales)

    def _predict_step(self, latents: Tensor, index: Tensor, prompted: Prompted, steps: Steps) -> Tensor:
        return self.predict(steps.read_by_network(latents, index), steps.timesteps[index], prompted)

    @torch.no_grad()
    def sample(
        self, prompted: Prompted, noise: Tensor, steps: Steps, *, keep_path: bool = True, stop: int | None = None
    ) -> Trajectory:
        """Draws B images; `noise` (B, 1 + T, C, h, w) holds x_T and what each step adds.

        Steps without noise need none of theirs: with (B, 1, C, h, w) x_T alone. With `stop` the last latents are those
        before that step.
        """
        noise = noise.to(self.device)
        latents = noise[:, 0] if steps.start_std == 1 else noise[:, 0] * steps.start_std
        path, log_probs = [latents], []
        stochastic = set(steps.stochastic.tolist())
        for step in range(len(steps) if stop is None else stop):
            index = torch.full((len(latents),), step, device=self.device)
            with torch.set_grad_enabled(self._compiled):
                predicted = self._predict_step(latents, index, prompted, steps).detach()
            mean, std = steps.gaussian(latents, predicted, index)
            if step in stochastic:
                latents = mean + std * noise[:, 1 + step]
                log_probs.append(gaussian.log_prob_mean(latents, mean, std))
            else:
                latents = mean
                log_probs.append(torch.full_like(mean[:, 0, 0, 0], torch.nan))
            path.append(latents)
        if not keep_path:
            path, log_probs = path[-1:], []
        known = torch.stack(log_probs, 1) if log_probs else latents.new_empty(len(latents), 0)
        return Trajectory(torch.stack(path, 1), known, prompted, steps)

    def replay(self, trajectory: Trajectory, index: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, std) of the next latents at step `index` (B,) of every sample, from the present weights."""
        latents = trajectory.latents[torch.arange(len(index), device=index.device), index]
        predicted = self._predict_step(latents, index, trajectory.prompted, trajectory.steps)
        return trajectory.steps.gaussian(latents, predicted, index)

    def log_prob(self, trajectory: Trajectory, index: Tensor) -> Tensor:
        """(B,) log-probability over D of what step `index` (B,) of every sample did, from the present weights."""
        mean, std = self.replay(trajectory, index)
        return gaussian.log_prob_mean(next_latents(trajectory, index), mean, std)

    def clean(self, latents: Tensor, index: Tensor, prompted: Prompted, steps: Steps) -> Tensor:
        """(B, C, h, w) the picture's latents that the present weights expect from latents at steps `index` (B,)."""
        return steps.clean(latents, self._predict_step(latents, index, prompted, steps), index)

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """The policy as it was before training, while the context lasts."""
        if self._start is None:
            with without_lora(self.denoiser):
                yield
            return
        network, self.network = self.network, self._start
        try:
            yield
        finally:
            self.network = network

    @contextmanager
    def at_old(self) -> Iterator[None]:
        """The policy that draws images, while the context lasts: the trained one itself where there is no other."""
        with self.old.applied() if self.old is not None else nullcontext():
            yield

    def pixels(self, latents: Tensor) -> Tensor:
        """(B, 3, H, W) float32 pixels in 0..1 of latents (B, C, h, w); gradients flow through."""
        return (self.family.decode(latents).float() / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Pixels:
        """(B, H, W, 3) uint8 images of latents (B, C, h, w)."""
        return (self.pixels(latents).permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()

    @torch.no_grad()
    def encode(self, images: Pixels) -> Tensor:
        """(B, C, h, w) float32 latents of (B, H, W, 3) uint8 images of this policy's size."""
        pixels = torch.from_numpy(images.copy()).to(self.device).permute(0, 3, 1, 2).float()
        return self.family.encode_pixels(pixels / 127.5 - 1)

    def save_adapter(self, folder: Path) -> None:
        """Writes what was trained: an adapter for `pipe.load_lora_weights(folder)`, or the whole network for
        `from_pretrained(folder)` of its class. Either loads as a generator's `adapter`."""
        if self.lora is not None:
            save_lora(self.pipe, self.denoiser, self.family.network_part, folder)
        else:
            self.denoiser.save_pretrained(folder, max_shard_size="100GB")


def next_latents(trajectory: Trajectory, index: Tensor) -> Tensor:
    """(B, C, h, w) latents that step `index` (B,) of every sample led to."""
    return trajectory.latents[torch.arange(len(index), device=index.device), index + 1]
