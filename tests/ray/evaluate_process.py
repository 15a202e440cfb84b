"""Runs the evaluate stage of a small run on a local cluster: `evaluate_process.py RUN JUDGE_URL`; may be killed."""

from __future__ import annotations

import sys
from typing import Any

from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.evaluate.job import run
from vp_ray.storage import RunFolder

JUDGE = {"name": "oracle", "model": "shapeworld-oracle", "base_url": "embedded", "requests_per_minute": 0}
BASE = {"name": "weak", "source": "embedded:weak", "steps": 6, "guidance_scale": 1.0, "batch_size": 4}


def settings() -> EvaluateSettings:
    """Eight shards of 8 images each."""
    values: dict[str, Any] = {"base": BASE, "judges": [JUDGE], "vp_score": False}
    return EvaluateSettings.load(values | {"images_per_prompt": 4, "batches_per_shard": 2})


if __name__ == "__main__":
    with connect(RaySettings(logical_cpus=8)):
        run(settings(), RunFolder.at(sys.argv[1]), sys.argv[2])
