"""What a user sees who asks for help, makes a mistake or has something missing: one sentence and exit code 2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.small_runs import png
from vp_ray.models.reward import VPScore

REPOSITORY = Path(__file__).parents[3]
DEMO = str(REPOSITORY / "jobs" / "demo.yaml")
COMMANDS = (
    *("run", "demo", "judge", "serve", "score", "export", "view", "shapeworld", "doctor"),
    *("prompts", "import", "generate", "annotate", "preferences", "reward", "rl", "evaluate", "report"),
)
PROMPTS = ("--set", "prompts.sources.0.counts={train: 30, held_out: 12}")
PLAN_CPU_SECONDS = 1.5


@pytest.fixture
def refused(said: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Runs a command that must fail, and gives its one sentence."""

    def run(*arguments: str) -> str:
        code, _, err = said(*arguments)
        lines = err.strip().splitlines()
        assert code == 2, err
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        assert lines[0].endswith(".")
        return lines[0]

    return run


def write_job(path: Path, **sections: Any) -> str:
    """A job file that holds these sections, with its run directory beside it."""
    values = {"run": str(path / "run"), "report": None, **sections}
    (path / "job.yaml").write_text(yaml.safe_dump(values))
    return str(path / "job.yaml")


def prompts_of(path: Path, kind: str = "text") -> dict[str, Any]:
    return {"sources": [{"kind": kind, "path": str(path)}]}


def test_help_names_every_command(said: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = said("--help")
    assert code == 0
    words = out.replace("│", " ").split()
    assert [name for name in COMMANDS if name not in words] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(said: Callable[..., tuple[int, str, str]], name: str) -> None:
    code, out, _ = said(name, "--help")
    assert code == 0
    assert "Usage:" in out


def test_dry_run_prints_the_plan_in_a_moment_and_touches_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vp_ray", "run", DEMO, "--dry-run", "--set", f"run={tmp_path / 'run'}", *PROMPTS],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, err
    for stage in ("prompts", "generate", "annotate", "preferences", "reward", "rl", "evaluate", "report"):
        assert any(line.startswith(stage) and "to do" in line for line in out.splitlines())
    assert "42 prompts" in out
    assert err == ""
    assert list(tmp_path.iterdir()) == []
    assert used.ru_utime + used.ru_stime < PLAN_CPU_SECONDS


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("rl.epoch=3", "there is no key 'rl.epoch' (did you mean 'epochs'?)"),
        ("reword.epochs=3", "there is no key 'reword' (did you mean 'reward'?)"),
        ("rl.epochs=many", "'rl.epochs'"),
        ("rl.batch_size=7", "must be a multiple of"),
        ("judge=null", "there is no section 'judge'"),
        ("rl.epochs", "'rl.epochs' is not of the form a.b=value"),
        ("run.path=x", "'run.path' has nowhere to go"),
        ("rl.epochs=[", "the value of 'rl.epochs' is not valid YAML"),
    ],
)
def test_a_setting_that_cannot_be_is_named(refused: Callable[..., str], assignment: str, sentence: str) -> None:
    assert sentence in refused("run", DEMO, "--dry-run", "--set", assignment)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "there is no such file. Give the path of a job file"),
        ("run: [a\nprompts: {", "this is not valid YAML"),
        ("- run", "the file must hold keys and values"),
        ("prompts: {sources: []}", "the key 'run' is missing"),
        ("run: ${VP_TEST_UNSET}/x", "the environment variable VP_TEST_UNSET is not set"),
    ],
)
def test_a_job_file_that_cannot_be_used_is_named(
    refused: Callable[..., str], tmp_path: Path, text: str | None, sentence: str
) -> None:
    path = tmp_path / "job.yaml"
    if text is not None:
        path.write_text(text)
    told = refused("run", str(path))
    assert sentence in told
    assert str(path) in told


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--from", "genrate"),
            "there is no stage 'genrate' (did you mean 'generate'?). Stages are: prompts, import, generate",
        ),
        (("--until", "import"), "this job has no section 'import'"),
        (("--from", "rl", "--until", "generate"), "'rl' comes after 'generate'"),
    ],
)
def test_stages_that_cannot_be_chosen_are_named(
    refused: Callable[..., str], tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused("run", DEMO, "--set", f"run={tmp_path / 'run'}", *options)
    assert not (tmp_path / "run").exists()


def test_a_stage_before_its_turn_names_the_one_that_is_missing(refused: Callable[..., str], tmp_path: Path) -> None:
    told = refused("preferences", DEMO, "--set", f"run={tmp_path / 'run'}")
    assert "the stage 'generate' is not finished. Run `vp-ray generate` with this job first" in told


def test_prompts_that_are_not_there_are_named(refused: Callable[..., str], tmp_path: Path) -> None:
    told = refused("run", write_job(tmp_path, prompts=prompts_of(tmp_path / "none.json", "json")))
    assert f"{tmp_path}/none.json: there is no such file" in told


@pytest.mark.parametrize(
    ("text", "sentence"), [("", "no prompt is left"), (" \n\n\t\n", "no prompt is left (3 empty)")]
)
def test_an_empty_prompt_list_is_refused_and_a_full_one_goes_on(
    refused: Callable[..., str], said: Callable[..., tuple[int, str, str]], tmp_path: Path, text: str, sentence: str
) -> None:
    source = tmp_path / "prompts.txt"
    source.write_text(text)
    job = write_job(tmp_path, prompts=prompts_of(source))
    assert sentence in refused("run", job)
    source.write_text("a red circle\n")
    code, out, err = said("run", job)
    assert code == 0, err
    assert "1 kept" in out


def test_prompts_of_another_kind_than_said_are_named(refused: Callable[..., str], tmp_path: Path) -> None:
    source = tmp_path / "prompts.jsonl"
    source.write_text('{"prompt": "a"}\nno json\n')
    told = refused("run", write_job(tmp_path, prompts=prompts_of(source, "jsonl")))
    assert f"{source}:2: this is not valid JSON" in told


def test_a_broken_picture_of_an_import_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "good.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG and no more")
    row = {"prompt": "a circle", "images": ["good.png", "broken.png"], "ranks_by_annotator": [[1, 2]]}
    (tmp_path / "rankings.jsonl").write_text(json.dumps(row))
    section = {"import": {"kind": "rankings", "path": str(tmp_path / "rankings.jsonl")}}
    told = refused("run", write_job(tmp_path, **section))
    assert f"{tmp_path}/images/broken.png: this cannot be read as an image" in told


