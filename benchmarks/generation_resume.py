"""Images that are drawn twice when a generation is killed with -9 in the middle and started again.

An image counts as drawn from the moment when its batch begins, as the actors note in a file.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from runs import ROOT, print_figure
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.distributed.shards import run_shards
from vp_ray.generate.config import GenerateSettings
from vp_ray.generate.planning import plan_generation
from vp_ray.ids import content_id
from vp_ray.models.image_shards import ImageShardMaker
from vp_ray.shapeworld.scenes import all_scenes, prompt_of

ACTORS, BATCH, BATCHES_PER_SHARD, SHARDS = 2, 32, 2, 24

pool = {"min_actors": ACTORS, "max_actors": ACTORS}
generator = {"name": "strong", "source": "embedded:strong", "steps": 10, "batch_size": BATCH, "pool": pool}
settings = GenerateSettings.load({"generators": [generator], "batches_per_shard": BATCHES_PER_SHARD})
scenes = list(all_scenes())[: BATCH * BATCHES_PER_SHARD * SHARDS]
prompts = [{"prompt": prompt_of(scene), "prompt_id": content_id(prompt_of(scene))} for scene in scenes]
(plan,) = plan_generation(prompts, settings)


class NotingMaker(ImageShardMaker):
    """Notes the seed of every image whose drawing begins."""

    def __init__(self, log: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        draw = self.model.draw

        def noted(requests: Any, scheduler: Any) -> Any:
            with Path(log).open("a") as file:
                file.write("".join(f"{request.seed}\n" for request in requests))
            return draw(requests, scheduler)

        self.model.draw = noted  # type: ignore[method-assign]


def draw(folder: Path) -> None:
    """The stage's own loop over the shards that are not there."""
    done = {path.name for path in (folder / "images").glob("*.parquet")}
    missing = [shard for shard in plan.shards if shard["file"] not in done]
    arguments = {
        "log": str(folder / "log"),
        "generator": plan.model.model_dump(mode="json"),
        "folder": str(folder / "images"),
    }
    with connect(RaySettings()):
        run_shards(missing, NotingMaker, arguments, settings.generators[0].pool, "resume", lambda _: None, 2)


if len(sys.argv) > 1:
    draw(Path(sys.argv[1]))
    sys.exit()
with tempfile.TemporaryDirectory(prefix="vp-resume-") as name:
    folder = Path(name)
    command = [sys.executable, str(ROOT / "benchmarks" / "generation_resume.py"), name]
    process = subprocess.Popen(command, start_new_session=True)
    while len(list((folder / "images").glob("*.parquet"))) < SHARDS // 2:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(5)
    subprocess.run(command, check=True)
    drawn = Counter((folder / "log").read_text().split())
    files = len(list((folder / "images").glob("*.parquet")))
assert files == SHARDS, "a shard is missing"
assert len(drawn) == len(scenes), "an image was never drawn"
repeated = sum(drawn.values()) - len(drawn)
block = BATCH * BATCHES_PER_SHARD
print_figure("generation_repeated_share", repeated / len(drawn), "share of images", "one that is never killed")
print_figure(
    "generation_repeated_blocks",
    repeated / (block * ACTORS),
    "blocks an actor",
    "one that is never killed",
    block=block,
)
