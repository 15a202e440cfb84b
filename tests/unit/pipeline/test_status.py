"""`vp-ray status`: what a run's directory tells of its stages, while they run and after."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from vp_ray.cli import main
from vp_ray.errors import StorageError
from vp_ray.pipeline.status import duration, sentence, status_of
from vp_ray.storage import Manifest, RunFolder
from vp_ray.telemetry import NOTE, Note, noted_in, progress


def started(path: Path, stage: str, note: Note | None = None) -> RunFolder:
    run = RunFolder.at(path)
    run.stage(stage).start({}, {})
    if note is not None:
        run.stage(stage).write_json(NOTE, asdict(note))
    return run


def test_half_of_the_work_in_a_hundred_seconds_leaves_a_hundred_more(tmp_path: Path) -> None:
    run = started(tmp_path, "generate", Note("images", 600, 1000, 200, began_at=1000.0, noted_at=1100.0))
    (found,) = status_of(run, now=1105.0)
    assert (found.state, found.per_second, found.seconds_left) == ("running", 4.0, 100.0)
    assert sentence(found) == "600 of 1,000 images, 4/s"


def test_a_stage_without_a_sign_of_life_for_a_minute_is_stopped_and_promises_no_end(tmp_path: Path) -> None:
    run = started(tmp_path, "rl", Note("epochs", 3, 20, 0, began_at=1000.0, noted_at=1120.0))
    (found,) = status_of(run, now=1200.0)
    assert (found.state, found.seconds_left) == ("stopped", None)
    assert sentence(found) == "3 of 20 epochs, 1.5/min, no sign of life for 1 min 20 s"


def test_what_was_paid_is_told_while_the_stage_runs(tmp_path: Path) -> None:
    run = started(tmp_path, "annotate")
    lines = [json.dumps({"judgement_id": name, "cost_usd": 0.25}) for name in "ab"]
    (run.stage("annotate") / "ledger").write_bytes("one.jsonl", ("\n".join(lines) + "\n").encode())
    (found,) = status_of(run)
    assert (found.state, found.cost_usd) == ("stopped", 0.5)


def test_the_note_is_there_while_the_stage_works_and_gone_when_it_ended(tmp_path: Path) -> None:
    run = started(tmp_path, "prompts")
    with noted_in(run.stage("prompts")):
        with progress("prompts", "prompts", 10) as bar:
            bar.update(4)
            bar.update(7)
        (found,) = status_of(run, now=time.time())
        assert (found.state, found.total) == ("running", 10)
    assert not run.stage("prompts").exists(NOTE)
    run.stage("prompts").finish(Manifest("prompts", {}, {}, {"kept": 7}, 1.0))
    assert sentence(status_of(run)[0]) == "7 kept"


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no run here"):
        status_of(RunFolder.at(tmp_path))


def test_the_command_prints_json_for_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started(tmp_path, "prompts")
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path), "--json"])
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert (stage["stage"], stage["state"]) == ("prompts", "stopped")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (41.6, "42 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (59.6, "1 min 00 s")]
)
def test_durations_read_well(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
