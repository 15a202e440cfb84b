"""`vp-ray tables` makes what is missing, takes finished stages over as a run's own, and lays out what it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tables.conftest import write_scores
from vp_ray.cli.program import main
from vp_ray.config import override
from vp_ray.errors import StorageError
from vp_ray.pipeline.running import input_fingerprints, recorded_settings, run_job
from vp_ray.pipeline.stages import STAGES
from vp_ray.storage import Manifest
from vp_ray.tables.config import TablesSettings
from vp_ray.tables.job import make_tables
from vp_ray.tables.runs import TableRun, planned_runs, states, take_over

pytestmark = pytest.mark.usefixtures("local_ray")

VALUES: dict[str, Any] = {
    "seeds": [4],
    "seeded": ["prompts.sources.0.seed"],
    "job": {
        "prompts": {"sources": [{"kind": "shapeworld", "counts": {"held_out": 3}}]},
        "rl": {"generator": "embedded:weak"},
        "evaluate": {"base": {"name": "weak", "source": "embedded:weak", "guidance_scale": 1}},
    },
    "runs": {"base": {"until": "prompts"}, "ddpo": {"of": "base", "first": "rl"}},
    "wins": [{"title": "Wins", "methods": {"DDPO": "ddpo"}, "splits": {"held out": "held_out"}}],
}


def finish_as_if_made(run: TableRun) -> None:
    """Finishes the run's own stages with the settings and inputs that the pipeline will look for."""
    stages = {stage.name: stage for stage in STAGES}
    for name in run.own:
        folder = run.folder.stage(name)
        settings, inputs = (
            recorded_settings(run.job, stages[name]),
            input_fingerprints(run.job, run.folder, stages[name]),
        )
        folder.start(settings, inputs)
        folder.finish(Manifest(name, settings, inputs, {}, 1.0))


def test_stages_that_were_taken_over_are_the_runs_own_and_nothing_is_made_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TablesSettings.load({**VALUES, "folder": str(tmp_path / "tables")})
    base, ddpo = planned_runs(settings, 4)
    run_job(base.job, last="prompts")
    take_over(ddpo)
    prompts = [row["prompt_id"] for row in ddpo.folder.stage("prompts").read_table("prompts.parquet").to_pylist()]
    assert len(prompts) == 3
    finish_as_if_made(ddpo)
    write_scores(ddpo.folder, dict.fromkeys(prompts, (1.0, 2.0)))
    told: list[str] = []
    (table,) = make_tables(settings, told.append)
    assert told == [], "all was finished"
    assert {row["method"]: row["wins"] for row in table["rows"]} == {"base": 0, "DDPO": 3}

    path = tmp_path / "tables.yaml"
    path.write_text(json.dumps({**VALUES, "folder": str(tmp_path / "tables")}))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["tables", str(path), "--dry-run", "--json"])
    assert ended.value.code == 0
    shown = json.loads(capsys.readouterr().out)["runs"]
    assert [(row["run"], row["state"]) for row in shown] == [("base", "finished"), ("ddpo", "finished")]

    other = TablesSettings.load(override({**VALUES, "folder": str(tmp_path / "tables")}, ["job.rl.epochs=3"]))
    with pytest.raises(StorageError, match=r"'rl' was started with other settings: settings.epochs: 20 -> 3"):
        make_tables(other, told.append)


def test_a_run_that_is_missing_is_made_before_the_tables(tmp_path: Path) -> None:
    settings = TablesSettings.load({**VALUES, "folder": str(tmp_path / "tables")})
    base, ddpo = planned_runs(settings, 4)
    assert [state for _, state in states(settings)] == ["to do", "to do"]
    told: list[str] = []
    # The tuning is refused at once: its folder holds a stage of another make.
    ddpo.folder.stage("rl").start({"other": "settings"}, {})
    with pytest.raises(StorageError, match="'rl' was started with other settings"):
        make_tables(settings, told.append)
    assert base.folder.stage("prompts").manifest() is not None
    assert told[0].startswith("seed 4, base: prompts finished in")
    assert [state for _, state in states(settings)] == ["finished", "begun"]
