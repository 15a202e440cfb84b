"""The command that makes runs over several seeds and lays tables out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vp_ray.cli.options import AsJson, Set, print_json
from vp_ray.errors import SettingsError


def tables(
    file: Annotated[Path, typer.Argument(help="A file of tables such as jobs/tables.yaml.", show_default=False)],
    assignments: Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Lists the runs and how far they are.")] = False,
    layout: Annotated[bool, typer.Option("--layout", help="Lays out what is finished, and makes no run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Makes the runs behind a file of tables, for every seed, and lays the tables out; again to go on."""
    from vp_ray.config import override, read_yaml
    from vp_ray.tables.config import TablesSettings

    settings = TablesSettings.load(override(read_yaml(file), assignments or ()), str(file))
    if dry_run and layout:
        raise SettingsError("--layout has no effect with --dry-run", "Give one of them.", "--layout")
    if dry_run:
        from vp_ray.tables.runs import states

        found = [{"seed": run.seed, "run": run.name, "state": state} for run, state in states(settings)]
        if as_json:
            print_json({"runs": found})
        for row in found if not as_json else ():
            typer.echo(f"seed {row['seed']}  {row['run']:20}  {row['state']}")
        return
    from vp_ray.tables.job import lay_out, make_tables

    made = (lay_out if layout else make_tables)(settings, lambda text: typer.echo(text, err=True))
    if as_json:
        print_json({"tables": made})
        return
    from vp_ray.tables.layout import as_markdown

    typer.echo(as_markdown(made), nl=False)
    typer.echo(f"\nTables: {settings.folder}/tables.md")
