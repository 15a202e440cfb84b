"""From groups to the loss of one micro-batch.

Letters of shapes: M images in all, A aspects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vp_ray.ids import seed_from
from vp_ray.maths.bradley_terry import listwise_loss
from vp_ray.protocols import Pixels
from vp_ray.reward.data import Group
from vp_ray.reward.forward import Forward


def groups_of_update(count: int, batch: int, update: int, seed: int) -> list[int]:
    """The `batch` groups of an update, as places in 0..count - 1: a slice of endless passes, each in its own order.

    Every pass takes each group once, and an update may run over the end of a pass.
    """
    first = update * batch
    orders: dict[int, list[int]] = {}
    chosen = []
    for position in range(first, first + batch):
        epoch, place = divmod(position, count)
        if epoch not in orders:
            rng = np.random.default_rng(seed_from("reward-order", seed, epoch))
            orders[epoch] = rng.permutation(count).tolist()
        chosen.append(orders[epoch][place])
    return chosen


def deal(chosen: Sequence[int], world_size: int) -> list[list[int]]:
    """The groups of an update for each rank, in equal number.

    A group goes to the rank of its place modulo `world_size` where that has room, so that it meets the same rank, and
    what this one keeps of its images, in most passes. The order among all ranks is that of the update.
    """
    size = len(chosen) // world_size
    shares: list[list[int]] = [[] for _ in range(world_size)]
    left: list[int] = []
    for group in chosen:
        home = shares[group % world_size]
        (home if len(home) < size else left).append(group)
    for share in shares:
        while len(share) < size:
            share.append(left.pop(0))
    return shares


def group_loss(forward: Forward, images: Pixels, groups: Sequence[Group]) -> Tensor:
    """The mean over groups of their listwise losses; each image is scored once, however many pairs it is in."""
    prompts = [group.prompt for group in groups for _ in group.images]
    scores = forward([images[group.images] for group in groups], prompts)
    return loss_of_scores(scores, groups, forward.model.aspects)


def loss_of_scores(scores: Tensor, groups: Sequence[Group], aspects: Sequence[str]) -> Tensor:
    """The mean over groups of their listwise losses from (M, A) scores of their images, in the order of the groups."""
    largest = max(len(group.images) for group in groups)
    padded = scores.new_zeros(len(groups), largest, scores.shape[1])
    inside = torch.tensor([[place < len(group.images) for place in range(largest)] for group in groups])
    padded[inside.to(scores.device)] = scores
    labels = [group.labels(aspects, largest) for group in groups]
    probability, weight = (torch.from_numpy(np.stack(parts)).to(scores.device) for parts in zip(*labels, strict=True))
    return listwise_loss(padded, probability, weight)
