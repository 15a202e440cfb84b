"""Every command in the documents runs here, or says on its own line why it cannot: a GPU, a key, a cluster, minutes."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from vp_ray.cli import app, main

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "clusters" / "README.md", *ROOT.glob("docs/**/*.md")]
)
BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("vp-ray", "make", "python", "clusters/one_node.sh", "ray", "kubectl", "curl")

NEEDS = re.compile(r"needs|until Ctrl-C|a machine with GPUs|minutes")
"""What a line says that cannot be run here as it stands."""
PLANNED = (
    "run",
    "demo",
    "prompts",
    "import",
    "generate",
    "annotate",
    "preferences",
    "reward",
    "rl",
    "evaluate",
    "report",
)
"""Commands that are planned in place of being run, where the line says so."""


@dataclass(frozen=True, slots=True)
class Command:
    """One line of a fenced block."""

    page: str
    words: tuple[str, ...]
    said: str
    """The comment behind it."""
    variables: tuple[str, ...] = ()
    """Assignments before it, as `NAME=value`."""

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands_of(page: Path) -> list[Command]:
    found = []
    for block in BLOCK.finditer(page.read_text()):
        if block["kind"] not in ("", "bash", "sh"):
            continue
        for line in block["text"].replace("\\\n", " ").splitlines():
            text, _, said = line.partition(" # ")
            words = shlex.split(text)
            variables = list(takewhile(lambda word: re.fullmatch(r"[A-Z_]+=\S*", word), words))
            words = words[len(variables) :]
            if words and words[0] in PROGRAMS:
                place = str(page.relative_to(ROOT))
                found.append(Command(place, tuple(words), said.strip(), tuple(variables)))
    return found


COMMANDS = [command for page in PAGES for command in commands_of(page)]
OURS = [command for command in COMMANDS if command.words[0] == "vp-ray"]


def parsed(words: tuple[str, ...]) -> str:
    """The name of the command; raises click's usage error for words that do not parse."""
    rest = list(words[1 : words.index(">")] if ">" in words else words[1:])
    command: Any = typer.main.get_command(app)
    names = []
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        names.append(rest.pop(0))
        command = command.commands[names[-1]]
    command.make_context(" ".join(words), rest, resilient_parsing="--help" in rest)
    return " ".join(names)


@pytest.mark.parametrize("command", OURS, ids=str)
def test_each_command_parses(command: Command) -> None:
    parsed(command.words)


def test_commands_of_other_programs_exist_or_say_what_they_need() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in COMMANDS:
        program, *rest = command.words
        if program == "make":
            assert rest[0] in targets, command
        elif program == "python":
            assert (ROOT / rest[0]).is_file() or rest[0] == "-m", command
        elif program.endswith(".sh"):
            assert (ROOT / program).is_file(), command
        elif program in ("ray", "kubectl"):
            files = [word for word in rest if word.startswith("clusters/")]
            assert all((ROOT / file).is_file() for file in files), command


def code_of(words: tuple[str, ...]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words[1 : words.index(">")] if ">" in words else words[1:]))
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize("page", sorted({command.page for command in OURS}))
def test_the_commands_of_a_page_run_one_after_the_other(
    page: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("VP_RAY_RUNS", raising=False)
    monkeypatch.setattr("webbrowser.open", lambda *_: True)
    for name in ("dataset", "my.yaml", "mine.yaml", "job.yaml", "trial.yaml", "judged.yaml", "pairs.yaml", "tune.yaml"):
        path = place / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for command in (one for one in OURS if one.page == page):
        words, name = command.words, parsed(command.words)
        for variable in command.variables:
            monkeypatch.setenv(*variable.split("=", 1))
        if NEEDS.search(command.said):
            if name not in PLANNED or {"--table", "--retry", "--estimate"} & set(words):
                continue
            words = (*words, "--dry-run")
        if name != "init" and "my.yaml" in words and not (place / "my.yaml").exists():
            code_of(("vp-ray", "init", "prompts", "my.yaml"))
        code = code_of(words)
        assert code == 0 or (name == "doctor" and code == 1), f"{command}: code {code}\n{capsys.readouterr().err}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.name
)
def test_snippets_are_python_and_what_they_import_is_there(page: Path) -> None:
    for block in BLOCK.finditer(page.read_text()):
        if block["kind"] == "python":
            compile(block["text"], str(page), "exec")
            imports = [line for line in block["text"].splitlines() if line.startswith("from vp_ray")]
            exec("\n".join(imports), {})  # noqa: S102 - the page's own code


def test_the_scorer_and_the_loss_of_the_page_on_extending_work() -> None:
    names: dict[str, Any] = {}
    for block in BLOCK.finditer((ROOT / "docs" / "extending.md").read_text()):
        if block["kind"] == "python":
            exec(block["text"], names)  # noqa: S102 - the page's own code
    red, blue = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    scores = names["Warmth"]().score(np.concatenate([red, blue]), ["a circle"] * 4)
    assert scores.shape == (4, 1)
    assert (scores[:2] > 0).all()
    assert (scores[2:] < 0).all()
    assert names["REINFORCE"].needs == "trajectory"
