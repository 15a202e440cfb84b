"""The command line. Heavy modules are imported by the command that needs them, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vp_ray.errors import InputError, SettingsError, VpRayError
from vp_ray.score.command import score

app = typer.Typer(
    name="vp-ray",
    help="Align text-to-image models with AI feedback: generate, judge, learn a reward, fine-tune, evaluate.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
shapeworld = typer.Typer(
    help="The embedded world: coloured shapes, tiny models, a judge that knows the truth.", no_args_is_help=True
)
app.add_typer(shapeworld, name="shapeworld")

Job = Annotated[Path, typer.Argument(help="A job file such as jobs/demo.yaml.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Overrides one setting, e.g. rl.epochs=3; may repeat."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Prints the plan and starts nothing.")]


def _run(path: Path, assignments: list[str] | None, first: str | None, last: str | None, dry_run: bool) -> None:
    from rich.console import Console

    from vp_ray.pipeline.settings import load_job

    console = Console()
    job = load_job(path, assignments or ())
    if dry_run:
        from vp_ray.pipeline.summary import print_plan

        print_plan(job, first, last, console)
        return
    from vp_ray.pipeline.running import Finished, run_job
    from vp_ray.pipeline.summary import print_summary
    from vp_ray.storage import RunFolder

    def tell(name: str, finished: Finished) -> None:
        state = "was finished" if finished.skipped else f"finished in {finished.manifest.seconds:.1f} s"
        console.print(f"[bold]{name}[/] {state}", highlight=False)

    results = run_job(job, first, last, tell)
    console.print()
    print_summary(results, console)
    if "report" in results:
        console.print(f"\nReport: {RunFolder.at(job.run).uri}/report/index.html", soft_wrap=True, highlight=False)


@app.command()
def run(
    job: Job,
    assignments: Set = None,
    first: Annotated[str | None, typer.Option("--from", metavar="STAGE", help="Begins with this stage.")] = None,
    last: Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Ends with this stage.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Runs the stages of a job; finished ones are skipped, and a run that was cut off goes on where it was."""
    _run(job, assignments, first, last, dry_run)


@app.command()
def submit(
    job: Job,
    cluster: Annotated[
        str, typer.Option(help="Address of the cluster's dashboard, e.g. http://localhost:8265.", show_default=False)
    ],
    assignments: Set = None,
    first: Annotated[str | None, typer.Option("--from", metavar="STAGE", help="Begins with this stage.")] = None,
    last: Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Ends with this stage.")] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Runs the package that is installed there, not the one that is here.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Follows the job's output until it ends.")] = True,
) -> None:
    """Runs a job on a cluster, as `ray job submit` does; the same command again goes on with the run."""
    from vp_ray.errors import SettingsError
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


@app.command()
def demo(assignments: Set = None, dry_run: DryRun = False) -> None:
    """Runs the whole loop in the embedded world: no download, no key, no GPU."""
    places = (
        Path(__file__).parents[1] / "jobs" / "demo.yaml",
        Path(sys.prefix) / "share" / "vp_ray" / "jobs" / "demo.yaml",
    )
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            "the demo's job file is not installed", "Run `vp-ray run jobs/demo.yaml` in the repository.", str(places[0])
        )
    _run(found, assignments, None, None, dry_run)


def _stage_command(name: str, text: str) -> None:
    def command(job: Job, assignments: Set = None, dry_run: DryRun = False) -> None:
        _run(job, assignments, name, name, dry_run)

    app.command(name, help=text, rich_help_panel="Stages of a job")(command)


for _name, _text in (
    ("prompts", "Reads, cleans and splits the prompts."),
    ("import", "Takes an existing data set of images and human choices in."),
    ("generate", "Draws the images."),
    ("preferences", "Makes pairs of the judgements."),
    ("reward", "Trains VP-Score on the pairs."),
    ("rl", "Fine-tunes the generator against VP-Score."),
    ("report", "Writes the HTML report."),
):
    _stage_command(_name, _text)


