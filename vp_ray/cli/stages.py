"""One command a stage; annotate and evaluate can do more than run theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from vp_ray.cli.options import AsJson, DryRun, Job, Set, aspects, print_json
from vp_ray.cli.running import run_file
from vp_ray.errors import SettingsError


def _plain(name: str, text: str) -> Callable[..., None]:
    """The command of a stage that only runs."""

    def command(job: Job, assignments: Set = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
        run_file(job, assignments, name, name, dry_run, as_json)

    command.__doc__ = text
    return command


def annotate(
    job: Job,
    assignments: Set = None,
    dry_run: DryRun = False,
    retry: Annotated[
        str | None,
        typer.Option(metavar="STATUSES", help="Asks again what ended so: refused,unreadable (see dead_letters.jsonl)."),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Prints requests, tokens, dollars and hours, and asks nothing.")
    ] = False,
    tier: Annotated[
        str | None, typer.Option(metavar="RPM/TPM", help="Requests and tokens a minute for --estimate.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Has an MLLM judge the images."""
    if estimate:
        _estimate(job, assignments, tier, as_json)
        return
    if tier is not None:
        raise SettingsError("--tier has no effect without --estimate", "Give both.", "--tier")
    if retry is not None:
        from vp_ray.annotate.job import reopen
        from vp_ray.locking import locked
        from vp_ray.pipeline.settings import load_job
        from vp_ray.storage import RunFolder

        run = RunFolder.at(load_job(job, assignments or ()).run)
        with locked(run):
            count = reopen(run, [status.strip() for status in retry.split(",") if status.strip()])
        typer.echo(f"{count} judgements are asked again", err=as_json)
    run_file(job, assignments, "annotate", "annotate", dry_run, as_json)


def _estimate(path: Path, assignments: list[str] | None, tier: str | None, as_json: bool) -> None:
    from dataclasses import asdict

    from vp_ray.annotate.estimate import estimate, read_tier
    from vp_ray.pipeline.settings import load_job
    from vp_ray.storage import RunFolder

    job = load_job(path, assignments or ())
    if job.annotate is None:
        raise SettingsError("this job has no section 'annotate'", "Add one.", str(path))
    rows = estimate(job.annotate, RunFolder.at(job.run), read_tier(tier) if tier else None)
    if as_json:
        print_json({"annotators": [asdict(row) for row in rows]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("annotator")
    for column in ("requests", "request tokens", "reply tokens", "US dollars", "hours"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        counts = (f"{number:,}" for number in (row.requests, row.request_tokens, row.reply_tokens))
        more = ("?" if number is None else f"{number:,.2f}" for number in (row.cost_usd, row.hours))
        table.add_row(row.annotator, *counts, *more)
    Console().print(table)


def evaluate(
    job: Annotated[Path | None, typer.Argument(help="A job file; not with --table.", show_default=False)] = None,
    assignments: Set = None,
    dry_run: DryRun = False,
    table: Annotated[
        str | None, typer.Option(metavar="KIND", help="Makes a table instead; `rewards` is the kind there is.")
    ] = None,
    scorers: Annotated[
        list[str] | None,
        typer.Option("--scorer", metavar="[NAME=]SPEC", help="A checkpoint or, e.g., imagereward:PLACE; may repeat."),
    ] = None,
    tests: Annotated[
        list[str] | None,
        typer.Option("--test", metavar="[NAME=]RUN", help="A run with imported or judged pairs; may repeat."),
    ] = None,
    aspect: Annotated[
        str, typer.Option(help="The aspect whose pairs are compared.", autocompletion=aspects)
    ] = "overall",
    out: Annotated[Path, typer.Option(help="Folder of the table as text, JSON and CSV.")] = Path("rewards"),
    device: Annotated[str, typer.Option(help="Where scorers compute, e.g. cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Compares the tuned generator with its base; with --table rewards, scorers on the pairs of other runs."""
    if table is None:
        if job is None:
            raise SettingsError("there is no job file", "Give one, or --table rewards with --test.", "evaluate")
        if scorers or tests:
            raise SettingsError("--scorer and --test have no effect without --table", "Add --table rewards.", "--table")
        run_file(job, assignments, "evaluate", "evaluate", dry_run, as_json)
        return
    if table != "rewards" or job is not None or assignments or dry_run or as_json:
        raise SettingsError("a table is made of --scorer and --test alone", "Write --table rewards.", "--table")
    from vp_ray.evaluate.table_job import make_table

    typer.echo(make_table(scorers or (), tests or (), aspect, out, device, lambda text: typer.echo(text, err=True)))


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "prompts": _plain("prompts", "Reads, cleans and splits the prompts."),
    "import": _plain("import", "Takes an existing data set of images and human choices in."),
    "generate": _plain("generate", "Draws the images."),
    "annotate": annotate,
    "preferences": _plain("preferences", "Makes pairs of the judgements."),
    "reward": _plain("reward", "Trains VP-Score on the pairs."),
    "rl": _plain("rl", "Fine-tunes the generator against VP-Score."),
    "evaluate": evaluate,
    "report": _plain("report", "Writes the HTML report."),
}
"""The commands of all stages, in their order."""
