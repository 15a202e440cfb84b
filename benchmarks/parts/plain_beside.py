"""The plain loop with the network, the settings, the noise and the order of steps of one of our trainings."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers import DDIMScheduler

from parts.plain_ddpo import PlainDdpo, PlainSettings, Work
from vp_ray.maths.steps import Steps
from vp_ray.models.policy import DiffusionPolicy, draw_noise
from vp_ray.rl.config import RlSettings
from vp_ray.rl.plan import batches_of_epoch, image_seeds, step_columns


def plain_loop(policy: DiffusionPolicy, settings: RlSettings) -> PlainDdpo:
    """The loop on the policy's own network, whose adapters then compute peft's way."""
    for module in policy.denoiser.modules():
        module.__dict__.pop("forward", None)
    chosen = PlainSettings(
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        eta=settings.eta,
        learning_rate=settings.optimizer.learning_rate,
        clip_range=settings.clip_nats / policy.dimensions,
        advantage_clip=settings.advantage_clip,
        max_gradient_norm=settings.optimizer.max_gradient_norm,
        adam_epsilon=settings.optimizer.epsilon,
    )
    return PlainDdpo(policy.pipe, DDIMScheduler.from_config(policy.pipe.scheduler.config, clip_sample=False), chosen)


def work_of(
    policy: DiffusionPolicy, settings: RlSettings, steps: Steps, prompts: Sequence[str], epoch: int
) -> list[Work]:
    """The batches that our training draws in this epoch, on the policy's device."""
    return [
        Work(
            list(batch.prompts),
            draw_noise(image_seeds(settings, epoch, batch), settings.steps, policy.latent_shape).to(policy.device),
            step_columns(settings, steps, epoch, 0, batch),
            batch.update,
        )
        for batch in batches_of_epoch(prompts, epoch, settings)
    ]
