"""Hours and dollars of a whole job before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vp_ray.cli import main
from vp_ray.generate.planning import Measured, write_measured
from vp_ray.pipeline.costing import StageCost, costs_of, total_of
from vp_ray.pipeline.running import recorded_settings
from vp_ray.pipeline.settings import JobSettings, load_job
from vp_ray.pipeline.stages import STAGES
from vp_ray.pipeline.summary import amount, job_costs
from vp_ray.storage import RunFolder

ROOT = Path(__file__).parents[3]
JOBS = ("visionprefer", "visionprefer_dpo", "sdxl", "open_judge", "hundred_dollars")
ANNOTATOR = {
    "name": "a",
    "model": "m",
    "base_url": "http://127.0.0.1:1/v1",
    "requests_per_minute": 100,
    "image_tokens": 1000,
    "price": {"request_usd_per_million_tokens": 1, "reply_usd_per_million_tokens": 10},
}


def job(run: Path, **changes: Any) -> JobSettings:
    generator = {"name": "g", "source": "somewhere/model", "height": 64, "width": 64, "images_per_second": 2.0}
    pool = {"max_actors": 5, "gpus_per_actor": 0.5}
    values: dict[str, Any] = {
        "run": str(run),
        "estimate": {
            "prompts": 3600,
            "gpu_usd_per_hour": 2.0,
            "training_gpu_usd_per_hour": 3.0,
            "groups_per_second": 4.0,
            "rl_images_per_second": 0.5,
        },
        "prompts": {"sources": [{"kind": "jsonl", "path": "nowhere"}]},
        "generate": {"generators": [{**generator, "images_per_prompt": 4, "pool": pool}]},
        "annotate": {"annotators": [ANNOTATOR], "orders": 2},
        "reward": {"backbone": "b", "epochs": 2, "workers": {"num_workers": 2, "gpus_per_worker": 1}},
        "rl": {
            "generator": "g", "epochs": 10, "prompts_per_epoch": 18, "samples_per_prompt": 20, "batch_size": 10,
            "workers": {"num_workers": 2, "gpus_per_worker": 1},
        },
        "report": None,
    }  # fmt: skip
    return JobSettings.load({**values, **changes})


def by_stage(costs: list[StageCost]) -> dict[str, StageCost]:
    return {cost.stage: cost for cost in costs}


def test_a_case_worked_by_hand(tmp_path: Path) -> None:
    found = by_stage(costs_of(job(tmp_path)))
    # 3,600 prompts x 4 images / 2 a second = 2 actor hours: over 5 actors of half a GPU, at 2 dollars.
    generate = found["generate"]
    assert (generate.work, generate.hours, generate.gpu_hours, generate.gpu_usd) == ("14,400 images", 0.4, 1.0, 2.0)
    # One group of four in two orders: 7,200 requests at 100 a minute; 4 x 4 opinions of 28 tokens at 10 a million.
    annotate = found["annotate"]
    assert annotate.work == "7,200 requests"
    assert annotate.hours == pytest.approx(1.2)
    assert annotate.api_usd is not None
    replies = 7200 * 16 * 28 * 10 / 1e6
    images = 7200 * 4 * 1000 / 1e6
    assert images + replies < annotate.api_usd < images + replies + 7200 * 2000 / 1e6, "the rubric and the prompt too"
    # 3,600 groups twice, 4 a second on each of 2 ranks: 900 s; 10 x 18 x 20 images at 0.5 a second on each of 2: 1 h.
    assert (found["reward"].hours, found["reward"].gpu_hours, found["reward"].gpu_usd) == (0.25, 0.5, 1.5)
    assert (found["rl"].hours, found["rl"].gpu_hours, found["rl"].gpu_usd) == (1.0, 2.0, 6.0)
    total = total_of(list(found.values()))
    assert total.gpu_usd == 9.5
    assert total.hours == pytest.approx(0.4 + 1.2 + 0.25 + 1.0)


def test_twice_the_prompts_cost_twice_as_much_where_work_follows_them(tmp_path: Path) -> None:
    one, two = (by_stage(costs_of(job(tmp_path), prompts)) for prompts in (1000, 2000))
    for stage in ("generate", "annotate", "reward"):
        assert two[stage].hours == pytest.approx(2 * (one[stage].hours or 0))
    assert two["annotate"].api_usd == pytest.approx(2 * (one["annotate"].api_usd or 0))
    assert two["rl"] == one["rl"]


def test_what_is_not_told_stays_unknown_and_so_does_the_sum(tmp_path: Path) -> None:
    plain = {key: value for key, value in ANNOTATOR.items() if key != "price"} | {"model": "nobody-knows"}
    found = costs_of(job(tmp_path, annotate={"annotators": [plain]}, estimate={"prompts": 10, "gpu_usd_per_hour": 1}))
    costs = by_stage(found)
    assert costs["annotate"].api_usd is None
    assert costs["rl"].hours is None
    assert costs["generate"].gpu_usd == pytest.approx(10 * 4 / 2 / 3600 / 2)
    total = total_of(found)
    assert (total.api_usd, total.hours, total.gpu_usd) == (None, None, None)
    assert costs_of(job(tmp_path, estimate={})) == []
    assert job_costs(job(tmp_path, estimate=None)) == []


def test_what_the_run_has_measured_takes_the_place_of_what_was_stated(tmp_path: Path) -> None:
    write_measured(
        RunFolder.at(tmp_path).stage("generate"), {"g": Measured(images=100, actor_seconds=25.0, bytes=10**6)}
    )
    generate = by_stage(costs_of(job(tmp_path)))["generate"]
    assert generate.gpu_hours == pytest.approx(0.5)
    assert generate.gigabytes == pytest.approx(14_400 * 10_000 / 1e9)


def test_a_batch_costs_half_and_takes_up_to_a_day(tmp_path: Path) -> None:
    whole = by_stage(costs_of(job(tmp_path)))["annotate"]
    half = by_stage(costs_of(job(tmp_path, annotate={"annotators": [{**ANNOTATOR, "batch": {}}], "orders": 2})))
    assert half["annotate"].api_usd == pytest.approx((whole.api_usd or 0) / 2)
    assert half["annotate"].hours == 24.0


@pytest.mark.parametrize("name", JOBS)
def test_the_documents_say_what_the_dry_run_says(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMPTS", str(tmp_path))
    monkeypatch.setenv("VP_RAY_RUNS", str(tmp_path))
    path = ROOT / "jobs" / f"{name}.yaml"
    costs = job_costs(load_job(path))
    total = total_of(costs)
    figures = [total.hours, total.gpu_hours, total.gpu_usd, total.api_usd, total.gigabytes]
    told = [amount(figure) for figure in figures if figure is not None]
    assert len(told) == len(figures), "every figure of a job of ours is known"
    (row,) = [line for line in (ROOT / "docs" / "costs.md").read_text().splitlines() if f"| `{name}.yaml` |" in line]
    assert [cell.strip() for cell in row.strip("|").split("|")][3:] == told
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path), "--dry-run", "--json"])
    assert ended.value.code == 0
    stages = json.loads(capsys.readouterr().out)["estimate"]
    assert [stage["stage"] for stage in stages] == [cost.stage for cost in costs]


def test_a_hundred_dollars_are_enough_for_the_job_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTS", "prompts.txt")
    total = total_of(job_costs(load_job(ROOT / "jobs" / "hundred_dollars.yaml")))
    assert total.gpu_usd is not None
    assert total.api_usd is not None
    assert 50 < total.gpu_usd + total.api_usd < 100


def test_the_dpo_job_takes_over_the_stages_of_the_other() -> None:
    first, second = (load_job(ROOT / "jobs" / f"{name}.yaml") for name in ("visionprefer", "visionprefer_dpo"))
    shared = [stage for stage in STAGES if stage.name in ("prompts", "generate", "annotate", "preferences", "reward")]
    assert len(shared) == 5
    for stage in shared:
        assert recorded_settings(first, stage) == recorded_settings(second, stage)
    assert second.rl is not None
    assert second.rl.algorithm == "dpo"
