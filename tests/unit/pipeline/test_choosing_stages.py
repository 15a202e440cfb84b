"""Which stages run, in which order, and what of the settings fixes their result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vp_ray.config import difference, override, read_yaml
from vp_ray.errors import SettingsError, StorageError
from vp_ray.pipeline.running import chosen_stages, input_fingerprints, recorded_settings, run_job
from vp_ray.pipeline.settings import JobSettings
from vp_ray.pipeline.stages import STAGE_NAMES, STAGES
from vp_ray.storage import Manifest, RunFolder

DEMO = Path(__file__).parents[3] / "jobs" / "demo.yaml"
BY_NAME = {stage.name: stage for stage in STAGES}
PINNED = ("judge.noise=0.5", "rl.epochs=12", "generate.seed=0", "annotate.orders=2")
"""What these tests count on, so that the demo may change."""


def demo(*assignments: str) -> JobSettings:
    return JobSettings.load(override(read_yaml(DEMO), [*PINNED, *assignments]))


def names(*arguments: Any) -> list[str]:
    return [stage.name for stage in chosen_stages(demo(), *arguments)]


def test_the_demo_has_every_stage_but_import_in_order() -> None:
    assert names() == [name for name in STAGE_NAMES if name != "import"]


def test_from_and_until_are_both_included() -> None:
    assert names("annotate", "reward") == ["annotate", "preferences", "reward"]
    assert names("rl") == ["rl", "evaluate", "report"]
    assert names(None, "generate") == ["prompts", "generate"]
    assert names("rl", "rl") == ["rl"]


@pytest.mark.parametrize(
    ("first", "last", "sentence"),
    [
        ("train", None, "there is no stage 'train'"),
        (None, "import", "this job has no section 'import'"),
        ("reward", "generate", "'reward' comes after 'generate'"),
    ],
)
def test_stages_that_cannot_be_chosen_are_refused(first: str | None, last: str | None, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        chosen_stages(demo(), first, last)


def test_every_stage_reads_only_stages_before_it() -> None:
    for place, stage in enumerate(STAGES):
        assert set(stage.inputs) <= set(STAGE_NAMES[:place])


@pytest.mark.parametrize(
    ("assignment", "stage", "line"),
    [
        ("judge.noise=0.7", "annotate", "judge.noise: 0.5 -> 0.7"),
        ("judge.noise=0.7", "evaluate", "judge.noise: 0.5 -> 0.7"),
        ("rl.epochs=13", "rl", "epochs: 12 -> 13"),
        ("generate.seed=1", "generate", "seed: 0 -> 1"),
        ("annotate.orders=4", "annotate", "orders: 2 -> 4"),
    ],
)
def test_a_setting_that_fixes_a_result_is_recorded(assignment: str, stage: str, line: str) -> None:
    before, after = (recorded_settings(job, BY_NAME[stage]) for job in (demo(), demo(assignment)))
    assert difference(before, after) == [line]


@pytest.mark.parametrize(
    ("assignment", "stage"),
    [
        ("judge.noise=0.7", "reward"),
        ("judge.noise=0.7", "generate"),
        ("annotate.budget_usd=1", "annotate"),
        ("annotate.annotators.0.concurrency=3", "annotate"),
        ("generate.generators.0.pool.max_actors=4", "generate"),
        ("rl.checkpoint_every=1", "rl"),
        ("rl.workers.max_failures=1", "rl"),
        ("ray.logical_cpus=16", "rl"),
        ("service.max_replicas=2", "rl"),
    ],
)
def test_a_setting_of_where_and_how_fast_is_not_recorded(assignment: str, stage: str) -> None:
    before, after = (recorded_settings(job, BY_NAME[stage]) for job in (demo(), demo(assignment)))
    assert before == after


def test_a_judge_with_other_settings_is_refused_by_the_stage_that_asked_it(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path).stage("annotate")
    assert folder.start(recorded_settings(demo(), BY_NAME["annotate"]), {})
    with pytest.raises(StorageError, match=r"judge\.noise: 0\.5 -> 0\.7"):
        folder.start(recorded_settings(demo("judge.noise=0.7"), BY_NAME["annotate"]), {})


def test_inputs_are_the_finished_stages_that_the_job_has(tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path)
    with pytest.raises(StorageError, match="the stage 'prompts' is not finished"):
        input_fingerprints(demo(), run, BY_NAME["rl"])
    manifests = {name: Manifest(name, {"a": 1}, {}, {"rows": 1}, 1.0) for name in ("prompts", "reward")}
    for name, manifest in manifests.items():
        run.stage(name).finish(manifest)
    assert input_fingerprints(demo(), run, BY_NAME["rl"]) == {
        name: manifest.fingerprint for name, manifest in manifests.items()
    }
    assert input_fingerprints(demo(), run, BY_NAME["report"]).keys() == {"prompts", "reward"}


def prompts_job(path: Path, *assignments: str) -> JobSettings:
    (path / "prompts.txt").write_text("a red circle\na blue square\n")
    source = {"kind": "text", "path": str(path / "prompts.txt")}
    values = {"run": str(path / "run"), "prompts": {"sources": [source]}, "report": None}
    return JobSettings.load(override(values, assignments))


def test_a_finished_stage_is_skipped_and_keeps_its_manifest(tmp_path: Path) -> None:
    first = run_job(prompts_job(tmp_path))["prompts"]
    second = run_job(prompts_job(tmp_path))["prompts"]
    assert (first.skipped, second.skipped) == (False, True)
    assert first.manifest.rows == {"kept": 2}
    assert second.manifest.seconds == first.manifest.seconds
    with pytest.raises(StorageError, match="min_characters: 1 -> 2"):
        run_job(prompts_job(tmp_path, "prompts.min_characters=2"))


def test_each_stage_is_told_when_it_is_done(tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []
    job = prompts_job(tmp_path, "report={}")
    for _ in range(2):
        run_job(job, on_stage=lambda name, finished: told.append((name, finished.skipped)))
    assert told == [("prompts", False), ("report", False), ("prompts", True), ("report", False)]


def test_a_stage_whose_input_was_made_anew_is_refused(tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path)
    stage = BY_NAME["generate"]
    run.stage("prompts").finish(Manifest("prompts", {}, {}, {"kept": 2}, 1.0))
    settings = recorded_settings(demo(), stage)
    assert run.stage("generate").start(settings, input_fingerprints(demo(), run, stage))
    run.stage("prompts").finish(Manifest("prompts", {}, {}, {"kept": 3}, 1.0))
    with pytest.raises(StorageError, match=r"inputs\.prompts"):
        run.stage("generate").start(settings, input_fingerprints(demo(), run, stage))
