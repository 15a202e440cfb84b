"""Images a second through the generate stage, over a bare diffusers loop of the same pipeline, batch and threads.

Steady state of one actor: from its first finished shard to its last; starting it is left out on both sides.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from runs import print_figure
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.distributed.shards import run_shards
from vp_ray.generate.config import GenerateSettings
from vp_ray.generate.planning import plan_generation
from vp_ray.ids import content_id
from vp_ray.models.image_shards import ImageShardMaker
from vp_ray.models.loading import load_pipeline
from vp_ray.shapeworld.scenes import all_scenes, prompt_of

ROUNDS, BATCH, BATCHES_PER_SHARD, SHARDS = 5, 64, 2, 7

torch.set_num_threads(1)
generator = {"name": "strong", "source": "embedded:strong", "steps": 10, "guidance_scale": 3.0, "batch_size": BATCH}
settings = GenerateSettings.load({"generators": [generator], "batches_per_shard": BATCHES_PER_SHARD})
pool = settings.generators[0]
scenes = list(all_scenes())[: BATCH * BATCHES_PER_SHARD * SHARDS]
prompts = [{"prompt": prompt_of(scene), "prompt_id": content_id(prompt_of(scene))} for scene in scenes]
(plan,) = plan_generation(prompts, settings)
pipe: Any = load_pipeline(pool.model_settings())


def bare() -> tuple[float, float]:
    """Images a second of the pipeline's own call, and seconds of a batch; no picture is encoded or kept."""
    rows = [row for shard in plan.shards[: SHARDS - 1] for row in shard["rows"]]
    started = time.monotonic()
    for first in range(0, len(rows), BATCH):
        batch = rows[first : first + BATCH]
        pipe(
            prompt=[row["prompt"] for row in batch],
            generator=[torch.Generator().manual_seed(row["seed"]) for row in batch],
            guidance_scale=pool.guidance_scale[0],
            num_inference_steps=pool.steps,
        )
    seconds = time.monotonic() - started
    return len(rows) / seconds, seconds * BATCH / len(rows)


def through_the_stage(folder: Path) -> float:
    """Images a second, from the first shard's file to the last one's."""
    arguments = {"generator": plan.model.model_dump(mode="json"), "folder": str(folder)}
    run_shards(plan.shards, ImageShardMaker, arguments, pool.pool, "overhead", lambda _: None, 2)
    times = sorted(file.stat().st_mtime for file in folder.glob("*.parquet"))
    return (len(times) - 1) * BATCH * BATCHES_PER_SHARD / (times[-1] - times[0])


bare()
ratios, batch_seconds = [], []
with connect(RaySettings()), tempfile.TemporaryDirectory() as scratch:
    through_the_stage(Path(scratch) / "warm")
    for number in range(ROUNDS):
        plain, seconds = bare()
        ratios.append(through_the_stage(Path(scratch) / str(number)) / plain)
        batch_seconds.append(seconds)
print_figure(
    "generation_overhead",
    statistics.median(ratios),
    "ratio",
    "bare diffusers loop, images not encoded",
    seconds_of_a_batch=statistics.median(batch_seconds),
    rounds=ROUNDS,
)
