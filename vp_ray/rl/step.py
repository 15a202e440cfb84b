"""Learns from an epoch's material: updates over its micro-batches, with the figures of every one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from vp_ray.ids import seed_from
from vp_ray.models.averages import AveragedWeights
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import Collective, Engine
from vp_ray.rl.config import RlSettings
from vp_ray.rl.guards import check_first_ratios
from vp_ray.rl.losses.ddpo import DDPO
from vp_ray.rl.losses.diffusion_dpo import DIFFUSION_DPO
from vp_ray.rl.losses.flow_grpo import FLOW_GRPO
from vp_ray.rl.losses.interface import Loss, Seen
from vp_ray.rl.losses.nft import DIFFUSION_NFT
from vp_ray.rl.losses.refl import REFL

LOSSES: Final[dict[str, Loss]] = {
    "ddpo": DDPO,
    "flow_grpo": FLOW_GRPO,
    "nft": DIFFUSION_NFT,
    "online_dpo": DIFFUSION_DPO,
    "dpo": DIFFUSION_DPO,
    "refl": REFL,
}
"""The loss of each algorithm."""


def learn(
    settings: RlSettings,
    policy: DiffusionPolicy,
    engine: Engine,
    *,
    averages: AveragedWeights,
    micro_batches: Callable[[int, int], Iterable[object]],
    epoch: int,
) -> tuple[list[Seen], list[float]]:
    """(figures of every micro-batch, gradient norm of every update) of this rank.

    `micro_batches(inner_epoch, update)` gives this rank's share of one update. At the end the policy that draws, where
    it is not the trained one, follows. Raises `NumericsError` when the first
    update of a loss with ratios does not begin at ratio 1.
    """
    loss_of = LOSSES[settings.algorithm]
    seen: list[Seen] = []
    norms: list[float] = []
    for inner_epoch in range(settings.inner_epochs):
        order = np.random.default_rng(seed_from(settings.seed, "updates", epoch, inner_epoch)).permutation(
            settings.updates_per_epoch
        )
        for update in order.tolist():
            first_of_update = len(seen)
            for batch in micro_batches(inner_epoch, update):
                loss, figures = loss_of.function(policy, batch, settings, len(seen) == first_of_update)
                seen.append(figures)
                if engine.accumulate(loss):
                    averages.update()
                    norms.append(engine.gradient_norm)
            if first_of_update == 0 and loss_of.has_ratios:
                check_first_ratios(seen)
    if policy.old is not None:
        policy.old.update()
    return seen, norms


def summary(
    settings: RlSettings, seen: Sequence[Seen], norms: Sequence[float], collective: Collective
) -> dict[str, float]:
    """Means over all ranks of the loss's figures, where they were measured, and of the gradient norm."""
    names = LOSSES[settings.algorithm].figures
    means = [float(torch.stack([one[name] for one in seen]).double().nanmean()) for name in names]
    row: NDArray[np.float64] = np.array([[*means, float(np.mean(norms))]])
    return dict(zip((*names, "gradient_norm"), collective.gather(row).mean(axis=0).tolist(), strict=True))
