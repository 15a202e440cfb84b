"""What the guards are worth, under a reward that is easily overdone: how much of the picture objects cover.

The noise-free judge's levels on held-out prompts, which the reward knows nothing of, are compared with the start's.
"""

import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parts.tuning import prompts_of, tune
from runs import print_figure
from vp_ray.models.image_features import ImageFeatures
from vp_ray.models.reward import VPScore
from vp_ray.models.rewards import JoinedRewards, LocalRewards
from vp_ray.protocols import Pixels, Scores
from vp_ray.rl.config import RlSettings
from vp_ray.rl.evaluation import HeldOut
from vp_ray.shapeworld.judgement import OracleScorer
from vp_ray.shapeworld.measure import measure

EPOCHS = 30
COMMON: dict[str, Any] = {
    "generator": "embedded:weak",
    "reward_weights": {"coverage": 1.0},
    "held_out_weights": {f"judge.{aspect}": 0.25 for aspect in OracleScorer().aspects},
    "epochs": EPOCHS,
    "prompts_per_epoch": 8,
    "samples_per_prompt": 16,
    "batch_size": 64,
    "updates_per_epoch": 2,
    "steps": 6,
    "drop_last_steps": 2,
    "advantage_scale": "epoch",
    "optimizer": {"learning_rate": 6e-3},
    "held_out_prompts": 0,
    "evaluate_every": 2,
    "evaluation_steps": 10,
    "checkpoint_every": 1000,
}
UNGUARDED = {"kl_coefficient": 0.0, "early_stop_patience": 0, "diversity_floor": 0.0, "keep": "last"}


class Coverage:
    """The share of a picture that objects cover."""

    aspects = ("coverage",)

    def score(self, images: Pixels, prompts: Sequence[str]) -> Scores:
        return np.array([[measure(image).coverage] for image in images], np.float32)


def curve(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["held_out_score"] is not None]


def main() -> None:
    torch.set_num_threads(1)
    training, held_out = prompts_of("train", 256), prompts_of("held_out", 128)
    rewards = LocalRewards(Coverage())
    watching = JoinedRewards({"": rewards, "judge": LocalRewards(OracleScorer())})
    encoder = ImageFeatures(VPScore.from_backbone("embedded:blip"))
    for name, changes in (("unguarded", UNGUARDED), ("guarded", {"held_out_prompts": len(held_out)})):
        # The held-out prompts are given, so that both trainings have all of the training prompts.
        settings = RlSettings.load({**COMMON, **changes})
        with tempfile.TemporaryDirectory(prefix="vp-guard-") as folder:
            figures = tune(settings, rewards, HeldOut(held_out, watching, encoder), training, Path(folder))
            rows = curve(Path(folder))
        kept = figures["best_epoch"] if settings.keep == "best" else rows[-1]["epoch"]
        start, end = rows[0], next(row for row in rows if row["epoch"] == kept)
        print_figure(
            f"over_optimisation_{name}", end["held_out_score"] - start["held_out_score"], "levels",
            "the model before training, noise-free judge, held-out prompts",
            coverage_start=start["held_out_coverage"], coverage_end=end["held_out_coverage"],
            following_start=start["held_out_judge.prompt_following"],
            following_end=end["held_out_judge.prompt_following"],
            diversity_share=end["diversity"] / start["diversity"], kept_epoch=kept, epochs=figures["epochs"],
            stopped_early=figures["stopped_early"],
            lowest=min(row["held_out_score"] for row in rows) - start["held_out_score"],
            median=statistics.median(row["held_out_score"] for row in rows) - start["held_out_score"],
        )  # fmt: skip


if __name__ == "__main__":
    main()
