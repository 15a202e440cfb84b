"""The whole training of VP-Score: batches of groups, validation, the best weights, resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from vp_ray.ids import seed_from
from vp_ray.models.reward import VPScore
from vp_ray.models.reward_config import weighted_mean
from vp_ray.protocols import Collective, Engine
from vp_ray.reward.checkpoints import BEST, TrainingState, load_newest, save, save_best
from vp_ray.reward.config import RewardSettings
from vp_ray.reward.data import Group, RewardData
from vp_ray.reward.evaluation import accuracy_by_aspect, score_groups
from vp_ray.reward.step import group_loss, groups_of_update, micro_batches
from vp_ray.storage import Folder
from vp_ray.telemetry import JsonLines

METRICS = "metrics.jsonl"


class RewardEngine(Engine, Protocol):
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
    model: VPScore,
    engine: RewardEngine,
    collective: Collective,
    data: RewardData,
    folder: Folder,
) -> TrainingState:
    """Trains `model`, which `engine` owns, and leaves the weights that validate best in `folder/best`.

    Goes on from the newest checkpoint in `folder`, bitwise on a CPU. Every rank calls it with the same arguments.
    """
    training, validation = data.split(settings.validation_share, settings.seed)
    updates = total_updates(settings, len(training))
    state = load_newest(folder, engine)
    metrics = JsonLines(folder, METRICS)
    metrics.keep(state.metrics_rows)
    model.train()
    started, losses = time.monotonic(), []
    while state.update < updates:
        torch.manual_seed(seed_from("reward-update", settings.seed, state.update, collective.rank))
        chosen = groups_of_update(len(training), settings.batch_groups, state.update, settings.seed)
        parts = micro_batches(
            [training[place] for place in chosen], collective.rank, collective.world_size, settings.micro_batches
        )
        rate = engine.learning_rate
        for groups in parts:
            loss = group_loss(model, data.images, groups)
            engine.accumulate(loss)
            losses.append(loss.item())
        state.update += 1
        if state.update % settings.validate_every == 0 or state.update == updates:
            figures = _validate(model, data, validation, collective)
            mean = float(np.mean([found["accuracy"] for found in figures["accuracy"].values()] or [0.0]))
            if mean > state.best_accuracy:
                state.best_accuracy, state.best_update, state.best_figures = mean, state.update, figures
                save_best(folder, state, engine, collective)
            row = _metrics_row(state, rate, figures, mean, time.monotonic() - started)
            row["loss"] = float(collective.gather(np.array(losses)).mean())
            losses = []
            if collective.rank == 0:
                metrics.append(row)
            state.metrics_rows += 1
            save(folder, state, engine, collective)
    if collective.rank == 0:
        for path in (folder.local_path / BEST).glob("update_*"):
            if path.name != f"update_{state.best_update:05d}":
                (folder / BEST).delete(path.name)
    collective.barrier()
    return state


def _validate(model: VPScore, data: RewardData, groups: Sequence[Group], collective: Collective) -> dict[str, Any]:
    """Accuracy by aspect on the validation groups, and what normalises the scores."""
    raw = score_groups(model, data.images, groups, collective)
    overall = weighted_mean(raw, model.config.overall_weights)
    return {
        "accuracy": accuracy_by_aspect(raw, groups, model.aspects, model.config.overall_weights),
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
