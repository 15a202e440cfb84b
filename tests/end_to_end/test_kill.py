"""`kill -9` or Ctrl-C in the middle of each stage of one run, which then ends as if nothing had happened.

Each stage in one of these ways, and with `make chaos` in the other, too.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Loop
from tests.end_to_end.driver import Driver, Ended, small_loop
from tests.small_runs import bits_of
from vp_ray.locking import locked
from vp_ray.storage import MANIFEST, RunFolder

# The first test waits for six commands, and for the undisturbed one.
pytestmark = pytest.mark.timeout(1500)

Moment = Callable[[Path], bool]


def some_file(pattern: str, at_least: int = 1) -> Moment:
    """Whether so many files are there in the run directory."""
    return lambda run: sum(1 for _ in run.glob(pattern)) >= at_least


def some_lines(pattern: str, at_least: int) -> Moment:
    """Whether so many whole lines are there in files of the run directory."""
    return lambda run: sum(file.read_bytes().count(b"\n") for file in run.glob(pattern)) >= at_least


MOMENTS: dict[str, Moment] = {
    "generate": some_file("generate/images/*.parquet", 2),
    "annotate": some_lines("annotate/ledger/*.jsonl", 5),
    "reward": some_file("reward/checkpoints/index.json"),
    "rl": some_file("rl/checkpoints/index.json"),
    "evaluate": some_file("evaluate/images/*.parquet"),
}
"""The first sign that a stage is in its middle."""

KILL, INTERRUPT = "kill -9", "Ctrl-C"
ENDS = dict(zip(MOMENTS, (KILL, INTERRUPT, INTERRUPT, KILL, KILL), strict=True))
"""How each stage is cut off; tests/ray kills drivers of annotate and reward."""
OTHER_ENDS = {stage: KILL if end == INTERRUPT else INTERRUPT for stage, end in ENDS.items()}

LASTING = ("generate/images/*.parquet", "evaluate/images/*.parquet", "*/started.json", f"*/{MANIFEST}")
"""What is written once and then never again."""


@dataclass(slots=True)
class Killed:
    """A run that was cut off in each stage and then brought to its end."""

    run: RunFolder
    ends: dict[str, str]
    kept: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """By stage: inode and time of change of every lasting file at its kill."""
    answers: list[str] = field(default_factory=list)
    """The whole lines of the annotator's ledger at its kill."""
    drivers: dict[str, Driver] = field(default_factory=dict)
    interrupted: dict[str, Ended] = field(default_factory=dict)
    """By stage: what a command said that Ctrl-C ended."""
    last: Ended | None = None


def lasting_files(path: Path) -> dict[str, tuple[int, int]]:
    files = [file for pattern in LASTING for file in path.glob(pattern) if file.parts[-2] != "report"]
    return {str(file.relative_to(path)): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def ledger_lines(path: Path) -> list[str]:
    text = "".join(file.read_text() for file in sorted(path.glob("annotate/ledger/*.jsonl")))
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(ENDS, id="one way"),
        # As long again.
        pytest.param(OTHER_ENDS, id="the other way", marks=pytest.mark.chaos),
    ],
)
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    path = tmp_path_factory.mktemp("killed") / "run"
    story = Killed(RunFolder.at(path), request.param)
    with ExitStack() as stack:
        for stage, moment in MOMENTS.items():
            driver = stack.enter_context(Driver(small_loop(path)))
            driver.wait_for(lambda moment=moment: moment(path))
            if story.ends[stage] == INTERRUPT:
                driver.interrupt()
                story.interrupted[stage] = driver.ended()
            else:
                driver.kill()
            story.drivers[stage] = driver
            assert not (path / stage / MANIFEST).exists(), f"{stage} was finished before it could be killed"
            story.kept[stage] = lasting_files(path)
            if stage == "annotate":
                story.answers = ledger_lines(path)
        with Driver(small_loop(path)) as driver:
            story.last = driver.ended()
        yield story


def test_the_run_reaches_its_end_after_it_was_cut_off_in_every_stage(killed: Killed) -> None:
    assert killed.last is not None
    assert killed.last.code == 0, killed.last.err
    for stage in ("prompts", "generate", "annotate", "preferences", "reward", "rl"):
        assert f"{stage} was finished" in killed.last.out
    for stage in ("evaluate", "report"):
        assert f"{stage} finished in" in killed.last.out
    assert "Traceback" not in killed.last.err


