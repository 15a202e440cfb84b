"""The command that says what a run of any size takes, before anybody pays for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vp_ray.cli.options import AsJson, Job, Set, print_json


def scale(
    job: Job,
    prompts: Annotated[int, typer.Option(help="How many prompts the run would have.", min=1, show_default=False)],
    gpus: Annotated[int, typer.Option(help="GPUs over which pools with GPUs spread.", min=0)] = 0,
    like: Annotated[
        list[Path] | None,
        typer.Option(metavar="JOB", help="Job file of a finished smaller run, which tells speeds; two tell start-up."),
    ] = None,
    memory: Annotated[float, typer.Option(metavar="GIB", help="Memory of the driver's node.", min=1)] = 24.0,
    days: Annotated[float, typer.Option(help="Days that an annotator may take.", min=0.01)] = 7.0,
    assignments: Set = None,
    as_json: AsJson = False,
) -> None:
    """Says how long a run of another size takes, what it leaves, and what gives out first. Starts nothing."""
    from vp_ray.pipeline.scale_report import print_scale, scale_of
    from vp_ray.pipeline.settings import load_job

    settings = load_job(job, assignments or ())
    told = scale_of(settings, [load_job(path, ()) for path in like or ()], prompts, gpus, memory, days)
    if as_json:
        print_json(told)
        return
    from rich.console import Console

    print_scale(told, Console())
