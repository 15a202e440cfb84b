"""The program `vp-ray`: all its commands, and what becomes of errors and Ctrl-C."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

import typer

from vp_ray.cli import looking, running, scaling, serving, stages, starting
from vp_ray.cli.examples import EXAMPLES, epilogue
from vp_ray.cli.exit_codes import DEFECT, INTERRUPTED, REFUSED
from vp_ray.cli.tables import tables
from vp_ray.errors import VpRayError
from vp_ray.redaction import redact
from vp_ray.score.command import score

app = typer.Typer(
    name="vp-ray",
    help="Align text-to-image models with AI feedback: generate, judge, learn a reward, fine-tune, evaluate.",
    epilog=epilogue(EXAMPLES[""]),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
shapeworld = typer.Typer(
    help="The embedded world: coloured shapes, tiny models, a judge that knows the truth.", no_args_is_help=True
)

_COMMANDS: Final[dict[str, dict[str, Callable[..., None]]]] = {
    "Start": {"demo": running.demo, "init": starting.init, "doctor": starting.doctor},
    "Jobs": {
        "run": running.run,
        "submit": running.submit,
        "status": running.status,
        "scale": scaling.scale,
        "tables": tables,
    },
    "Stages of a job": stages.COMMANDS,
    "Look, ask, publish": {"view": looking.view, "vote": looking.vote, "export": looking.export},
    "Scorers and judges": {"score": score, "serve": serving.serve, "judge": serving.judge},
    "Clusters": {"spot-agent": serving.spot_agent},
}

for _panel, _commands in _COMMANDS.items():
    for _name, _function in _commands.items():
        app.command(_name, rich_help_panel=_panel, epilog=epilogue(EXAMPLES[_name]))(_function)
shapeworld.command("train", epilog=epilogue(EXAMPLES["shapeworld train"]))(starting.train)
app.add_typer(shapeworld, name="shapeworld", rich_help_panel="Scorers and judges")


def main(arguments: list[str] | None = None) -> None:
    """Entry point: ends with one of `exit_codes`; an expected error is one sentence on the error stream."""
    # transformers would tell each user at each start that its image processors could use torchvision.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    command: Callable[..., Any] = typer.main.get_command(app)
    try:
        code = command(args=arguments, standalone_mode=False)
    except VpRayError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(REFUSED)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            typer.echo(redact(traceback.format_exc()), err=True)
            sys.exit(DEFECT)
        show()
        sys.exit(REFUSED)
    # typer makes this number of Ctrl-C.
    if code == INTERRUPTED:
        typer.secho("Stopped. Start the same command again: it goes on where it was.", err=True)
    sys.exit(code if isinstance(code, int) else 0)
