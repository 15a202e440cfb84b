"""What a stage will take: what is left to ask, at the price and the rate that are set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.small_runs import small_run
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.estimate import estimate, read_tier
from vp_ray.annotate.job import RETRY, dead_letters, reopen
from vp_ray.annotate.planning import index_images, plan
from vp_ray.errors import SettingsError
from vp_ray.judging.ledger import read_ledger
from vp_ray.judging.rubric import Rubric
from vp_ray.records import JUDGEMENTS
from vp_ray.storage import MANIFEST, Manifest, RunFolder

SETTINGS = AnnotateSettings.load(
    {
        "annotators": [
            {
                "name": "gpt",
                "model": "gpt-4o",
                "requests_per_minute": 60,
                "tokens_per_minute": 30_000,
                "max_reply_tokens": 1000,
                "price": {"request_usd_per_million_tokens": 1, "reply_usd_per_million_tokens": 10},
            }
        ]
    }
)


def judged(run: RunFolder, status: str, name: str = "w.jsonl") -> None:
    """Answers of this status to the first three judgements of the plan."""
    rows = []
    for item in plan(index_images(run.stage("generate") / "images"), SETTINGS, Rubric.load("visionprefer"))[:3]:
        row = {**dict.fromkeys(JUDGEMENTS.names), "judgement_id": item.judgement_id, "annotator": "gpt"}
        rows.append({**row, "status": status, "reply": "no", "reply_tokens": 100, "cost_usd": 0.0})
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (run.stage("annotate") / "ledger").make().write_bytes(name, text.encode())


def test_batches_are_estimated_at_half_the_price_and_not_in_hours(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", prompts=3)
    (live,) = estimate(SETTINGS, run)
    batch = AnnotateSettings.load({"annotators": [{**SETTINGS.annotators[0].model_dump(), "batch": {}}]})
    (batched,) = estimate(batch, run)
    assert live.cost_usd is not None
    assert batched.cost_usd == pytest.approx(live.cost_usd / 2)
    assert (batched.requests, batched.hours) == (live.requests, None)


def test_requests_tokens_dollars_and_hours_of_what_is_left(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", prompts=5)
    (whole,) = estimate(SETTINGS, run)
    assert whole.requests == 10
    # Four images of one tile (255 tokens) and the rubric, for each request.
    assert 10 * 4 * 255 < whole.request_tokens < 10 * (4 * 255 + 1000)
    assert whole.reply_tokens == 10 * 16 * 28
    assert whole.cost_usd == pytest.approx((whole.request_tokens + 10 * whole.reply_tokens) / 1e6, rel=1e-3)
    assert whole.hours == pytest.approx((whole.request_tokens + 10 * 1000) / 30_000 / 60)
    judged(run, "scored")
    (rest,) = estimate(SETTINGS, run, tier=read_tier("7/0"))
    assert (rest.requests, rest.reply_tokens) == (7, 700)
    assert rest.hours == pytest.approx(1 / 60)


def test_a_tier_is_two_numbers() -> None:
    with pytest.raises(SettingsError, match="requests and tokens a minute"):
        read_tier("fast")


def test_a_finished_stage_is_opened_again_for_what_was_refused_and_dead_letters_keep_the_reply(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", prompts=5)
    folder = run.stage("annotate")
    judged(run, "refused")
    folder.finish(Manifest("annotate", {}, {}, {}, 0.0))
    assert reopen(run, ["unreadable"]) == 0
    assert folder.exists(MANIFEST)
    assert reopen(run, ["refused"]) == 3
    assert not folder.exists(MANIFEST)
    assert set(folder.read_json(RETRY).values()) == {1}
    letters = [json.loads(line) for line in dead_letters(read_ledger(folder / "ledger")).splitlines()]
    assert [(letter["status"], letter["reply"]) for letter in letters] == [("refused", "no")] * 3
    with pytest.raises(SettingsError, match="'scored' cannot be asked again"):
        reopen(run, ["scored"])