@pytest.mark.parametrize("stage", MOMENTS)
def test_what_was_finished_then_was_not_written_again(killed: Killed, stage: str) -> None:
    kept, now = killed.kept[stage], lasting_files(killed.run.local_path)
    assert kept
    assert {name: now.get(name) for name in kept} == kept


def test_ctrl_c_says_how_to_go_on_and_ends_with_the_code_of_an_interruption(killed: Killed) -> None:
    assert set(killed.interrupted) == {stage for stage, end in killed.ends.items() if end == INTERRUPT}
    for stage, ended in killed.interrupted.items():
        assert ended.code == 130, (stage, ended.err)
        assert "Start the same command again: it goes on where it was." in ended.err
        assert "Traceback" not in ended.err, stage


def test_no_answer_is_asked_for_twice(killed: Killed) -> None:
    rows = [json.loads(line) for line in ledger_lines(killed.run.local_path)]
    scored = Counter(row["judgement_id"] for row in rows if row["status"] == "scored")
    assert len(killed.answers) >= 5
    assert set(killed.answers) <= set(ledger_lines(killed.run.local_path))
    assert set(scored.values()) == {1}
    assert len(scored) == 24


def test_images_judgements_and_preferences_are_those_of_an_undisturbed_run(killed: Killed, loop: Loop) -> None:
    def of(run: RunFolder) -> list[Any]:
        images = (run.stage("generate") / "images").read_table(".").sort_by("image_id").to_pylist()
        judgements = run.stage("annotate").read_table("judgements.parquet").to_pylist()
        return [
            images,
            [(row["judgement_id"], row["order"], row["status"], row["levels"]) for row in judgements],
            run.stage("annotate").read_table("ratings.parquet").to_pylist(),
            run.stage("preferences").read_table("preferences.parquet").to_pylist(),
        ]

    for after_kills, undisturbed in zip(of(killed.run), of(loop.run), strict=True):
        assert after_kills == undisturbed


@pytest.mark.parametrize(
    "place", ["reward/checkpoint/model.safetensors", "rl/adapter/pytorch_lora_weights.safetensors"]
)
def test_trained_weights_are_bitwise_those_of_an_undisturbed_run(killed: Killed, loop: Loop, place: str) -> None:
    weights = bits_of(killed.run.local_path / place)
    assert weights == bits_of(loop.path / place)
    assert sum(len(data) for _, data in weights.values()) > 1000


@pytest.mark.parametrize("stage", ["reward", "rl"])
def test_curves_have_each_row_once_and_equal_those_of_an_undisturbed_run(
    killed: Killed, loop: Loop, stage: str
) -> None:
    def rows(run: RunFolder) -> list[dict[str, Any]]:
        lines = run.stage(stage).read_bytes("metrics.jsonl").splitlines()
        return [
            {key: value for key, value in json.loads(line).items() if not key.startswith("seconds")} for line in lines
        ]

    assert rows(killed.run) == rows(loop.run)


def test_the_comparison_is_that_of_an_undisturbed_run(killed: Killed, loop: Loop) -> None:
    def of(run: RunFolder) -> list[dict[str, Any]]:
        return run.stage("evaluate").read_table("comparison.parquet").to_pylist()

    assert of(killed.run) == of(loop.run)
    assert len(of(loop.run)) == 10


def test_a_second_command_on_a_run_in_use_is_refused(loop: Loop) -> None:
    with locked(loop.run), Driver(small_loop(loop.path)) as driver:
        refused = driver.ended()
    assert refused.code == 2
    assert "another process works on this run" in refused.err
    assert refused.seconds < 30


def test_nothing_that_a_killed_command_started_outlives_it_for_long(killed: Killed) -> None:
    deadline = time.monotonic() + 60
    left = {name: driver.survivors() for name, driver in killed.drivers.items()}
    while any(left.values()) and time.monotonic() < deadline:
        time.sleep(0.2)
        left = {name: driver.survivors() for name, driver in killed.drivers.items()}
    assert not any(left.values()), left
