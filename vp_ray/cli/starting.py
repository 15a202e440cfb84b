"""Commands for the beginning: a job file of one's own, what the machine lacks, the embedded models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vp_ray.cli.options import AsJson, Set, print_json
from vp_ray.errors import SettingsError


def _cases(incomplete: str) -> list[tuple[str, str]]:
    from vp_ray.pipeline.starting import CASES

    return [(name, text) for name, text in CASES.items() if name.startswith(incomplete)]


def init(
    case: Annotated[
        str,
        typer.Argument(
            help="trial, prompts, images, pairs, tune or rubric.", show_default=False, autocompletion=_cases
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The file to write.")] = Path("job.yaml"),
) -> None:
    """Writes a commented job file for your case, to be changed and run; or a rubric, to be changed and named in one."""
    from vp_ray.pipeline.starting import CASES, RUBRIC, write_job

    write_job(case, out)
    typer.echo(f"{out}: {CASES[case]}")
    then = f"annotate: {{rubric: {out}}}" if case == RUBRIC else f"vp-ray run {out} --dry-run"
    typer.echo(f"Look it through, then: {then}")


def doctor(
    job: Annotated[Path | None, typer.Argument(help="A job file, whose own needs are checked too.")] = None,
    assignments: Set = None,
    as_json: AsJson = False,
) -> None:
    """Names what this machine lacks for a run, with the remedy. Exit code 1 where something lacks."""
    from dataclasses import asdict

    from vp_ray.pipeline.doctor import checks
    from vp_ray.pipeline.settings import load_job

    if job is None and assignments:
        raise SettingsError("--set has no effect without a job file", "Give both.", "--set")
    found = []
    for check in checks(load_job(job, assignments or ()) if job is not None else None):
        found.append(check)
        if not as_json:
            told = f"{'ok   ' if check.good else 'LACKS'} {check.name}: {check.found}"
            typer.echo(told if check.good else f"{told} - {check.remedy}")
    if as_json:
        print_json({"checks": [asdict(check) for check in found]})
    raise typer.Exit(0 if all(check.good for check in found) else 1)


def train(
    out: Annotated[Path, typer.Option(help="Directory for the finished models.")] = Path("weights"),
    work: Annotated[
        Path, typer.Option(help="Directory for checkpoints; a training that was cut off goes on there.")
    ] = Path("weights/work"),
    seed: Annotated[int, typer.Option(help="Changes every weight.")] = 0,
    parts: Annotated[list[str] | None, typer.Option("--part", help="strong, weak or blip; all when not given.")] = None,
) -> None:
    """Trains the embedded generators and the reward model's backbone from a seed."""
    from vp_ray.shapeworld.weights import train_weights

    train_weights(out, work, seed, parts, typer.echo)
