"""The annotate stage with an annotator that takes batches: no actor and no cluster is needed for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.small_runs import small_run
from vp_ray.annotate.batches import under_way
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.estimate import estimate
from vp_ray.annotate.job import reopen, run
from vp_ray.errors import BudgetError, SettingsError
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.judging.ledger import answered, spent_usd
from vp_ray.records import JUDGEMENTS
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge


@pytest.fixture(scope="module")
def judge_url() -> Iterator[str]:
    with running_judge(JudgeSettings.load({"batches": {"seconds": 0.2, "expired_lines": 0.2}})) as url:
        yield url


def settings(budget_usd: float | None = None, **changes: Any) -> AnnotateSettings:
    judge = {
        "name": "judge",
        "model": "shapeworld-judge",
        "base_url": "embedded",
        "image_side_pixels": 64,
        "max_reply_tokens": 1000,
        "price": {"request_usd_per_million_tokens": 100, "reply_usd_per_million_tokens": 100},
        "batch": {"requests_per_file": 4, "poll_seconds": 0.05},
    }
    return AnnotateSettings.load({"annotators": [{**judge, **changes}], "budget_usd": budget_usd})


def test_the_stage_goes_through_batches_stops_at_its_budget_and_goes_on(tmp_path: Path, judge_url: str) -> None:
    folder = small_run(tmp_path / "run", prompts=6)
    stage = folder.stage("annotate")
    with pytest.raises(BudgetError, match="raise the stage's budget_usd"):
        run(settings(budget_usd=0.6), folder, judge_url)
    assert 0 < len(answered(stage / "ledger")) < 12
    assert spent_usd(stage / "ledger") <= 0.6
    with pytest.raises(SettingsError, match="price of 'gpt-unknown' is not known"):
        run(settings(budget_usd=1.0, price=None, model="gpt-unknown", base_url=judge_url), folder, None)

    outcome = run(settings(budget_usd=10.0), folder, judge_url)
    assert outcome.rows == {"scored": 12}
    assert outcome.cost_usd == pytest.approx(spent_usd(stage / "ledger"))
    assert outcome.figures["answers_per_minute"] is None
    batches = outcome.figures["batches"]["judge"]
    assert batches["batches"] == batches.get("completed", 0) + batches.get("expired", 0)
    judgements = stage.read_table("judgements.parquet")
    assert judgements.schema.equals(JUDGEMENTS)
    assert set(judgements["status"].to_pylist()) == {"scored"}
    assert under_way(settings(), stage) == set()
    assert estimate(settings(), folder)[0].requests == 0

    # A retry asks only what it names, and what is answered since counts.
    assert reopen(folder, ["refused"]) == 0
    assert run(settings(), folder, judge_url).rows == {"scored": 12}


def test_batches_are_for_the_annotate_stage_and_for_addresses_that_serve_them() -> None:
    base = {"name": "weak", "source": "embedded:weak", "guidance_scale": 1}
    with pytest.raises(SettingsError, match="take out batch, which is for annotate"):
        EvaluateSettings.load({"base": base, "judges": [settings().annotators[0].model_dump()]})
    with pytest.raises(SettingsError, match=r"base_url is then \.\.\./openai/v1"):
        settings(base_url="https://x.openai.azure.com", azure_api_version="2024-10-21")
