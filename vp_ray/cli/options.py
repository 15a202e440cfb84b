"""Arguments and options that several commands have, and what the shell completes them with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer


def _stages(incomplete: str) -> list[str]:
    from vp_ray.pipeline.stages import STAGE_NAMES

    return [name for name in STAGE_NAMES if name.startswith(incomplete)]


def _keys(incomplete: str) -> Iterator[str]:
    """Keys of a job file as `rl.epochs=`; of a key that holds others, `rl.`."""
    from vp_ray.config import keys_at
    from vp_ray.pipeline.settings import JobSettings

    parents, _, last = incomplete.rpartition(".")
    where = [part for part in parents.split(".") if part]
    for key in keys_at(JobSettings, where):
        if key.startswith(last):
            path = ".".join([*where, key])
            yield f"{path}." if keys_at(JobSettings, [*where, key]) else f"{path}="


def aspects(incomplete: str) -> list[str]:
    """The aspects whose names begin so."""
    from vp_ray.records import ASPECTS, OVERALL

    return [name for name in (OVERALL, *ASPECTS) if name.startswith(incomplete)]


Job = Annotated[Path, typer.Argument(help="A job file such as jobs/demo.yaml.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Overrides one setting, e.g. rl.epochs=3; may repeat.",
        autocompletion=_keys,
    ),
]
First = Annotated[
    str | None,
    typer.Option("--from", metavar="STAGE", help="Begins with this stage.", autocompletion=_stages),
]
Last = Annotated[
    str | None,
    typer.Option("--until", metavar="STAGE", help="Ends with this stage.", autocompletion=_stages),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Prints the plan and starts nothing.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Prints one JSON object; what is told meanwhile goes to the error stream.")
]
Port = Annotated[int, typer.Option(help="Port on loopback; 0 takes a free one.", min=0, max=65535)]
OpenBrowser = Annotated[bool, typer.Option("--open/--no-open", help="Opens the page in the browser.")]


def print_json(value: Any) -> None:
    """One line of JSON on standard output; numbers that JSON lacks are refused."""
    typer.echo(json.dumps(value, allow_nan=False, default=str))
