"""Diffusion reinforcement learning as one loop: draw, score, compare, learn; with guards, evaluations and checkpoints.

It runs on each rank of a cluster, or alone in one process: the engine, the rewards and the other ranks are arguments.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp_ray.errors import RewardError
from vp_ray.models.averages import AveragedWeights
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import Collective, Engine, RewardSource, Scores
from vp_ray.rl import checkpoints
from vp_ray.rl.config import RlSettings
from vp_ray.rl.evaluation import HeldOut, HeldOutCheck
from vp_ray.rl.figures import FIGURES, METRICS, figures_of
from vp_ray.rl.guards import EarlyStop
from vp_ray.rl.plan import Batch, batches_of_epoch, share_of_rank
from vp_ray.rl.reward_mix import RewardMix
from vp_ray.rl.rollout import Drawn, draw_epoch, together
from vp_ray.rl.step import STATISTICS, learn, summary
from vp_ray.rl.trackers import Tracker, tell
from vp_ray.storage import Folder
from vp_ray.telemetry import JsonLines, Progress

ADAPTER_FILE = "pytorch_lora_weights.safetensors"


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

    Rank 0 writes `metrics.jsonl` (row 0 before training, then a row an epoch), `grids/`, `checkpoints/`, `adapter/` and
    `figures.json`, and tells the `trackers`. While `interrupted` says on any rank that its machine is about to go, each
    epoch ends with a checkpoint. Raises `RewardError` after a checkpoint when rewards stay out, and `NumericsError`
    when a replay does not give back what was sampled.
    """
    policy.network = engine.module
    steps = policy.steps(settings.steps, settings.eta)
    mix = RewardMix(settings, rewards.aspects)
    averages = AveragedWeights(policy.unet, settings.ema_decay)
    state = checkpoints.load_newest(folder.make(), engine, averages)
    mix.restore(state.reward)
    guard = EarlyStop(settings.early_stop_patience, settings.early_stop_tolerance, settings.diversity_floor)
    guard.restore(state.early_stop)
    check = HeldOutCheck(settings, policy, averages, guard, held_out=held_out, collective=collective, folder=folder)
    metrics = JsonLines(folder, METRICS)
    metrics.keep(state.metrics_rows)

    def finish_row(row: dict[str, Any]) -> None:
        if collective.rank == 0:
            metrics.append(row)
            tell(trackers, row, folder)
        state.metrics_rows += 1
        state.reward, state.early_stop = mix.state(), guard.state()

    if state.metrics_rows == 0:
        finish_row({"epoch": 0, "update": 0, **check.run(0, None)})
    while state.epoch < settings.epochs and not guard.stopped:
        batches = batches_of_epoch(prompts, state.epoch, settings)
        mine = share_of_rank(batches, collective.rank, collective.world_size)
        with saved_if_rewards_stay_out(partial(checkpoints.save, folder, state, engine, averages, collective)):
            draw = partial(draw_epoch, settings, policy, steps, rewards=rewards, batches=mine, epoch=state.epoch)
            drawn = together(collective, draw)
        started = time.perf_counter()
        scores = gather_scores(drawn, batches, collective)
        owners = [prompt for batch in batches for prompt in batch.prompts]
        mixed = mix.mix(scores, owners)
        reward, advantages = mixed.reward, np.split(mixed.advantages, len(batches))
        learnt = [(rollout, advantages[rollout.batch.number]) for rollout in drawn.rollouts]
        seen, norms = learn(settings, policy, engine, averages=averages, learnt=learnt, epoch=state.epoch)
        means = collective.gather(summary(seen, norms)).mean(axis=0)
        seconds_update = time.perf_counter() - started

        state.epoch += 1
        state.update += len(norms)
        is_last = state.epoch == settings.epochs
        due = is_last or state.epoch % settings.evaluate_every == 0
        finish_row(
            {
                "epoch": state.epoch,
                "update": state.update,
                "reward_mean": float(reward.mean()),
                "reward_std": float(reward.std()),
                **{
                    f"{aspect}_mean": float(mean)
                    for aspect, mean in zip(rewards.aspects, scores.mean(axis=0), strict=True)
                },
                **dict(zip(STATISTICS, means.tolist(), strict=True)),
                **mixed.figures,
                **(check.run(state.epoch, float(reward.mean())) if due else {"held_out_score": None}),
                "seconds_sampling": drawn.seconds_sampling,
                "seconds_reward_wait": drawn.seconds_reward_wait,
                "seconds_update": seconds_update,
            }
        )
        leaving = bool(collective.gather(np.array([interrupted()])).any())
        if is_last or leaving or guard.stopped or state.epoch % settings.checkpoint_every == 0:
            checkpoints.save(folder, state, engine, averages, collective)
        if progress is not None:
            progress.update(state.epoch, settings.epochs, f"reward {reward.mean():.3f}")

    if collective.rank == 0:
        write_adapter(settings, policy, averages, folder)
        folder.write_json(FIGURES, figures_of(metrics.rows, guard, settings))
    collective.barrier()
    figures: dict[str, Any] = folder.read_json(FIGURES)
    return figures


@contextmanager
def saved_if_rewards_stay_out(save: Callable[[], None]) -> Iterator[None]:
    """Lets a `RewardError` through after a checkpoint."""
    try:
        yield
    except RewardError:
        save()
        raise


def gather_scores(drawn: Drawn, batches: Sequence[Batch], collective: Collective) -> Scores:
    """(N, A) scores of the whole epoch in the order of its batches, on every rank."""
    joined = collective.gather(np.stack([rollout.scores for rollout in drawn.rollouts]))
    ranks = range(collective.world_size)
    numbers = [batch.number for rank in ranks for batch in share_of_rank(batches, rank, collective.world_size)]
    ordered: NDArray[np.float32] = np.empty_like(joined)
    ordered[numbers] = joined
    return ordered.reshape(-1, joined.shape[-1])


def write_adapter(settings: RlSettings, policy: DiffusionPolicy, averages: AveragedWeights, folder: Folder) -> None:
    """Writes `adapter/`: the averaged weights of the best held-out score, or the last."""
    if settings.keep == "best":
        (folder / "adapter").make().write_bytes(ADAPTER_FILE, (folder / "best").read_bytes(ADAPTER_FILE))
        return
    with averages.applied():
        policy.save_adapter((folder / "adapter").local_path)
