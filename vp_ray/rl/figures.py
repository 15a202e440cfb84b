"""What a training shows of itself in the closing table and the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vp_ray.rl.config import RlSettings
from vp_ray.rl.guards import EarlyStop

METRICS = "metrics.jsonl"
FIGURES = "figures.json"
SECONDS = ("seconds_sampling", "seconds_reward_wait", "seconds_update")


def figures_of(rows: Sequence[dict[str, Any]], guard: EarlyStop, settings: RlSettings) -> dict[str, Any]:
    """First, last and best rewards, throughput, and the share of the time spent waiting for rewards.

    `rows` are those of `metrics.jsonl`: the first is from before training. What was not measured is None.
    """
    epochs = rows[1:]
    seconds = {name: sum(row[name] for row in epochs) for name in SECONDS}
    total = sum(seconds.values())
    each = settings.prompts_per_epoch * settings.samples_per_prompt
    images = 0 if settings.algorithm == "dpo" else len(epochs) * each
    held_out = [row["held_out_score"] for row in rows if row["held_out_score"] is not None]
    return {
        "epochs": len(epochs),
        "updates": rows[-1]["update"],
        "images": images,
        "images_per_second": images / total if total and images else None,
        "reward_wait_share": seconds["seconds_reward_wait"] / total if total else None,
        "reward_first": epochs[0]["reward_mean"] if epochs else None,
        "reward_last": epochs[-1]["reward_mean"] if epochs else None,
        "kl_last": epochs[-1].get("kl") if epochs else None,
        "held_out_first": held_out[0] if held_out else None,
        "held_out_last": held_out[-1] if held_out else None,
        "held_out_best": guard.best_score,
        "best_epoch": guard.best_epoch,
        "stopped_early": guard.stopped,
    }
