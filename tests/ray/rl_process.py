"""Runs the rl stage of a run on a local cluster: `rl_process.py RUN GENERATOR`; may be killed."""

from __future__ import annotations

import sys

from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.reward.config import ServiceSettings
from vp_ray.reward.running import running_service
from vp_ray.rl.config import RlSettings
from vp_ray.rl.job import run as run_stage
from vp_ray.storage import RunFolder, StageOutcome


def settings(generator: str) -> RlSettings:
    """Four epochs of 32 images on two workers, with a checkpoint after each."""
    values = {
        "generator": generator,
        "lora": {"rank": 2, "alpha": 2},
        "reward_weights": {"fidelity": 1.0, "aesthetic": 0.5},
        "epochs": 4,
        "prompts_per_epoch": 4,
        "samples_per_prompt": 8,
        "batch_size": 8,
        "steps": 3,
        "held_out_prompts": 4,
        "evaluate_every": 2,
        "checkpoint_every": 1,
        "early_stop_patience": 0,
        "keep": "last",
        "workers": {"num_workers": 2},
    }
    return RlSettings.load(values)


def run(place: RunFolder, generator: str) -> StageOutcome:
    """The stage with its service; each image is scored alone, so that scores do not depend on what came together."""
    with running_service((place.stage("reward") / "checkpoint").uri, ServiceSettings(max_batch_images=1)) as app_name:
        return run_stage(settings(generator), place, app_name)


if __name__ == "__main__":
    with connect(RaySettings(logical_cpus=8)):
        run(RunFolder.at(sys.argv[1]), sys.argv[2])
