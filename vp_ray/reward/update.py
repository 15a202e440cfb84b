"""One update, shared by ranks and micro-batches: its gradient is that of the whole batch, however it is cut.

Letters of shapes: M images of an update, A aspects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vp_ray.ids import seed_from
from vp_ray.protocols import Collective, Engine
from vp_ray.reward.data import Group, RewardData
from vp_ray.reward.forward import Forward
from vp_ray.reward.step import deal, group_loss, loss_of_scores


@dataclass(frozen=True, slots=True)
class Update:
    """What makes one update of a training."""

    forward: Forward
    engine: Engine
    collective: Collective
    data: RewardData
    micro_batches: int
    seed: int

    def __call__(self, groups: Sequence[Group], chosen: Sequence[int], number: int) -> list[float]:
        """Makes update `number` with the chosen of the groups; the losses that this rank saw, whose mean over all ranks
        is the loss of the batch.

        Parts are ranks times micro-batches. Where there are no more parts than groups, a part is some whole groups;
        else each group is shared by several parts.
        """
        parts = self.collective.world_size * self.micro_batches
        if len(chosen) >= parts:
            return self._whole_groups(groups, chosen, number)
        return self._shared_groups([groups[place] for place in chosen], parts // len(chosen), number)

    def _seeded(self, number: int, part: int) -> None:
        """Fixes the dropout of one part; no generator has a state that a checkpoint would have to hold."""
        torch.manual_seed(seed_from("reward-update", self.seed, number, self.collective.rank, part))

    def _whole_groups(self, groups: Sequence[Group], chosen: Sequence[int], number: int) -> list[float]:
        mine = deal(chosen, self.collective.world_size)[self.collective.rank]
        size = len(mine) // self.micro_batches
        losses = []
        for part in range(self.micro_batches):
            self._seeded(number, part)
            members = [groups[place] for place in mine[part * size : (part + 1) * size]]
            loss = group_loss(self.forward, self.data.images, members)
            self.engine.accumulate(loss)
            losses.append(loss.item())
        return losses

    def _shared_groups(self, groups: Sequence[Group], shares: int, number: int) -> list[float]:
        """Scores first, then the gradient of the loss by the scores, then each part's share of the weights' gradient.

        A part that is not the rank's only one is passed through the network twice, so that one part is in memory.
        """
        rank, parts = self.collective.rank, shares * len(groups)
        cut = [(group, piece) for group in groups for piece in np.array_split(np.arange(len(group.images)), shares)]
        mine = cut[rank * self.micro_batches : (rank + 1) * self.micro_batches]
        kept = []
        with torch.set_grad_enabled(self.micro_batches == 1):
            for part, (group, piece) in enumerate(mine):
                self._seeded(number, part)
                kept.append(self._scores(group, piece))
        own = np.concatenate([scores.detach().cpu().numpy() for scores in kept])
        every = torch.from_numpy(self.collective.gather(own)).requires_grad_()
        loss = loss_of_scores(every, groups, self.forward.model.aspects)
        (slopes,) = torch.autograd.grad(loss, every)
        first = sum(len(piece) for _, piece in cut[: rank * self.micro_batches])
        for part, ((group, piece), scores) in enumerate(zip(mine, kept, strict=True)):
            if self.micro_batches > 1:
                self._seeded(number, part)
                scores = self._scores(group, piece)  # noqa: PLW2901 - the same scores, now with their graph
            share = slopes[first : first + len(piece)].to(scores.device)
            # The engine takes the mean over parts, and the whole is their sum.
            self.engine.accumulate((scores * share).sum() * parts)
            first += len(piece)
        return [loss.item()]

    def _scores(self, group: Group, piece: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        """(len(piece), A) scores of some of a group's images; under ZeRO-3 every rank must pass something, so an empty
        piece passes one image of which nothing is used."""
        places = piece if len(piece) else np.zeros(1, np.int64)
        scores = self.forward([self.data.images[group.images[places]]], [group.prompt] * len(places))
        return scores[: len(piece)]
