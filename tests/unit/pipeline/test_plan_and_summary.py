"""The plan before a run and the tables after it, as they are printed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vp_ray.config import override, read_yaml
from vp_ray.generate.planning import Measured, write_measured
from vp_ray.pipeline.running import Finished, recorded_settings
from vp_ray.pipeline.settings import JobSettings
from vp_ray.pipeline.stages import STAGES
from vp_ray.pipeline.summary import print_plan, print_summary
from vp_ray.storage import Manifest, RunFolder

DEMO = Path(__file__).parents[3] / "jobs" / "demo.yaml"
BY_NAME = {stage.name: stage for stage in STAGES}
PINNED = (
    "judge.noise=0.5",
    "prompts.sources.0.counts={train: 192, held_out: 256}",
    "generate.generators.0.images_per_prompt=2",
    "generate.generators.1.images_per_prompt=2",
    "rl.epochs=12",
    "rl.workers.num_workers=2",
)
"""What these tests count on, so that the demo may change."""


def demo(run: Path, *assignments: str) -> JobSettings:
    return JobSettings.load(override(read_yaml(DEMO), [f"run={run}", *PINNED, *assignments]))


def console() -> Console:
    return Console(file=io.StringIO(), width=250)


def said(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def plan(job: JobSettings, first: str | None = None, last: str | None = None) -> dict[str, str]:
    """The printed line of each stage."""
    target = console()
    print_plan(job, first, last, target)
    stages = said(target).split("What generate takes")[0]
    lines = [line.split(None, 1) for line in stages.splitlines()[2:]]
    return {name: rest.strip() for name, rest in lines}


def estimates(job: JobSettings) -> tuple[str, dict[str, list[str]]]:
    """The title of the table of estimates, and each generator's cells."""
    target = console()
    print_plan(job, None, None, target)
    title, _, *rows = said(target)[said(target).index("What generate takes") :].splitlines()
    return title.strip(), {row.split()[0]: row.split()[1:] for row in rows}


def begin(job: JobSettings, stage: str, finished: bool) -> None:
    folder, settings = RunFolder.at(job.run).stage(stage), recorded_settings(job, BY_NAME[stage])
    folder.start(settings, {})
    if finished:
        folder.finish(Manifest(stage, settings, {}, {}, 1.0))


def test_a_new_run_is_all_to_do_and_counts_what_it_would_make(tmp_path: Path) -> None:
    lines = plan(demo(tmp_path / "run"))
    assert all(line.startswith("to do") for line in lines.values())
    assert lines["prompts"].endswith("448 prompts (shapeworld)")
    assert lines["generate"].endswith("768 images by weak, strong")
    assert lines["annotate"].endswith("each group in 2 orders by judge")
    assert lines["rl"].endswith("12 epochs on 2 workers")
    assert "judged by oracle; 256 prompts find a gain of 0.18 standard deviations" in lines["evaluate"]
    assert not (tmp_path / "run").exists()


def test_the_plan_states_images_hours_and_gigabytes_from_settings_or_from_what_was_measured(tmp_path: Path) -> None:
    pools = [
        "{name: weak, source: 'embedded:weak', guidance_scales: [1, 3], images_per_prompt: 2, images_per_second: 0.5,"
        " pool: {gpus_per_actor: 0.5}}",
        "{preset: sd15, name: strong}",
    ]
    job = demo(tmp_path / "run", f"generate.generators=[{', '.join(pools)}]")
    title, rows = estimates(job)
    assert title == "What generate takes for 192 prompts"
    # 192 x 2 x 2 images at 0.5 a second; 32 x 32 and 512 x 512 pixels at 2.1 bytes.
    assert rows["weak"] == ["768", "0.5", "0.427", "0.213", "0.00165", "settings"]
    assert rows["strong"] == ["192", "?", "?", "?", "0.106", "not", "measured", "yet"]

    stage = RunFolder.at(job.run).stage("generate")
    write_measured(stage, {"strong": Measured(images=16, actor_seconds=4.0, bytes=16_000_000)})
    folder = RunFolder.at(job.run).stage("prompts")
    folder.start({}, {})
    folder.finish(Manifest("prompts", {}, {}, {"kept": 50}, 1.0, figures={"splits": {"train": 36, "held_out": 14}}))
    title, rows = estimates(job)
    assert title == "What generate takes for 36 prompts"
    assert rows["strong"] == ["36", "4", "0.0025", "0", "0.036", "measured", "in", "this", "run"]

    unknown = JobSettings.load(
        {"run": str(tmp_path / "other"), "prompts": {"sources": [{"kind": "text", "path": "prompts.txt"}]}}
        | {"generate": {"generators": [{"preset": "sdxl", "images_per_second": 1}]}}
    )
    title, rows = estimates(unknown)
    assert title == "What generate takes for each 1,000 prompts"
    assert rows["sdxl"][:3] == ["1,000", "1", "0.278"]