def _estimate(path: Path, assignments: list[str] | None, tier: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from vp_ray.annotate.estimate import estimate, read_tier
    from vp_ray.pipeline.settings import load_job
    from vp_ray.storage import RunFolder

    job = load_job(path, assignments or ())
    if job.annotate is None:
        raise SettingsError("this job has no section 'annotate'", "Add one.", str(path))
    table = Table(box=None, pad_edge=False)
    table.add_column("annotator")
    for column in ("requests", "request tokens", "reply tokens", "US dollars", "hours"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in estimate(job.annotate, RunFolder.at(job.run), read_tier(tier) if tier else None):
        counts = (f"{number:,}" for number in (row.requests, row.request_tokens, row.reply_tokens))
        more = ("?" if number is None else f"{number:,.2f}" for number in (row.cost_usd, row.hours))
        table.add_row(row.annotator, *counts, *more)
    Console().print(table)


@app.command(rich_help_panel="Stages of a job")
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
) -> None:
    """Has an MLLM judge the images."""
    if estimate:
        _estimate(job, assignments, tier)
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
        typer.echo(f"{count} judgements are asked again")
    _run(job, assignments, "annotate", "annotate", dry_run)


@app.command(rich_help_panel="Stages of a job")
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
    aspect: Annotated[str, typer.Option(help="The aspect whose pairs are compared.")] = "overall",
    out: Annotated[Path, typer.Option(help="Folder of the table as text, JSON and CSV.")] = Path("rewards"),
    device: Annotated[str, typer.Option(help="Where scorers compute, e.g. cuda.")] = "cpu",
) -> None:
    """Compares the tuned generator with its base; with --table rewards, scorers on the pairs of other runs."""
    if table is None:
        if job is None:
            raise SettingsError("there is no job file", "Give one, or --table rewards with --test.", "evaluate")
        if scorers or tests:
            raise SettingsError("--scorer and --test have no effect without --table", "Add --table rewards.", "--table")
        _run(job, assignments, "evaluate", "evaluate", dry_run)
        return
    if table != "rewards" or job is not None or assignments or dry_run:
        raise SettingsError("a table is made of --scorer and --test alone", "Write --table rewards.", "--table")
    from vp_ray.evaluate.table_job import make_table

    typer.echo(make_table(scorers or (), tests or (), aspect, out, device, lambda text: typer.echo(text, err=True)))


@app.command()
def judge(
    job: Annotated[Path | None, typer.Option(help="Takes the section `judge` of a job file.")] = None,
    assignments: Set = None,
) -> None:
    """Serves the embedded judge as an OpenAI-compatible server, on loopback unless its settings say otherwise."""
    from vp_ray.config import override, read_yaml
    from vp_ray.shapeworld.config import JudgeSettings
    from vp_ray.shapeworld.judge_server import serve

    values: dict[str, Any] = (read_yaml(job).get("judge") or {}) if job else {}
    serve(JudgeSettings.load(override(values, assignments or ()), str(job or "judge")))


@app.command()
def serve(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]CHECKPOINT...",
            help="VP-Score checkpoints, or scorers as KIND:PLACE; requests name one by its id, else take the first.",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback a token is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    token_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Environment variable with the bearer token that requests must bring."),
    ] = None,
    assignments: Set = None,
) -> None:
    """Serves reward models over HTTP until Ctrl-C: POST /v1/score, a page at /, the reference at /docs."""
    from vp_ray.config import override
    from vp_ray.reward.config import ServiceSettings
    from vp_ray.reward.names import named_models

    models = named_models(checkpoints)
    values = override({"token_env": token_env} if token_env else {}, assignments or ())
    settings = ServiceSettings.load(values, "service")
    from vp_ray.reward.service import serve_forever

    serve_forever(models, settings, host, port, typer.echo)


app.command()(score)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A run directory whose preferences are finished.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the data set; new or empty.", show_default=False)],
    repository: Annotated[
        str | None, typer.Option("--push", metavar="OWNER/NAME", help="Sends the data set to the Hugging Face Hub.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="A repository that --push makes is public.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --push: lists what would be sent, offline.")] = False,
    settings: Annotated[Path | None, typer.Option(help="YAML file of export settings: title, licence, terms.")] = None,
    assignments: Set = None,
) -> None:
    """Writes a run's prompts, images, judgements and preferences as a Hugging Face data set with its card.

    With --push, a data set that is already in --out is sent as it is.
    """
    from vp_ray.config import override, read_yaml
    from vp_ray.publish.config import ExportSettings
    from vp_ray.publish.job import export as write
    from vp_ray.publish.push import is_exported, plan_upload, push
    from vp_ray.storage import RunFolder

    if repository is None and (dry_run or public):
        raise InputError("--dry-run and --public say how to push, but nothing is pushed", "Add --push OWNER/NAME.")
    values = override(read_yaml(settings) if settings else {}, assignments or ())
    checked = ExportSettings.load(values, str(settings or "export"))
    if repository is None or not is_exported(out):
        written = write(checked, RunFolder.at(run), out)
        rows = ", ".join(f"{sum(counts.values()):,} {config}" for config, counts in written.facts.counts)
        typer.echo(f"{written.folder}: {rows}")
    if repository is None:
        return
    upload = plan_upload(out, repository, private=not public)
    if dry_run:
        for name, size in upload.files:
            typer.echo(f"{size:>14,} B  {name}")
        kind = "private" if upload.private else "public"
        typer.echo(f"{upload.size:>14,} B  would go to {upload.address} ({kind} where it is new)")
        return
    typer.echo(push(upload))


@app.command()
def view(
    run: Annotated[str, typer.Argument(help="A run directory whose preferences are finished.", show_default=False)],
    port: Annotated[int, typer.Option(help="Port on loopback; 0 takes a free one.", min=0, max=65535)] = 0,
    static: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Writes the page into this folder instead; it needs no server.")
    ] = None,
    prompts: Annotated[
        int, typer.Option(help="With --static: how many prompts, drawn by hash; 0 is all of them.", min=0)
    ] = 500,
    side: Annotated[int, typer.Option(help="Longest side of a thumbnail in pixels.", min=16, max=2048)] = 320,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Opens the page in the browser.")] = True,
) -> None:
    """Shows the pairs of a run in the browser: filters, images side by side, levels, rationales, orders."""
    from vp_ray.storage import RunFolder
    from vp_ray.view.job import view as show
    from vp_ray.view.job import view_static

    folder = RunFolder.at(run)
    if static is not None:
        typer.echo(view_static(folder, static, side, prompts or None, open_browser))
        return
    try:
        show(folder, port, side, open_browser, typer.echo)
    except KeyboardInterrupt:
        return


