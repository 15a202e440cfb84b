"""The model of a run of any size: its work by hand, its speeds, and what gives out first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vp_ray.cli.program import main
from vp_ray.errors import SettingsError, StorageError
from vp_ray.pipeline.limits import BYTES_A_JUDGEMENT, BYTES_AN_INDEXED_IMAGE, limits_of
from vp_ray.pipeline.scale import Trial, forecast, requests_of_a_prompt, speeds_of, work_of
from vp_ray.pipeline.scale_report import prompts_by_split, scale_of, trial_of
from vp_ray.pipeline.settings import JobSettings, load_job
from vp_ray.storage import Manifest, RunFolder

ROOT = Path(__file__).parents[3]
DEMO, PAPER = ROOT / "jobs" / "demo.yaml", ROOT / "jobs" / "visionprefer.yaml"


def demo(*assignments: str) -> JobSettings:
    return load_job(DEMO, list(assignments))


def test_the_work_of_the_demo_by_hand() -> None:
    works = work_of(demo(), {"train": 256, "held_out": 100})
    told = {name: (work.amount, work.load, work.rows) for name, work in works.items()}
    assert told["prompts"] == (356, 356, 356)
    # Two generators of two images each, one actor.
    assert told["generate"] == (1024, 1024, 1024)
    # Two orders of one group; a judgement each, and four aspects of four images.
    assert told["annotate"] == (512, 512, 512 + 4096)
    # Six pairs in four aspects and overall.
    assert told["preferences"][2] == 256 * 6 * 5
    # Six epochs on two ranks.
    assert told["reward"][:2] == (1536, 768)
    # 5,120 images of 6 steps, 4 of them trained at three passes each, and 6 checks of 64 prompts in 10 steps.
    assert told["rl"][0] == 5120 * (6 + 3 * 4) + 6 * 64 * 10
    assert told["rl"][1] == told["rl"][0] / 2
    assert told["evaluate"][0] == 200


@pytest.mark.parametrize(
    ("settings", "requests"),
    [
        ({}, 2),
        ({"orders": 4}, 4),
        ({"ask": "each"}, 8),
        ({"mode": "pointwise", "group_size": 1, "orders": 1}, 6),
        # Six images are two groups of three, with three pairs each, in two orders.
        ({"mode": "pairwise"}, 12),
        ({"group_size": 2}, 6),
    ],
)
def test_requests_of_a_prompt_of_six_images_by_hand(settings: dict[str, Any], requests: int) -> None:
    values = demo().model_dump(by_alias=True)
    values["annotate"] |= {"group_size": 6 if not settings or "orders" in settings or "ask" in settings else 4}
    values["annotate"] |= settings
    chosen = JobSettings.load(values).annotate
    assert chosen is not None
    assert requests_of_a_prompt(chosen, 6) == requests


def test_two_trials_tell_start_and_cost_exactly_where_time_is_linear() -> None:
    def trial(prompts: int) -> Trial:
        works = work_of(demo(), {"train": prompts, "held_out": prompts})
        return Trial(works, {name: 5.0 + 0.25 * work.load for name, work in works.items()})

    speeds = speeds_of([trial(24), trial(8)])
    works = work_of(demo(), {"train": 1000, "held_out": 1000})
    seconds = forecast(works, speeds)
    for name, work in works.items():
        assert seconds[name] == pytest.approx(5.0 + 0.25 * work.load), name


def test_limits_on_requests_and_tokens_set_the_pace_where_they_are_slower() -> None:
    job = load_job(PAPER, [])
    works = work_of(job, {"train": 1_000_000})
    # Two orders at 5,000 requests a minute would be 400 minutes; replies of up to 1,500 tokens take longer.
    assert works["annotate"].paced_seconds == pytest.approx(2_000_000 * 1500 / 2_000_000 * 60)
    assert forecast(works, {})["annotate"] == works["annotate"].paced_seconds
    assert forecast(works, {})["generate"] is None


def test_pools_with_gpus_spread_over_those_that_are_given() -> None:
    job = load_job(PAPER, [])
    own, many = (work_of(job, {"train": 1000}, gpus)["generate"] for gpus in (None, 1000))
    assert own.load == 4 * 1000 / 32
    assert many.load == 4 * 1000 / 1000
    assert own.amount == many.amount == 4000


def test_what_gives_out_first_at_ten_million_prompts_and_where_it_does() -> None:
    job, prompts = load_job(PAPER, []), 10_000_000
    first, *others = limits_of(job, {"train": prompts}, 1000, memory_gib=24)
    assert first.what == "memory of the annotate stage's driver"
    needed = 2 * prompts * BYTES_A_JUDGEMENT + 4 * prompts * BYTES_AN_INDEXED_IMAGE
    assert first.needed == pytest.approx(needed / 2**30)
    assert first.breaks
    assert first.prompts == pytest.approx(24 * 2**30 / (needed / prompts))
    assert [limit.prompts for limit in others if limit.breaks] == sorted(
        limit.prompts for limit in others if limit.breaks
    )
    # At the number of prompts where a limit is reached, all of it is used.
    (again,) = (limit for limit in limits_of(job, {"train": round(first.prompts)}, 1000) if limit.what == first.what)
    assert again.needed == pytest.approx(24, rel=1e-4)


def test_splits_of_another_size_are_the_jobs_own() -> None:
    assert prompts_by_split(demo(), 1000) == {"train": 500, "held_out": 500}
    assert prompts_by_split(load_job(PAPER, []), 1000) == {"train": 900, "held_out": 100}
    imported = load_job(ROOT / "jobs" / "hpdv2_gallery.yaml", [])
    with pytest.raises(SettingsError, match="no section 'prompts'"):
        prompts_by_split(imported, 10)


def finished(path: Path, prompts: int, factor: float) -> JobSettings:
    """A job whose run says that each stage took 3 s and `factor` a unit of load."""
    job, run = demo(f"run={path}"), RunFolder.at(path)
    splits = {"train": prompts, "held_out": prompts}
    for name, work in work_of(job, splits).items():
        figures = {"splits": splits} if name == "prompts" else {}
        run.stage(name).finish(Manifest(name, {}, {}, {}, 3.0 + factor * work.load, figures=figures))
    return job


def test_finished_runs_tell_the_speeds_of_a_forecast(tmp_path: Path) -> None:
    trials = [finished(tmp_path / str(count), count, 0.5) for count in (10, 30)]
    told = scale_of(demo(), trials, prompts=2000, gpus=0, memory_gib=24, days=7)
    seconds = {row["stage"]: row["seconds"] for row in told["stages"]}
    assert seconds["generate"] == pytest.approx(3.0 + 0.5 * 4000)
    assert seconds["annotate"] == pytest.approx(3.0 + 0.5 * 2000)
    with pytest.raises(StorageError, match="is not finished"):
        trial_of(demo(f"run={tmp_path / 'none'}"))


def test_the_command_prints_the_forecast_and_names_what_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["scale", str(PAPER), "--prompts", "10000000", "--gpus", "1000", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["prompts"] == {"train": 9_000_000, "held_out": 1_000_000}
    assert told["stages"][1]["amount"] == 36_000_000
    assert told["limits"][0]["breaks"]
    with pytest.raises(SystemExit):
        main(["scale", str(PAPER), "--prompts", "1000"])
    assert "What gives out first" in capsys.readouterr().out
