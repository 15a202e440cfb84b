"""Runs the reward stage of a run on a local cluster: `reward_process.py RUN BACKBONE`; may be killed."""

from __future__ import annotations

import sys

from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import OptimizerSettings, RaySettings, WorkerSettings
from vp_ray.reward.config import RewardSettings
from vp_ray.reward.job import run
from vp_ray.storage import RunFolder


def settings(backbone: str) -> RewardSettings:
    """Fifteen updates on two workers, with a checkpoint after every third."""
    return RewardSettings(
        backbone=backbone,
        epochs=3,
        batch_groups=4,
        micro_batches=2,
        validate_every=3,
        validation_share=0.25,
        # Adam divides by the size of gradients: an epsilon above rounding keeps the smallest from being a step.
        optimizer=OptimizerSettings(learning_rate=1e-3, epsilon=1e-5),
        workers=WorkerSettings(num_workers=2),
    )


if __name__ == "__main__":
    with connect(RaySettings(logical_cpus=8)):
        run(settings(sys.argv[2]), RunFolder.at(sys.argv[1]))
