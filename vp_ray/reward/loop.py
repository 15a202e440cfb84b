"""The whole training of VP-Score: batches of groups, validation, the best weights, resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np

from vp_ray.models.averages import AveragedWeights
from vp_ray.models.reward_config import weighted_mean
from vp_ray.protocols import Collective
from vp_ray.reward.checkpoints import BEST, TrainingState, WeightsEngine, load_newest, save, save_best
from vp_ray.reward.config import RewardSettings
from vp_ray.reward.data import Group, RewardData
from vp_ray.reward.evaluation import judged_by_aspect, score_groups
from vp_ray.reward.forward import Forward
from vp_ray.reward.step import groups_of_update
from vp_ray.reward.update import Update
from vp_ray.storage import Folder
from vp_ray.telemetry import JsonLines

METRICS = "metrics.jsonl"


class RewardEngine(WeightsEngine, Protocol):
    """An engine that tells its learning rate."""

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        ...


def total_updates(settings: RewardSettings, groups: int) -> int:
    """How many updates the settings ask for on so many training groups; at least one."""
    return max(1, math.ceil(settings.epochs * groups / settings.batch_groups))


def rate_schedule(settings: RewardSettings, updates: int) -> Callable[[int], float]:
    """The factor on the learning rate: linear up to 1, then a cosine down to 0 after the last update."""
    warm_up = int(settings.warm_up_share * updates)

    def factor(update: int) -> float:
        if update < warm_up:
            return (update + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (update - warm_up) / (updates - warm_up)))

    return factor


def train(
    settings: RewardSettings,
    forward: Forward,
    engine: RewardEngine,
    collective: Collective,
    data: RewardData,
    folder: Folder,
    tell: Callable[[dict[str, Any]], None] = lambda row: None,
) -> TrainingState:
    """Trains the model of `forward`, which `engine` owns, and leaves the weights that validate best in `folder/best`.

    Goes on from the newest checkpoint in `folder`, bitwise on a CPU. Every rank calls it with the same arguments.
    `tell` takes each row of metrics on rank 0.
    """
    model = forward.model
    training, validation = data.split(settings.validation_share, settings.seed, settings.train_share)
    updates = total_updates(settings, len(training))
    averages = None if settings.ema_decay is None else AveragedWeights(model, settings.ema_decay)
    state = load_newest(folder, engine, averages)
    metrics = JsonLines(folder, METRICS)
    metrics.keep(state.metrics_rows)
    model.train()
    update = Update(forward, engine, collective, data, settings.micro_batches, settings.seed)
    started, losses = time.monotonic(), []
    while state.update < updates:
        rate = engine.learning_rate
        chosen = groups_of_update(len(training), settings.batch_groups, state.update, settings.seed)
        losses += update(training, chosen, state.update)
        if averages is not None:
            averages.update()
        state.update += 1
        if state.update % settings.validate_every == 0 or state.update == updates:
            with nullcontext() if averages is None else averages.applied():
                figures = _validate(forward, data, validation, collective)
                mean = float(np.mean([found["accuracy"] for found in figures["accuracy"].values()] or [0.0]))
                if mean > state.best_accuracy:
                    state.best_accuracy, state.best_update, state.best_figures = mean, state.update, figures
                    save_best(folder, state, engine, collective, averages)
            row = _metrics_row(state, rate, figures, mean, time.monotonic() - started)
            row["loss"] = float(collective.gather(np.array(losses)).mean())
            losses = []
            if collective.rank == 0:
                metrics.append(row)
                tell(row)
            state.metrics_rows += 1
            save(folder, state, engine, collective, averages)
    if collective.rank == 0:
        for name in (folder / BEST).folders():
            if name != f"update_{state.best_update:05d}":
                (folder / BEST).delete(name)
    collective.barrier()
    return state


def _validate(forward: Forward, data: RewardData, groups: Sequence[Group], collective: Collective) -> dict[str, Any]:
    """Accuracy by aspect on the validation groups, and what normalises the scores."""
    model = forward.model
    raw = score_groups(forward, data.images, groups, collective)
    overall = weighted_mean(raw, model.config.overall_weights)
    return {
        **judged_by_aspect(raw, groups, model.aspects, model.config.overall_weights),
        "mean": raw.mean(axis=0, dtype=np.float64).tolist(),
        "std": raw.std(axis=0, dtype=np.float64).tolist(),
        "overall_mean": float(overall.mean()),
        "overall_std": float(overall.std()),
        "images": len(raw),
    }


def _metrics_row(
    state: TrainingState, rate: float, figures: dict[str, Any], mean: float, seconds: float
) -> dict[str, Any]:
    by_aspect = {f"validation_accuracy_{aspect}": found["accuracy"] for aspect, found in figures["accuracy"].items()}
    return {"update": state.update, "learning_rate": rate, "validation_accuracy": mean, **by_aspect, "seconds": seconds}
