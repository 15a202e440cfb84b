"""`--json` and exit codes: what a script can rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vp_ray.cli.exit_codes import DEFECT, DONE, PARTLY, REFUSED
from vp_ray.pipeline import running

ROOT = Path(__file__).parents[3]

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def job(tmp_path: Path) -> str:
    """A job that cleans two prompts."""
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    source = {"kind": "text", "path": str(tmp_path / "prompts.txt")}
    values: dict[str, Any] = {"run": str(tmp_path / "run"), "prompts": {"sources": [source]}, "report": None}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(values))
    return str(tmp_path / "job.yaml")


def test_the_plan_a_run_and_its_status_are_one_object_each(said: Said, job: str) -> None:
    code, out, _ = said("run", job, "--dry-run", "--json")
    (planned,) = json.loads(out)["stages"]
    assert (code, planned["stage"], planned["state"], planned["changed"]) == (DONE, "prompts", "to do", [])

    code, out, err = said("run", job, "--json")
    told = json.loads(out)
    assert code == DONE
    assert (told["stages"][0]["skipped"], told["stages"][0]["rows"]["kept"]) == (False, 2)
    assert "prompts finished" in err

    assert json.loads(said("run", job, "--json")[1])["stages"][0]["skipped"]
    changed = json.loads(said("run", job, "--dry-run", "--json", "--set", "prompts.max_characters=40")[1])["stages"][0]
    assert changed["state"] == "refused"
    assert changed["changed"][0].startswith("max_characters: ")

    (stage,) = json.loads(said("status", told["run"], "--json")[1])["stages"]
    assert (stage["stage"], stage["state"]) == ("prompts", "finished")


def test_doctor_tells_what_lacks_by_code_and_by_json(said: Said) -> None:
    code, out, _ = said("doctor", "--json")
    checks = json.loads(out)["checks"]
    assert code == (DONE if all(check["good"] for check in checks) else PARTLY)
    assert all(check["remedy"] for check in checks if not check["good"])


@pytest.mark.parametrize(
    "words",
    [
        ("run", "nowhere.yaml"),
        ("rnu", "jobs/demo.yaml"),
        ("run", "jobs/demo.yaml", "--dry-rnu"),
        ("run",),
        ("serve", "checkpoint", "--port", "many"),
    ],
)
def test_mistakes_of_every_kind_have_one_code(said: Said, words: tuple[str, ...]) -> None:
    assert said(*words)[0] == REFUSED


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("anotate", "jobs/demo.yaml"), "annotate"),
        (("run", "jobs/demo.yaml", "--dry-rum"), "--dry-run"),
        (("run", str(ROOT / "jobs/demo.yaml"), "--dry-run", "--until", "genrate"), "generate"),
        (("init", "promtps"), "prompts"),
        (("spot-agent", "--cloud", "awss", "--ray", "h:1"), "aws"),
    ],
)
def test_the_nearest_name_is_suggested(said: Said, words: tuple[str, ...], near: str) -> None:
    code, _, err = said(*words)
    assert code == REFUSED
    text = " ".join(err.replace("│", " ").split()).lower()
    assert f"did you mean '{near}'" in text or f"possible options: {near}" in text, err


def test_a_defect_keeps_its_traceback_and_a_code_of_its_own(
    said: Said, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(running, "run_job", broken)
    code, _, err = said("run", job)
    assert code == DEFECT
    assert "ZeroDivisionError: a defect" in err


def test_output_that_nobody_reads_any_more_is_no_defect() -> None:
    command = [sys.executable, "-m", "vp_ray", "run", "jobs/demo.yaml", "--dry-run"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert "Traceback" not in done.stderr
