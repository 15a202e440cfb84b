"""Wires the generate stage: plan, actor pools, one Parquet file a shard.

generate/plan.parquet      every image with its id, seed, guidance and file, written before anything is drawn
generate/measured.json     what each generator's shards took, for the estimates of --dry-run
generate/images/*.parquet  one shard, drawn
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.distributed.metrics import ImageMetrics
from vp_ray.distributed.shards import run_shards
from vp_ray.errors import InputError
from vp_ray.generate.config import GenerateSettings
from vp_ray.generate.plan_file import PLAN_FILE, PlannedShardMaker, ShardPlace, shard_places, write_plan
from vp_ray.generate.planning import Measured, read_measured, write_measured
from vp_ray.models.sources import check_source
from vp_ray.storage import Folder, RunFolder, StageFolder, StageOutcome
from vp_ray.telemetry import progress

IMAGES_FOLDER: Final = "images"
_SHARDS_AT_ONCE: Final = 2
"""An actor draws one shard while it writes another."""
_MEASURED_SECONDS: Final = 30.0


def run(settings: GenerateSettings, run: RunFolder) -> StageOutcome:
    """Draws every image of the plan that is not there yet, into `generate/images/*.parquet`.

    Raises `CheckpointError` before the first actor starts when a model is not there.
    """
    splits = pa.array(settings.splits, pa.string())
    prompts = run.source("prompts").read_table("prompts.parquet", ["prompt_id", "prompt", "split"])
    prompts = prompts.filter(pc.is_in(prompts["split"], splits)).drop_columns(["split"])
    if not prompts.num_rows:
        raise InputError(
            f"no prompt is in the splits {', '.join(settings.splits)}", "Set generate.splits to a split that has some."
        )
    for pool in settings.generators:
        check_source(pool.model_settings())
    stage = run.stage("generate")
    folder = (stage / IMAGES_FOLDER).make()
    if not stage.exists(PLAN_FILE):
        write_plan(stage, prompts, settings)
    planned = shard_places(stage)
    seconds, drawn = _draw(settings, planned, stage, folder)
    folder.seal(shard.file for shards in planned.values() for shard in shards)
    rows = folder.read_table(".", columns=["status", "flags"])
    flags = Counter(flag for flags in rows["flags"].to_pylist() for flag in flags or ())
    return StageOutcome(
        rows=dict(Counter(rows["status"].to_pylist())),
        figures={"images_per_second": drawn / seconds if drawn else None, "flags": dict(flags)},
    )


def _draw(
    settings: GenerateSettings, planned: Mapping[str, Sequence[ShardPlace]], stage: StageFolder, folder: Folder
) -> tuple[float, int]:
    """Seconds and images of the shards that were not there."""
    done = set(folder.listed())
    measured = read_measured(stage)
    every = [shard for shards in planned.values() for shard in shards]
    made = sum(shard.rows for shard in every if shard.file in done)
    drawn, started = 0, time.monotonic()
    noted, counted = started, ImageMetrics()
    with progress("generate", "images", sum(shard.rows for shard in every)) as bar:
        bar.update(made)
        for pool in settings.generators:
            missing = [shard.told() for shard in planned[pool.name] if shard.file not in done]
            name = pool.name
            took = measured.setdefault(name, Measured())

            def count(result: dict[str, Any], name: str = name, took: Measured = took) -> None:
                nonlocal made, drawn, noted
                took.add(result)
                counted.shard(name, result)
                made += result["rows"]
                drawn += result["rows"]
                bar.update(made, note=f"{name}, {drawn / (time.monotonic() - started):.1f} images/s")
                if time.monotonic() - noted > _MEASURED_SECONDS:
                    write_measured(stage, measured)
                    noted = time.monotonic()

            model = pool.model_settings().model_dump(mode="json")
            arguments = {"generator": model, "folder": folder.uri, "plan": stage.uri}
            run_shards(missing, PlannedShardMaker, arguments, pool.pool, f"generate {name}", count, _SHARDS_AT_ONCE)
    if drawn:
        write_measured(stage, measured)
    return time.monotonic() - started, drawn
