"""Help, examples, completion and the reference: quick, complete, and true of the commands that there are."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from vp_ray.cli import app
from vp_ray.cli.examples import EXAMPLES
from vp_ray.cli.exit_codes import MEANINGS
from vp_ray.cli.reference import commands, reference

ROOT = Path(__file__).parents[3]
HELP_CPU_SECONDS = 0.5
COMMANDS = dict(commands())


def printed(*words: str, **environment: str) -> tuple[str, float]:
    """What `vp-ray` prints in a process of its own, and the seconds of processor time that it took."""
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("vp-ray")), *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as stream:
        out = stream.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return out, used.ru_utime + used.ru_stime


@pytest.mark.parametrize("words", ["", *COMMANDS])
def test_help_comes_at_once_with_examples(words: str) -> None:
    out, seconds = printed(*words.split(), "--help")
    assert "Usage:" in out
    assert "Examples" in out
    assert seconds < HELP_CPU_SECONDS or printed(*words.split(), "--help")[1] < HELP_CPU_SECONDS


def test_every_command_has_examples_and_no_other_has() -> None:
    assert set(EXAMPLES) == {"", *COMMANDS}


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_each_example_parses(line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    assert program == "vp-ray"
    words = words[: words.index(">")] if ">" in words else words
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    parsed = command.make_context(line, words)
    assert parsed.args == []
    job = parsed.params.get("job")
    assert job is None or job.name == "my.yaml" or (ROOT / job).is_file()


def test_the_reference_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == reference(), "run `python -m vp_ray.cli.reference > docs/cli.md`"
    assert all(f"| {code} |" in reference() for code in MEANINGS)


def test_every_argument_and_option_is_explained() -> None:
    lacking = [
        (name, parameter.name)
        for name, command in COMMANDS.items()
        for parameter in command.params
        if parameter.name != "help" and not parameter.help
    ]
    assert lacking == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vp-ray anno", ["annotate"]),
        ("vp-ray run jobs/demo.yaml --from re", ["reward", "report"]),
        ("vp-ray run jobs/demo.yaml --set rl.epo", ["rl.epochs="]),
        ("vp-ray run jobs/demo.yaml --set im", ["import."]),
        ("vp-ray init p", ["prompts", "pairs"]),
        ("vp-ray vote runs/demo --aspect f", ["fidelity"]),
        ("vp-ray shapeworld t", ["train"]),
    ],
)
def test_the_shell_completes(line: str, expected: list[str]) -> None:
    words = line.split()
    out, _ = printed(_VP_RAY_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    assert out.split() == expected


def test_there_is_a_script_for_each_shell() -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "vp-ray" in printed(_VP_RAY_COMPLETE=f"source_{shell}")[0]