def test_pictures_that_cannot_be_scored_are_named_and_good_ones_get_numbers(
    refused: Callable[..., str], said: Callable[..., tuple[int, str, str]], tmp_path: Path, tiny_blip: Path
) -> None:
    checkpoint, good, broken = (str(tmp_path / name) for name in ("checkpoint", "good.png", "broken.png"))
    VPScore.from_backbone(str(tiny_blip), seed=1).save_pretrained(checkpoint)
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    Path(good).write_bytes(png(pixels))
    Path(broken).write_bytes(png(pixels)[:100])
    words = ("--prompt", "a red circle")
    assert f"{broken}: this cannot be read as an image" in refused("score", checkpoint, broken, *words)
    assert f"{tmp_path}/none.png: there is no such file" in refused(
        "score", checkpoint, str(tmp_path / "none.png"), *words
    )
    told = refused("score", str(tmp_path / "nowhere"), good, *words)
    assert str(tmp_path / "nowhere") in told
    code, out, _ = said("score", checkpoint, good, "--json", *words)
    assert code == 0
    row = json.loads(out)
    assert row["image"] == good
    assert {"prompt_following", "aesthetic", "fidelity", "harmlessness", "overall"} <= set(row)


def test_a_run_directory_that_cannot_be_made_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = refused("prompts", DEMO, "--set", f"run={tmp_path}/file/run")
    assert f"{tmp_path}/file/run" in told


def test_a_ray_address_that_does_not_answer_is_named_and_finished_stages_stay(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    run = ("run", DEMO, "--set", f"run={tmp_path / 'run'}", "--set", "ray.address=127.0.0.1:1")
    told = refused(*run, "--until", "generate")
    assert "127.0.0.1:1: no Ray cluster answers" in told
    assert "ray.address" in told
    assert (tmp_path / "run" / "prompts" / "manifest.json").is_file()
    assert not (tmp_path / "run" / "generate" / "manifest.json").exists()


FULL_DISK = """
mount -t tmpfs -o size=64k tmpfs "$1" || exit 77
cat /dev/zero > "$1/filler" 2> /dev/null
shift; "$@"; echo "code $?"
rm "${DISK}/filler"
"$@"; echo "code $?"
"""


def test_no_space_left_is_said_and_the_run_goes_on_when_there_is_some(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs `unshare` for a small disk of its own")
    words = [sys.executable, "-m", "vp_ray", "prompts", DEMO, "--set", f"run={tmp_path}/run", *PROMPTS]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL_DISK, "sh", str(tmp_path), *words],
        cwd=REPOSITORY,
        env={**os.environ, "DISK": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "code" not in done.stdout:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    assert "code 2" in done.stdout
    assert "no space is left on the device. Free some, then start the run again" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.rstrip().endswith("code 0")
    assert "42 kept" in done.stdout


def test_doctor_says_what_lacks_with_a_remedy(said: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = said("doctor")
    lines = out.strip().splitlines()
    lacking = [line for line in lines if line.startswith("LACKS ")]
    assert all(line.startswith(("ok    ", "LACKS ")) for line in lines)
    assert code == (1 if lacking else 0)
    assert all(" - " in line for line in lacking)
    assert any("torch" in line for line in lines)
