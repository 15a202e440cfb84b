"""Commands that run a job, here or on a cluster, and that tell how far it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp_ray.cli.options import AsJson, DryRun, First, Job, Last, Set, print_json
from vp_ray.errors import InputError, SettingsError

if TYPE_CHECKING:
    from vp_ray.pipeline.running import Finished
    from vp_ray.pipeline.settings import JobSettings


def run_file(
    path: Path,
    assignments: list[str] | None,
    first: str | None,
    last: str | None,
    dry_run: bool = False,
    as_json: bool = False,
) -> None:
    """Runs or plans the stages of a job file from `first` to `last`, and prints what they made."""
    from vp_ray.pipeline.settings import load_job

    job = load_job(path, assignments or ())
    if dry_run:
        _plan(job, first, last, as_json)
        return
    from rich.console import Console

    from vp_ray.pipeline.running import run_job
    from vp_ray.pipeline.summary import print_summary
    from vp_ray.storage import RunFolder

    uri = RunFolder.at(job.run).uri
    with _quiet(as_json):
        console = Console()

        def tell(name: str, finished: Finished) -> None:
            state = "was finished" if finished.skipped else f"finished in {finished.manifest.seconds:.1f} s"
            console.print(f"[bold]{name}[/] {state}", highlight=False)

        results = run_job(job, first, last, tell)
        console.print()
        print_summary(results, console)
        if "report" in results:
            console.print(f"\nReport: {uri}/report/index.html", soft_wrap=True, highlight=False)
    if as_json:
        print_json({"run": uri, "stages": _told(results)})


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Standard output goes to the error stream, where it is to hold one JSON object alone."""
    if not quiet:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def _told(results: Mapping[str, Finished]) -> list[dict[str, Any]]:
    return [
        {
            "stage": name,
            "skipped": finished.skipped,
            "rows": finished.manifest.rows,
            "seconds": finished.manifest.seconds,
            "cost_usd": finished.manifest.cost_usd,
            "figures": finished.manifest.figures,
        }
        for name, finished in results.items()
    ]


def _plan(job: JobSettings, first: str | None, last: str | None, as_json: bool) -> None:
    from dataclasses import asdict

    from vp_ray.pipeline.summary import job_costs, plan_of, print_plan
    from vp_ray.storage import RunFolder

    if as_json:
        stages = [asdict(stage) for stage in plan_of(job, first, last)]
        estimate = [asdict(cost) for cost in job_costs(job)]
        print_json({"run": RunFolder.at(job.run).uri, "stages": stages, "estimate": estimate})
        return
    from rich.console import Console

    print_plan(job, first, last, Console())


def run(
    job: Job,
    assignments: Set = None,
    first: First = None,
    last: Last = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Runs the stages of a job; finished ones are skipped, and a run that was cut off goes on where it was."""
    run_file(job, assignments, first, last, dry_run, as_json)


def demo(assignments: Set = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Runs the whole loop in the embedded world: no download, no key, no GPU."""
    places = (
        Path(__file__).parents[2] / "jobs" / "demo.yaml",
        Path(sys.prefix) / "share" / "vp_ray" / "jobs" / "demo.yaml",
    )
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            "the demo's job file is not installed", "Run `vp-ray run jobs/demo.yaml` in the repository.", str(places[0])
        )
    run_file(found, assignments, None, None, dry_run, as_json)


def submit(
    job: Job,
    cluster: Annotated[
        str, typer.Option(help="Address of the cluster's dashboard, e.g. http://localhost:8265.", show_default=False)
    ],
    assignments: Set = None,
    first: First = None,
    last: Last = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Runs the package that is installed there, not the one that is here.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Follows the job's output until it ends.")] = True,
) -> None:
    """Runs a job on a cluster, as `ray job submit` does; the same command again goes on with the run."""
    from vp_ray.pipeline.running import chosen_stages
    from vp_ray.pipeline.settings import load_job

    settings = load_job(job, assignments or ())
    chosen_stages(settings, first, last)
    if "://" not in settings.run and not Path(settings.run).is_absolute():
        raise SettingsError(
            f"the run directory '{settings.run}' would lie in the job's own folder on the cluster",
            "Set `run` to a path that every node mounts, or to a URI.",
            str(job),
        )
    # The file may name the run by a variable of this machine's environment.
    words = [word for assignment in (*(assignments or ()), f"run={settings.run}") for word in ("--set", assignment)]
    words += [word for name, stage in (("--from", first), ("--until", last)) if stage for word in (name, stage)]
    from vp_ray.distributed.submission import follow
    from vp_ray.distributed.submission import submit as submit_to

    client, submission = submit_to(job, settings.run, words, cluster, not installed, typer.echo)
    if wait:
        good = follow(client, submission, lambda text: typer.echo(text, nl=False))
        raise typer.Exit(0 if good else 1)


def status(
    run: Annotated[str, typer.Argument(help="A run directory or URI, e.g. runs/demo or s3://bucket/run.")],
    as_json: AsJson = False,
) -> None:
    """Tells how far a run is: stages, rates, cost, time left; from any machine that reaches its directory."""
    from dataclasses import asdict

    from vp_ray.pipeline.status import duration, sentence, status_of
    from vp_ray.storage import RunFolder

    found = status_of(RunFolder.at(run))
    if as_json:
        print_json({"run": RunFolder.at(run).uri, "stages": [asdict(stage) for stage in found]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("stage", "state", "progress", "time", "left", "usd"):
        table.add_column(column, justify="right" if column in ("time", "left", "usd") else "left", overflow="fold")
    for stage in found:
        cost = f"{stage.cost_usd:.4f}" if stage.cost_usd else ""
        told = (duration(stage.seconds), duration(stage.seconds_left))
        table.add_row(stage.stage, stage.state, sentence(stage), *told, cost)
    Console().print(table)
