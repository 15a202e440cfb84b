"""Diffusion reinforcement learning as one loop: draw, score, compare, learn; with guards, evaluations and checkpoints.

It runs on each rank of a cluster, or alone in one process: the engine, the rewards and the other ranks are arguments.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp_ray.maths.intervals import clustered_standard_error
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import Collective, Engine, RewardSource, Scores
from vp_ray.rl.config import RlSettings
from vp_ray.rl.evaluation import HeldOut
from vp_ray.rl.journal import Journal
from vp_ray.rl.micro_batches import latent_batches, step_batches
from vp_ray.rl.online_pairs import best_and_worst, group_pair_batches
from vp_ray.rl.plan import Batch, batches_of_epoch, share_of_rank
from vp_ray.rl.policies import training_steps
from vp_ray.rl.reward_mix import RewardMix
from vp_ray.rl.rollout import Drawn, draw_epoch, together
from vp_ray.rl.step import LOSSES, learn, summary
from vp_ray.rl.trackers import Tracker
from vp_ray.storage import Folder
from vp_ray.telemetry import Progress


def train(
    settings: RlSettings,
    policy: DiffusionPolicy,
    engine: Engine,
    *,
    rewards: RewardSource,
    held_out: HeldOut | None,
    collective: Collective,
    prompts: Sequence[str],
    folder: Folder,
    progress: Progress | None = None,
    trackers: Sequence[Tracker] = (),
    interrupted: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains from the newest checkpoint in `folder` to the last epoch and returns the figures, on every rank.

    What it writes is told at `Journal`. Raises `RewardError` after a checkpoint when rewards stay out, and
    `NumericsError` when a replay does not give back what was sampled.
    """
    steps = training_steps(settings, policy)
    mix = RewardMix(settings, rewards.aspects)
    journal = Journal(
        settings,
        policy,
        engine,
        held_out=held_out,
        collective=collective,
        folder=folder,
        progress=progress,
        trackers=trackers,
        interrupted=interrupted,
    )
    mix.restore(journal.state.reward)
    journal.begin()
    while journal.goes_on:
        epoch = journal.state.epoch
        batches = batches_of_epoch(prompts, epoch, settings)
        mine = share_of_rank(batches, collective.rank, collective.world_size)
        with journal.saved_if_rewards_stay_out():
            draw = partial(draw_epoch, settings, policy, steps, rewards=rewards, batches=mine, epoch=epoch)
            drawn = together(collective, draw)
        started = time.perf_counter()
        scores = gather_scores(drawn, batches, collective)
        mixed = mix.mix(scores, owners_of(batches))
        micro_batches = micro_batches_of(settings, policy, drawn, batches, mixed.advantages, collective, epoch)
        seen, norms = learn(
            settings, policy, engine, averages=journal.averages, micro_batches=micro_batches, epoch=epoch
        )
        means = summary(settings, seen, norms, collective)
        seconds_update = time.perf_counter() - started
        journal.state.reward = mix.state()
        journal.end_epoch(
            len(norms),
            float(mixed.reward.mean()),
            {
                "reward_mean": float(mixed.reward.mean()),
                "reward_std": float(mixed.reward.std()),
                "reward_standard_error": clustered_standard_error(mixed.reward, owners_of(batches)),
                **{
                    f"{aspect}_mean": float(mean)
                    for aspect, mean in zip(rewards.aspects, scores.mean(axis=0), strict=True)
                },
                **means,
                **mixed.figures,
                "seconds_sampling": drawn.seconds_sampling,
                "seconds_reward_wait": drawn.seconds_reward_wait,
                "seconds_update": seconds_update,
            },
        )
    return journal.end()


def owners_of(batches: Sequence[Batch]) -> list[str]:
    """(N,) the prompt of each image of an epoch."""
    return [prompt for batch in batches for prompt in batch.prompts]


def micro_batches_of(
    settings: RlSettings,
    policy: DiffusionPolicy,
    drawn: Drawn,
    batches: Sequence[Batch],
    advantages: NDArray[np.float64],
    collective: Collective,
    epoch: int,
) -> Callable[[int, int], Iterable[object]]:
    """What the loss learns from in (inner epoch, update): the pairs, steps or latents of this rank that it needs.

    `advantages` are those of all N images of the epoch.
    """
    if LOSSES[settings.algorithm].needs == "pairs":
        pairs = best_and_worst(drawn, numbers_by_rank(batches, collective), advantages, owners_of(batches), collective)
        return partial(group_pair_batches, settings, policy, pairs, collective, epoch)
    of_batch = np.split(advantages, len(batches))
    learnt = [(rollout, of_batch[rollout.batch.number]) for rollout in drawn.rollouts]
    if LOSSES[settings.algorithm].needs == "trajectory":
        return partial(step_batches, settings, policy, learnt, epoch)
    return partial(latent_batches, settings, policy, learnt, epoch)


def gather_scores(drawn: Drawn, batches: Sequence[Batch], collective: Collective) -> Scores:
    """(N, A) scores of the whole epoch in the order of its batches, on every rank."""
    joined = collective.gather(np.stack([rollout.scores for rollout in drawn.rollouts]))
    ordered: NDArray[np.float32] = np.empty_like(joined)
    ordered[numbers_by_rank(batches, collective)] = joined
    return ordered.reshape(-1, joined.shape[-1])


def numbers_by_rank(batches: Sequence[Batch], collective: Collective) -> list[int]:
    """The numbers of the epoch's batches in the order in which the ranks, one after the other, hold them."""
    ranks = range(collective.world_size)
    return [batch.number for rank in ranks for batch in share_of_rank(batches, rank, collective.world_size)]
