"""Learns from an epoch's rollouts: updates over batches and steps, with the statistics of every micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from vp_ray.ids import seed_from
from vp_ray.models.averages import AveragedWeights
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import Engine
from vp_ray.rl.config import RlSettings
from vp_ray.rl.guards import check_first_ratios
from vp_ray.rl.losses.ddpo import LossStatistics, MicroBatch, ddpo_loss
from vp_ray.rl.plan import step_columns
from vp_ray.rl.rollout import Rollout

LOSSES: Final = {"ddpo": ddpo_loss}
"""The loss of each algorithm."""

STATISTICS: Final = ("ratio_mean", "clip_share_high", "clip_share_low", "kl", "gradient_norm")


def learn(
    settings: RlSettings,
    policy: DiffusionPolicy,
    engine: Engine,
    *,
    averages: AveragedWeights,
    learnt: Sequence[tuple[Rollout, NDArray[np.float64]]],
    epoch: int,
) -> tuple[list[LossStatistics], list[float]]:
    """(statistics of every micro-batch, gradient norm of every update) of this rank.

    `learnt` are its rollouts of the epoch with the advantages (B,) of their images.
    Raises `NumericsError` when the first update does not begin at ratio 1.
    """
    loss_of = LOSSES[settings.algorithm]
    statistics: list[LossStatistics] = []
    norms: list[float] = []
    for inner_epoch in range(settings.inner_epochs):
        order = np.random.default_rng(seed_from(settings.seed, "updates", epoch, inner_epoch)).permutation(
            settings.updates_per_epoch
        )
        for update in order.tolist():
            first_of_update = len(statistics)
            for rollout, advantage in learnt:
                if rollout.batch.update != update:
                    continue
                advantages_B = torch.from_numpy(advantage).float().to(policy.device)
                for index in step_columns(settings, rollout.trajectory.steps, epoch, inner_epoch, rollout.batch).to(
                    policy.device
                ):
                    batch = MicroBatch(rollout.trajectory, index, advantages_B)
                    loss, seen = loss_of(policy, batch, settings, measure_kl=len(statistics) == first_of_update)
                    statistics.append(seen)
                    if engine.accumulate(loss):
                        averages.update()
                        norms.append(engine.gradient_norm)
            if first_of_update == 0:
                check_first_ratios(statistics)
    return statistics, norms


def summary(statistics: Sequence[LossStatistics], norms: Sequence[float]) -> NDArray[np.float64]:
    """(1, 5) means of one rank, in the order of `STATISTICS`; the KL to the start is in nats a step."""
    columns = [
        torch.stack([one.ratio.ratio_mean for one in statistics]),
        torch.stack([one.ratio.clip_share_high for one in statistics]),
        torch.stack([one.ratio.clip_share_low for one in statistics]),
        torch.stack([one.kl for one in statistics]),
    ]
    means = [float(column.double().nanmean()) for column in columns]
    return np.array([[*means, float(np.mean(norms))]])
