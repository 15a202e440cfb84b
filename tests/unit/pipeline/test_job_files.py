"""Every job file of the repository loads, with and without the environment variables that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vp_ray.config import read_yaml
from vp_ray.errors import SettingsError
from vp_ray.pipeline.running import chosen_stages
from vp_ray.pipeline.settings import load_job
from vp_ray.tables.config import TablesSettings

FILES = sorted((Path(__file__).parents[3] / "jobs").glob("*.yaml"))
TABLES = [path for path in FILES if path.stem == "tables"]
JOBS = [path for path in FILES if path not in TABLES]


def variables_of(path: Path) -> set[str]:
    return set(re.findall(r"\$\{(\w+)", path.read_text()))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_file_loads_without_its_variables(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables_of(path):
        monkeypatch.delenv(name, raising=False)
    job = load_job(path)
    assert job.run in (f"runs/{path.stem}", f"/mnt/vp_ray/runs/{path.stem}")
    stages = [stage.name for stage in chosen_stages(job)]
    assert stages[0] in ("prompts", "import")


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_runs_go_where_the_environment_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP_RAY_RUNS", "s3://bucket/runs")
    assert load_job(path).run == f"s3://bucket/runs/{path.stem}"


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_file_of_tables_loads_and_its_folder_goes_where_the_environment_says(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VP_RAY_RUNS", "s3://bucket/runs")
    assert TablesSettings.load(read_yaml(path), str(path)).folder == f"s3://bucket/runs/{path.stem}"


def test_assignments_come_after_the_file() -> None:
    demo = next(path for path in JOBS if path.stem == "demo")
    first = "generate.generators.0.steps=9"
    job = load_job(demo, [first, "rl.epochs=7", "evaluate=null", "generate.generators.1.steps=3"])
    assert job.rl is not None
    assert job.rl.epochs == 7
    assert job.evaluate is None
    assert job.generate is not None
    assert [generator.steps for generator in job.generate.generators] == [9, 3]


def test_an_embedded_annotator_needs_the_judge() -> None:
    with pytest.raises(SettingsError, match=r"an annotator has base_url 'embedded', but there is no section"):
        load_job(next(path for path in JOBS if path.stem == "demo"), ["judge=null"])
