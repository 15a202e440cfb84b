"""Wires the generate stage: plan, actor pools, one Parquet file a shard.

generate/plan.parquet      every image with its id, seed, guidance and file, written before anything is drawn
generate/measured.json     what each generator's shards took, for the estimates of --dry-run
generate/images/*.parquet  one shard, drawn
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final

import pyarrow as pa

from vp_ray.distributed.shards import run_shards
from vp_ray.errors import InputError
from vp_ray.generate.config import GenerateSettings
from vp_ray.generate.planning import GeneratorPlan, Measured, plan_generation, read_measured, write_measured
from vp_ray.models.image_shards import ImageShardMaker
from vp_ray.models.loading import check_source
from vp_ray.records import PLAN
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
    prompts = [
        row
        for row in run.source("prompts").read_table("prompts.parquet").to_pylist()
        if row["split"] in settings.splits
    ]
    if not prompts:
        raise InputError(
            f"no prompt is in the splits {', '.join(settings.splits)}", "Set generate.splits to a split that has some."
        )
    plans = plan_generation(prompts, settings)
    for plan in plans:
        check_source(plan.model)
    stage = run.stage("generate")
    folder = (stage / IMAGES_FOLDER).make()
    if not stage.exists("plan.parquet"):
        stage.write_table("plan.parquet", _manifest(plans), PLAN)
    seconds, drawn = _draw(plans, stage, folder)
    folder.seal(shard["file"] for plan in plans for shard in plan.shards)
    rows = folder.read_table(".", columns=["status", "flags"])
    flags = Counter(flag for flags in rows["flags"].to_pylist() for flag in flags or ())
    return StageOutcome(
        rows=dict(Counter(rows["status"].to_pylist())),
        figures={"images_per_second": drawn / seconds if drawn else None, "flags": dict(flags)},
    )


def _manifest(plans: list[GeneratorPlan]) -> pa.Table:
    rows = [row | {"file": shard["file"]} for plan in plans for shard in plan.shards for row in shard["rows"]]
    return pa.Table.from_pylist(rows, schema=PLAN)


def _draw(plans: list[GeneratorPlan], stage: StageFolder, folder: Folder) -> tuple[float, int]:
    """Seconds and images of the shards that were not there."""
    done = set(folder.listed())
    measured = read_measured(stage)
    made = sum(len(shard["rows"]) for plan in plans for shard in plan.shards if shard["file"] in done)
    drawn, started = 0, time.monotonic()
    noted = started
    with progress("generate", "images", sum(plan.images for plan in plans)) as bar:
        bar.update(made)
        for plan in plans:
            missing = [shard for shard in plan.shards if shard["file"] not in done]
            name = plan.model.name
            took = measured.setdefault(name, Measured())

            def count(result: dict[str, Any], name: str = name, took: Measured = took) -> None:
                nonlocal made, drawn, noted
                took.add(result)
                made += result["rows"]
                drawn += result["rows"]
                bar.update(made, note=f"{name}, {drawn / (time.monotonic() - started):.1f} images/s")
                if time.monotonic() - noted > _MEASURED_SECONDS:
                    write_measured(stage, measured)
                    noted = time.monotonic()

            arguments = {"generator": plan.model.model_dump(mode="json"), "folder": folder.uri}
            run_shards(missing, ImageShardMaker, arguments, plan.pool.pool, f"generate {name}", count, _SHARDS_AT_ONCE)
    if drawn:
        write_measured(stage, measured)
    return time.monotonic() - started, drawn
