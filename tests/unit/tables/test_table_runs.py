"""The runs of a file of tables: what each is, what it takes over from another, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from vp_ray.config import read_yaml
from vp_ray.errors import SettingsError, StorageError
from vp_ray.storage import Folder, Manifest
from vp_ray.tables.config import TablesSettings
from vp_ray.tables.runs import planned_runs, run_folder, states, take_over

MakeSettings = Callable[..., TablesSettings]


def test_a_run_has_the_changes_of_the_one_it_branches_from_then_its_own_and_the_seed(settings: MakeSettings) -> None:
    base, ddpo, dpo = planned_runs(settings(), seed=1)
    assert (base.taken, base.own) == ((), ["prompts", "generate", "annotate", "preferences"])
    assert ddpo.taken == ("prompts", "generate", "annotate", "preferences")
    assert ddpo.own == ["reward", "rl", "evaluate"]
    assert dpo.own == ["rl", "evaluate"]
    assert ddpo.job.rl is not None
    assert dpo.job.rl is not None
    assert (ddpo.job.rl.algorithm, ddpo.job.rl.epochs, ddpo.job.rl.seed) == ("ddpo", 3, 1)
    assert (dpo.job.rl.algorithm, dpo.job.rl.epochs) == ("dpo", 3)
    assert dpo.source == ddpo.folder


def test_other_runs_of_the_seed_can_be_named_and_sections_left_out(settings: MakeSettings) -> None:
    runs = {
        "base": {"until": "preferences", "without": ["reward", "rl", "evaluate"]},
        "more": {"of": "base", "first": "preferences", "until": "preferences"},
        "ddpo": {"set": {"reward.variants": {"other": {"preferences": "{runs}/more"}}}},
    }
    found = settings(runs=runs, wins=[{"title": "w", "methods": {"a": "ddpo"}, "splits": {"h": "held_out"}}])
    base, more, ddpo = planned_runs(found, seed=0)
    assert base.job.rl is None
    assert ddpo.job.reward is not None
    assert ddpo.job.reward.variants["other"].preferences == more.folder.uri


def test_finished_stages_are_taken_over_and_the_folder_of_all_runs_can_move(
    settings: MakeSettings, tmp_path: Path
) -> None:
    base, ddpo, _ = planned_runs(settings(), seed=0)
    for stage in base.own:
        base.folder.stage(stage).start({"made": stage}, {})
        base.folder.stage(stage).finish(Manifest(stage, {"made": stage}, {}, {}, 1.0))
    assert [state for _, state in states(settings())] == ["finished", *["to do"] * 5]
    take_over(ddpo)
    take_over(ddpo)
    assert ddpo.folder.stage("preferences").finished().settings == {"made": "preferences"}
    assert (ddpo.folder.local_path / "prompts").is_symlink()
    (tmp_path / "tables").rename(tmp_path / "moved")
    moved = Folder.at(tmp_path / "moved" / "runs" / "seed-0" / "ddpo" / "preferences")
    assert moved.exists("manifest.json")


def test_what_the_source_has_not_finished_cannot_be_taken_over(settings: MakeSettings) -> None:
    _, ddpo, _ = planned_runs(settings(), seed=0)
    with pytest.raises(StorageError, match="the stage 'prompts' is not finished"):
        take_over(ddpo)


def test_on_an_object_store_stages_are_copied(settings: MakeSettings) -> None:
    base, ddpo, _ = planned_runs(settings(folder="memory://tables"), seed=0)
    for stage in base.own:
        base.folder.stage(stage).start({}, {})
        base.folder.stage(stage).write_bytes("images/part.parquet", b"pixels")
        base.folder.stage(stage).finish(Manifest(stage, {}, {}, {}, 1.0))
    take_over(ddpo)
    assert ddpo.folder.stage("generate").read_bytes("images/part.parquet") == b"pixels"
    assert ddpo.folder.stage("generate").manifest() is not None
    fsspec.filesystem("memory").rm("/tables", recursive=True)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"runs": {"a": {"first": "rl"}}}, "first has no effect without `of`"),
        ({"runs": {"a": {"of": "b"}, "b": {}}}, "'a' branches from 'b', which is no run above it"),
        ({"runs": {"../a": {}}}, "cannot name a folder"),
        ({"runs": {"a": {}}}, "the table 'Wins' names 'ddpo', which is no run"),
        ({"wins": []}, "nothing would be laid out"),
        ({"job": {"run": "x"}}, "job.run has no effect"),
        ({"accuracy": [{"title": "t", "tests": {"x": {}}, "scorers": {"s": "ddpo"}}]}, "one of the two"),
        (
            {"accuracy": [{"title": "t", "tests": {"x": {"run": "base"}}, "scorers": {"s": "ddpo"}, "against": "z"}]},
            "against names 'z', which is no row",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(settings: MakeSettings, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        settings(**changes)


def test_a_stage_that_does_not_exist_and_a_wrong_job_name_the_run(settings: MakeSettings) -> None:
    wins = [{"title": "w", "methods": {"a": "only"}, "splits": {"h": "held_out"}}]
    with pytest.raises(SettingsError, match=r"runs\.only.*there is no stage 'reports'"):
        list(planned_runs(settings(runs={"only": {"until": "reports"}}, wins=wins), 0))
    with pytest.raises(SettingsError, match=r"runs\.only.*did you mean 'epochs'"):
        list(planned_runs(settings(runs={"only": {"set": {"rl.epoch": 3}}}, wins=wins), 0))


def test_every_run_of_the_ready_file_is_a_job_that_can_be() -> None:
    path = Path(__file__).parents[3] / "jobs" / "tables.yaml"
    ready = TablesSettings.load(read_yaml(path), str(path))
    names = [run.name for run in planned_runs(ready, 2)]
    assert names == list(ready.runs)
    assert run_folder(ready, 2, "ddpo").uri.endswith("tables/runs/seed-2/ddpo")
    for table in ready.accuracy:
        for scorer in table.scorers.values():
            run, _, variant = scorer.partition("/")
            variants = ready.runs["reward"].set["reward.variants"]
            assert run in ready.runs
            assert not variant or variant in variants
