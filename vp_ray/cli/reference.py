"""The reference of the command line, out of the commands themselves: `python -m vp_ray.cli.reference > docs/cli.md`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

import typer

from vp_ray.cli.examples import EXAMPLES
from vp_ray.cli.exit_codes import MEANINGS
from vp_ray.cli.program import app

_HEAD: Final = """# Command line

Every command with its arguments and options; the same is said by `vp-ray COMMAND --help`. Made by
`python -m vp_ray.cli.reference`.

`vp-ray --install-completion` teaches your shell (bash, zsh, fish, PowerShell) commands, options, stages, aspects and
the keys of `--set`. With `--json` a command prints one JSON object (`score`: one a line) on standard output and all
else on the error stream. A misspelt command, option, key, stage or case is answered with the nearest that there is.

## Exit codes

| code | meaning |
|---|---|
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Each command by its words after `vp-ray`, groups followed by their own."""
    yield from _inside(typer.main.get_command(app), "")


def _inside(group: Any, before: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _inside(command, f"{before}{name} ")
        else:
            yield before + name, command


def _section(words: str, command: Any) -> Iterator[str]:
    yield f"\n## vp-ray {words}\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    yield "```\n" + "\n".join(EXAMPLES[words]) + "\n```\n"
    yield "| argument or option | default | meaning |"
    yield "|---|---|---|"
    for parameter in command.params:
        if parameter.name != "help":
            yield _row(parameter)


def _row(parameter: Any) -> str:
    is_option = parameter.param_type_name == "option"
    is_flag = getattr(parameter, "is_flag", False)
    value = "" if is_flag or not is_option else f" {parameter.metavar or parameter.bare_type().upper()}"
    names = [*parameter.opts, *parameter.secondary_opts] if is_option else [parameter.name]
    shown = ", ".join(f"`{name}{value}`" for name in names)
    meaning = " ".join((parameter.help or "").split()).replace("|", "or")
    return f"| {shown} | {_default(parameter)} | {meaning} |"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None or parameter.default is False or parameter.default == "":
        return ""
    return f"`{parameter.opts[0]}`" if parameter.default is True else f"`{parameter.default}`"


def reference() -> str:
    """Markdown: exit codes, then every command."""
    lines = [_HEAD + "\n".join(f"| {code} | {meaning} |" for code, meaning in MEANINGS.items())]
    for words, command in commands():
        lines += _section(words, command)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
