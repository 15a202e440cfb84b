"""A driver that annotates a run until it is killed: `python -m tests.ray.annotating_process RUN URL`."""

from __future__ import annotations

import sys

from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.job import run
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.storage import RunFolder

SETTINGS = {
    "annotators": [
        {
            "name": "judge",
            "model": "shapeworld-judge",
            "base_url": "embedded",
            "requests_per_minute": 0,
            "concurrency": 4,
        }
    ],
    "requests_per_shard": 8,
}

if __name__ == "__main__":
    folder, url = sys.argv[1:]
    with connect(RaySettings()):
        run(AnnotateSettings.load(SETTINGS), RunFolder.at(folder), url)
