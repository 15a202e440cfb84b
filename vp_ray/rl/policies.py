"""The policy that settings describe, and the steps that its training images take."""

from __future__ import annotations

from vp_ray.errors import SettingsError
from vp_ray.maths.steps import Steps
from vp_ray.models.averages import AveragedWeights, growing
from vp_ray.models.policy import Device, DiffusionPolicy
from vp_ray.rl.config import RlSettings


def load_policy(settings: RlSettings, device: Device = "auto") -> DiffusionPolicy:
    """The policy at its start; raises `CheckpointError` or `SettingsError` where model and settings do not fit."""
    policy = DiffusionPolicy.from_pretrained(
        settings.generator,
        settings.lora,
        settings.dtype,
        settings.seed,
        device,
        height=settings.height,
        width=settings.width,
        vae_dtype=settings.vae_dtype,
        vae_tiling=settings.vae_tiling,
        sampler=settings.sampler,
        offload_text_encoders=settings.offload_text_encoders,
    )
    if settings.algorithm == "flow_grpo" and policy.sampler_name != "flow_sde":
        raise SettingsError("flow_grpo is for flow models (SD3, FLUX)", "Set rl.algorithm to ddpo.", settings.generator)
    if settings.gradient_checkpointing:
        policy.denoiser.enable_gradient_checkpointing()
    if settings.compile:
        policy.compile()
    if settings.algorithm == "nft":
        policy.old = AveragedWeights(policy.denoiser, growing(settings.nft.old_growth, settings.nft.old_limit))
    return policy


def training_steps(settings: RlSettings, policy: DiffusionPolicy) -> Steps:
    """The steps of a training image: with noise where the loss replays them, else without."""
    replayed = settings.algorithm in ("ddpo", "flow_grpo")
    return policy.steps(settings.steps, settings.eta if replayed else 0.0, settings.noise_window)
