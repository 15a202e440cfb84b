"""The forecast of a run as a table: hours by stage, and what gives out first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from vp_ray.errors import SettingsError
from vp_ray.generate.planning import read_measured
from vp_ray.pipeline.limits import Limit, limits_of
from vp_ray.pipeline.scale import Trial, forecast, speeds_of, work_of
from vp_ray.pipeline.settings import JobSettings
from vp_ray.pipeline.stages import STAGE_NAMES
from vp_ray.pipeline.status import duration
from vp_ray.storage import RunFolder


def trial_of(job: JobSettings) -> Trial:
    """What a finished run of a job did and took; raises `StorageError` where its prompts are not finished."""
    run = RunFolder.at(job.run)
    splits = run.stage("prompts").finished().figures["splits"]
    manifests = {name: run.stage(name).manifest() for name in STAGE_NAMES if job.stage(name) is not None}
    seconds = {name: manifest.seconds for name, manifest in manifests.items() if manifest is not None}
    return Trial(work_of(job, splits), seconds)


def prompts_by_split(job: JobSettings, total: int) -> dict[str, int]:
    """So many prompts in the splits in which the job's sources give them."""
    if job.prompts is None:
        raise SettingsError("this job has no section 'prompts'", "Only jobs that begin with prompts are forecast.")
    counts: dict[str, int] = {}
    for source in job.prompts.sources:
        for split, count in getattr(source, "counts", {}).items():
            counts[split] = counts.get(split, 0) + count
    if not counts:
        held_out = round(total * job.prompts.held_out_share)
        return {"train": total - held_out, "held_out": held_out}
    every = sum(counts.values())
    return {split: round(total * count / every) for split, count in counts.items()}


def scale_of(
    job: JobSettings, trials: Sequence[JobSettings], prompts: int, gpus: int, memory_gib: float, days: float
) -> dict[str, Any]:
    """Stages with their work and seconds (None where nothing tells), and limits, those reached first in front."""
    splits = prompts_by_split(job, prompts)
    works = work_of(job, splits, gpus)
    seconds = forecast(works, speeds_of([trial_of(trial) for trial in trials]))
    limits = limits_of(job, splits, gpus, memory_gib, days, bytes_of_an_image=_image_bytes(trials))
    return {
        "prompts": splits,
        "gpus": gpus,
        "stages": [{**asdict(work), "seconds": seconds[name]} for name, work in works.items()],
        "limits": [_told(limit) for limit in limits],
    }


def _told(limit: Limit) -> dict[str, Any]:
    reached = None if limit.prompts == float("inf") else round(limit.prompts)
    return {**asdict(limit), "prompts": reached, "breaks": limit.breaks}


def _image_bytes(trials: Sequence[JobSettings]) -> float | None:
    measured = [took for job in trials for took in read_measured(RunFolder.at(job.run).stage("generate")).values()]
    images = sum(took.images for took in measured)
    return sum(took.bytes for took in measured) / images if images else None


def print_scale(told: dict[str, Any], console: Console) -> None:
    """Two tables: what each stage takes, and what gives out first."""
    size = f"{sum(told['prompts'].values()):,} prompts on {told['gpus']:,} GPUs"
    stages = Table(title=f"What {size} take", title_justify="left", box=None, pad_edge=False)
    for column in ("stage", "work", "rows left", "time"):
        stages.add_column(column, justify="left" if column == "stage" else "right")
    for row in told["stages"]:
        time = "?" if row["seconds"] is None else duration(row["seconds"])
        stages.add_row(row["stage"], f"{row['amount']:,.0f} {row['unit']}", f"{row['rows']:,}", time)
    console.print(stages)
    limits = Table(title="What gives out first", title_justify="left", box=None, pad_edge=False)
    for column in ("limit", "needed", "there", "reached at prompts", "remedy"):
        limits.add_column(column, justify="left" if column in ("limit", "remedy") else "right", overflow="fold")
    for row in told["limits"]:
        reached = "" if row["prompts"] is None else f"{row['prompts']:,}"
        numbers = (f"{row['needed']:,.3g} {row['unit']}", f"{row['available']:,.3g}", reached)
        limits.add_row(
            row["what"], *numbers, row["remedy"] if row["breaks"] else "", style="red" if row["breaks"] else ""
        )
    console.print(limits)
