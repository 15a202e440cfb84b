"""A training in this process, as a rank without Ray has it, and pictures of what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vp_ray.distributed.collectives import SingleProcess
from vp_ray.distributed.engines import TorchEngine
from vp_ray.ids import seed_from
from vp_ray.models.policy import DiffusionPolicy, draw_noise
from vp_ray.protocols import Pixels, RewardSource
from vp_ray.rl.config import RlSettings
from vp_ray.rl.evaluation import HeldOut
from vp_ray.rl.loop import train
from vp_ray.rl.plan import micro_batches_per_update
from vp_ray.rl.policies import load_policy, training_steps
from vp_ray.shapeworld import scenes
from vp_ray.storage import Folder


def prompts_of(split: str, count: int) -> list[str]:
    """So many prompts of a split of the embedded world, evenly from all of them."""
    every = sorted(scenes.prompt_of(scene) for scene in scenes.all_scenes() if scenes.split_of(scene) == split)
    return every[:: max(1, len(every) // count)][:count]


def tune(
    settings: RlSettings, rewards: RewardSource, held_out: HeldOut | None, prompts: Sequence[str], folder: Path
) -> dict[str, Any]:
    """The figures of a training by one process; `folder/adapter` is what it made."""
    policy = load_policy(settings, "cpu")
    return train(
        settings,
        policy,
        TorchEngine(
            policy.denoiser, settings.optimizer, micro_batches_per_update(settings, training_steps(settings, policy), 1)
        ),
        rewards=rewards,
        held_out=held_out,
        collective=SingleProcess(),
        prompts=prompts,
        folder=Folder.at(folder),
    )


@torch.no_grad()
def pictures(settings: RlSettings, adapter: Path | None, prompts: Sequence[str], steps: int = 10) -> Pixels:
    """An image of each prompt by the base model or with an adapter, from seeds that depend on the prompt alone."""
    policy: DiffusionPolicy = load_policy(settings, "cpu")
    if adapter is not None:
        policy.pipe.unload_lora_weights()
        policy.pipe.load_lora_weights(adapter)
    taken = policy.steps(steps, 0.0)
    drawn = []
    for first in range(0, len(prompts), 64):
        part = list(prompts[first : first + 64])
        noise = draw_noise([seed_from("pictures", prompt) for prompt in part], 0, policy.latent_shape)
        drawn.append(policy.decode(policy.sample(policy.embed(part), noise, taken).final))
    return np.concatenate(drawn)