def test_the_plan_knows_what_is_finished_what_goes_on_and_what_would_be_refused(tmp_path: Path) -> None:
    job = demo(tmp_path / "run")
    begin(job, "prompts", finished=True)
    begin(job, "generate", finished=False)
    begin(job, "annotate", finished=True)
    begin(job, "report", finished=True)
    lines = plan(demo(tmp_path / "run", "judge.noise=0.7"))
    assert lines["prompts"].startswith("finished ")
    assert lines["generate"].startswith("goes on ")
    assert lines["annotate"].startswith("refused, settings changed: judge.noise: 0.5 -> 0.7 ")
    assert lines["preferences"].startswith("to do ")
    assert lines["report"].startswith("to do ")


def test_the_plan_shows_only_the_chosen_stages(tmp_path: Path) -> None:
    assert list(plan(demo(tmp_path), "reward", "rl")) == ["reward", "rl"]


def test_prompts_from_files_are_not_counted_before_they_are_read(tmp_path: Path) -> None:
    source = "{kind: text, path: prompts.txt}"
    lines = plan(demo(tmp_path, f"prompts.sources.0={source}"), "prompts", "generate")
    assert lines["prompts"].endswith("prompts from text")
    assert lines["generate"].endswith("4 images a prompt by weak, strong")


def comparison(**changes: Any) -> dict[str, Any]:
    row = {"scorer": "oracle", "unit": "level", "aspect": "overall", "base": 3.0, "tuned": 3.25, "gain": 0.25}
    return row | {"low": 0.1, "high": 0.4, "wins": 7, "ties": 2, "losses": 3} | changes


def manifest(stage: str, rows: dict[str, int], seconds: float = 2.0, **more: Any) -> Manifest:
    return Manifest(stage, {}, {}, rows, seconds, **more)


def test_the_summary_has_a_line_a_stage_and_the_comparison() -> None:
    results = {
        "generate": Finished(
            manifest("generate", {"made": 47, "blank": 1}, figures={"images_per_second": 3.21}), False
        ),
        "annotate": Finished(
            manifest("annotate", {"scored": 22, "refused": 2}, cost_usd=0.0125, figures={"answers_per_minute": 88.4}),
            False,
        ),
        "reward": Finished(
            manifest("reward", {}, figures={"accuracy": {"overall": {"accuracy": 0.8, "low": 0.7, "high": 0.9}}}), True
        ),
        "rl": Finished(manifest("rl", {"images": 32}, figures={"reward_first": -0.5, "reward_last": 0.25}), False),
        "evaluate": Finished(manifest("evaluate", {}, figures={"comparison": [comparison()]}), False),
    }
    target = console()
    print_summary(results, target)
    lines = {line.split()[0]: " ".join(line.split()) for line in said(target).splitlines() if line.strip()}
    assert lines["generate"] == "generate 47 made, 1 blank 2.0 3.2 images/s"
    assert lines["annotate"] == "annotate 22 scored, 2 refused 2.0 0.0125 88 answers/min"
    assert lines["reward"] == "reward 2.0 (before) pair accuracy 0.800 [0.700, 0.900]"
    assert lines["rl"] == "rl 32 images 2.0 reward -0.500 -> 0.250"
    assert lines["oracle"] == "oracle overall 3.000 3.250 +0.250 [+0.100, +0.400] 7/2/3"


def test_what_a_resumed_stage_did_not_measure_is_left_out() -> None:
    figures = {"images_per_second": None, "answers_per_minute": None, "accuracy": {}, "reward_last": None}
    target = console()
    print_summary({name: Finished(manifest(name, {}, figures=figures), False) for name in ("reward", "rl")}, target)
    assert "None" not in said(target)


def test_one_prompt_has_figures_without_intervals() -> None:
    accuracy = {"overall": {"accuracy": 0.75, "low": None, "high": None}}
    rows = [comparison(low=None, high=None)]
    results = {
        "reward": Finished(manifest("reward", {}, figures={"accuracy": accuracy}), False),
        "evaluate": Finished(manifest("evaluate", {}, figures={"comparison": rows}), False),
    }
    target = console()
    print_summary(results, target)
    lines = [" ".join(line.split()) for line in said(target).splitlines()]
    assert "reward 2.0 pair accuracy 0.750" in lines
    assert "oracle overall 3.000 3.250 +0.250 7/2/3" in lines


def test_a_run_without_an_evaluation_prints_no_comparison() -> None:
    target = console()
    print_summary({"prompts": Finished(manifest("prompts", {"kept": 3}), False)}, target)
    assert "Tuned against base" not in said(target)


@pytest.mark.parametrize(("low", "high", "colour"), [(0.1, 0.4, "32"), (-0.4, -0.1, "31"), (-0.1, 0.1, None)])
def test_only_gains_and_losses_beyond_noise_are_coloured(low: float, high: float, colour: str | None) -> None:
    target = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    results = {
        "evaluate": Finished(manifest("evaluate", {}, figures={"comparison": [comparison(low=low, high=high)]}), False)
    }
    print_summary(results, target)
    line = next(line for line in said(target).splitlines() if "oracle" in line)
    assert [code for code in ("31", "32") if f"\x1b[{code}m" in line] == ([colour] if colour else [])
