"""Training without drawing and scoring first, as one loop: on pairs that are there, or by the reward's own gradient.

It runs on each rank of a cluster, or alone in one process, as `vp_ray.rl.loop` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import Collective, Engine
from vp_ray.rl.config import RlSettings
from vp_ray.rl.journal import Journal
from vp_ray.rl.step import learn, summary

REWARD_OF = {"dpo": "pair_accuracy", "refl": "reward"}
"""The figure that an algorithm raises, against which the held-out score is watched."""


def train_directly(
    settings: RlSettings,
    policy: DiffusionPolicy,
    engine: Engine,
    *,
    micro_batches: Callable[[int, int, int], Iterable[object]],
    journal: Journal,
    collective: Collective,
) -> dict[str, Any]:
    """Trains from the journal's newest checkpoint to the last epoch and returns the figures, on every rank.

    `micro_batches(epoch, inner_epoch, update)` gives this rank's share of one update.
    """
    journal.begin()
    while journal.goes_on:
        started, epoch = time.perf_counter(), journal.state.epoch
        seen, norms = learn(
            settings,
            policy,
            engine,
            averages=journal.averages,
            micro_batches=partial(micro_batches, epoch),
            epoch=epoch,
        )
        means = summary(settings, seen, norms, collective)
        raised = means[REWARD_OF[settings.algorithm]]
        times = {"seconds_sampling": 0.0, "seconds_reward_wait": 0.0, "seconds_update": time.perf_counter() - started}
        journal.end_epoch(len(norms), raised, {"reward_mean": raised, **means, **times})
    return journal.end()
