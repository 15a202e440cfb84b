"""From groups to the loss of one micro-batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from vp_ray.ids import seed_from
from vp_ray.maths.bradley_terry import listwise_loss
from vp_ray.models.reward import VPScore
from vp_ray.protocols import Pixels
from vp_ray.reward.data import Group


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


def micro_batches(groups: Sequence[Group], rank: int, world_size: int, parts: int) -> Iterator[Sequence[Group]]:
    """This rank's share of an update's groups, in `parts` of equal size."""
    size = len(groups) // (world_size * parts)
    for part in range(parts):
        first = (rank * parts + part) * size
        yield groups[first : first + size]


def group_loss(model: VPScore, images: Pixels, groups: Sequence[Group]) -> Tensor:
    """The mean over groups of their listwise losses; each image is scored once, however many pairs it is in."""
    largest = max(len(group.images) for group in groups)
    rows = np.concatenate([group.images for group in groups])
    prompts = [group.prompt for group in groups for _ in group.images]
    scores = model.raw_scores(images[rows], prompts)
    padded = scores.new_zeros(len(groups), largest, scores.shape[1])
    inside = torch.tensor([[place < len(group.images) for place in range(largest)] for group in groups])
    padded[inside.to(scores.device)] = scores
    labels = [group.labels(model.aspects, largest) for group in groups]
    probability, weight = (torch.from_numpy(np.stack(parts)).to(scores.device) for parts in zip(*labels, strict=True))
    return listwise_loss(padded, probability, weight)