@app.command()
def vote(
    run: Annotated[str, typer.Argument(help="A run directory whose evaluation is finished.", show_default=False)],
    aspect: Annotated[str, typer.Option(help="What is asked: overall, or one of the four aspects.")] = "overall",
    port: Annotated[int, typer.Option(help="Port on loopback; 0 takes a free one.", min=0, max=65535)] = 0,
    show_results: Annotated[bool, typer.Option("--results", help="Prints what the votes say, and ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --results: prints JSON.")] = False,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Opens the page in the browser.")] = True,
) -> None:
    """Has people vote blindly, tuned against base, side by side in the browser; their votes calibrate the scorers."""
    from vp_ray.storage import RunFolder
    from vp_ray.vote.job import results
    from vp_ray.vote.job import vote as ask

    folder = RunFolder.at(run)
    if as_json and not show_results:
        raise InputError("--json has no effect without --results", "Give both.", "--json")
    if show_results:
        from vp_ray.vote.telling import print_results

        print_results(results(folder), as_json)
        return
    try:
        ask(folder, aspect, port, open_browser, typer.echo)
    except KeyboardInterrupt:
        return


@shapeworld.command()
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


@app.command()
def spot_agent(
    cloud: Annotated[str, typer.Option(help="aws or gcp.", show_default=False)],
    address: Annotated[str, typer.Option("--ray", help="Address of the cluster, host:port.", show_default=False)],
    metadata: Annotated[str | None, typer.Option(help="Address of another metadata server, for a trial.")] = None,
    node_id: Annotated[str | None, typer.Option(help="The Ray node to drain; this machine's when not given.")] = None,
    every_seconds: Annotated[float, typer.Option(help="Seconds between two questions.")] = 5.0,
) -> None:
    """Waits until the cloud announces that it takes this spot machine, and then has Ray drain the node."""
    from vp_ray.distributed.spot import METADATA, watch
    from vp_ray.errors import SettingsError

    if cloud not in METADATA:
        raise SettingsError(f"there is no cloud '{cloud}'", f"These are known: {', '.join(METADATA)}.", "--cloud")
    watch(cloud, address, metadata, node_id, every_seconds, typer.echo)


@app.command()
def init(
    case: Annotated[str, typer.Argument(help="trial, prompts, pairs or tune.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The file to write.")] = Path("job.yaml"),
) -> None:
    """Writes a commented job file for your case, to be changed and run."""
    from vp_ray.pipeline.starting import CASES, write_job

    write_job(case, out)
    typer.echo(f"{out}: {CASES[case]}")
    typer.echo(f"Look it through, then: vp-ray run {out} --dry-run")


@app.command()
def status(
    run: Annotated[str, typer.Argument(help="A run directory or URI, e.g. runs/demo or s3://bucket/run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Prints one JSON object.")] = False,
) -> None:
    """Tells how far a run is: stages, rates, cost, time left; from any machine that reaches its directory."""
    import json
    from dataclasses import asdict

    from vp_ray.pipeline.status import duration, sentence, status_of
    from vp_ray.storage import RunFolder

    found = status_of(RunFolder.at(run))
    if as_json:
        typer.echo(json.dumps({"run": RunFolder.at(run).uri, "stages": [asdict(stage) for stage in found]}))
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


@app.command()
def doctor(
    job: Annotated[Path | None, typer.Argument(help="A job file, whose own needs are checked too.")] = None,
    assignments: Set = None,
) -> None:
    """Names what this machine lacks for a run, with the remedy."""
    from vp_ray.pipeline.doctor import checks
    from vp_ray.pipeline.settings import load_job

    if job is None and assignments:
        raise SettingsError("--set has no effect without a job file", "Give both.", "--set")
    lacking = 0
    for check in checks(load_job(job, assignments or ()) if job is not None else None):
        lacking += not check.good
        typer.echo(
            f"{'ok   ' if check.good else 'LACKS'} {check.name}: {check.found}"
            + ("" if check.good else f" - {check.remedy}")
        )
    raise typer.Exit(2 if lacking else 0)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a `VpRayError` is one sentence and exit code 2; Ctrl-C leaves a run that can go on, code 130."""
    # transformers would tell each user at each start that its image processors could use torchvision.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    command: Callable[..., Any] = typer.main.get_command(app)
    try:
        code = command(args=arguments, standalone_mode=False)
    except VpRayError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        typer.secho("Stopped. Start the same command again: it goes on where it was.", err=True)
        sys.exit(130)
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
