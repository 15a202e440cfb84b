"""Pairs for online DPO: the best and the worst image of each prompt of an epoch, wherever they were drawn.

Letters of shapes: N images of the epoch, C, h and w of latents, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import Collective
from vp_ray.rl.config import RlSettings
from vp_ray.rl.losses.interface import PairBatch
from vp_ray.rl.micro_batches import noise_levels
from vp_ray.rl.plan import pair_chunk
from vp_ray.rl.rollout import Drawn


@dataclass(frozen=True, slots=True)
class GroupPairs:
    """One pair a prompt, in the order of the epoch's prompts."""

    prompts: tuple[str, ...]
    best: NDArray[np.float32]
    """(P, C, h, w) latents."""
    worst: NDArray[np.float32]
    weight: NDArray[np.float32]
    """(P,) 1, or 0 where all images of the prompt have one reward, so that there is nothing to learn."""


def best_and_worst(
    drawn: Drawn, numbers: Sequence[int], reward: NDArray[np.float64], owners: Sequence[str], collective: Collective
) -> GroupPairs:
    """The pairs of an epoch, on every rank.

    `numbers` are the numbers of the batches that the ranks drew, rank by rank; `reward` and `owners` (N,) follow the
    order of the epoch's batches. Of equal rewards the first counts.
    """
    mine = np.stack([rollout.trajectory.final.cpu().numpy() for rollout in drawn.rollouts])
    joined = collective.gather(mine)
    latents: NDArray[np.float32] = np.empty_like(joined)
    latents[list(numbers)] = joined
    latents = latents.reshape(-1, *latents.shape[2:])
    prompts = tuple(dict.fromkeys(owners))
    rows = {prompt: [row for row, owner in enumerate(owners) if owner == prompt] for prompt in prompts}
    best = [rows[prompt][int(np.argmax(reward[rows[prompt]]))] for prompt in prompts]
    worst = [rows[prompt][int(np.argmin(reward[rows[prompt]]))] for prompt in prompts]
    return GroupPairs(prompts, latents[best], latents[worst], (reward[best] > reward[worst]).astype(np.float32))


def group_pair_batches(
    settings: RlSettings,
    policy: DiffusionPolicy,
    pairs: GroupPairs,
    collective: Collective,
    epoch: int,
    inner_epoch: int,
    update: int,
) -> Iterator[PairBatch]:
    """This rank's share of an update's pairs, each `timesteps_per_image` times at a noise level of its own."""
    size = pair_chunk(settings, len(pairs.prompts), collective.world_size)
    places = np.arange(len(pairs.prompts)).reshape(settings.updates_per_epoch, collective.world_size, -1, size)
    device = policy.device
    for chunk in places[update, collective.rank]:
        prompts = [pairs.prompts[place] for place in chunk]
        best, worst, weight = (
            torch.from_numpy(one[chunk]).to(device) for one in (pairs.best, pairs.worst, pairs.weight)
        )
        for column in range(settings.timesteps_per_image):
            noise, index = noise_levels(settings, policy, [(epoch, inner_epoch, prompt, column) for prompt in prompts])
            prompted = policy.embed(prompts, settings.guidance_scale)
            yield PairBatch(best, worst, prompted, torch.ones_like(weight), weight, noise, index)
