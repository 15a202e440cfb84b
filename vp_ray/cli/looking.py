"""Commands that show what a run made, ask people about it, and hand it on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vp_ray.cli.options import OpenBrowser, Port, Set, aspects
from vp_ray.errors import InputError


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


def view(
    run: Annotated[str, typer.Argument(help="A run directory whose preferences are finished.", show_default=False)],
    port: Port = 0,
    static: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Writes the page into this folder instead; it needs no server.")
    ] = None,
    prompts: Annotated[
        int, typer.Option(help="With --static: how many prompts, drawn by hash; 0 is all of them.", min=0)
    ] = 500,
    side: Annotated[int, typer.Option(help="Longest side of a thumbnail in pixels.", min=16, max=2048)] = 320,
    open_browser: OpenBrowser = True,
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


def vote(
    run: Annotated[str, typer.Argument(help="A run directory whose evaluation is finished.", show_default=False)],
    aspect: Annotated[
        str, typer.Option(help="What is asked: overall, or one of the four aspects.", autocompletion=aspects)
    ] = "overall",
    port: Port = 0,
    show_results: Annotated[bool, typer.Option("--results", help="Prints what the votes say, and ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --results: prints JSON.")] = False,
    open_browser: OpenBrowser = True,
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
