"""The annotate stage end to end: rendered scenes, the embedded judge, and a driver that is killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.ray.annotating_process import SETTINGS
from tests.small_runs import small_run
from vp_ray.annotate.batches import under_way
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.estimate import estimate
from vp_ray.annotate.job import run
from vp_ray.errors import AnnotatorError, BudgetError, SettingsError
from vp_ray.judging.ledger import answered, spent_usd
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.job import run as make_preferences
from vp_ray.records import ASPECTS, JUDGEMENTS, RATINGS
from vp_ray.report.config import ReportSettings
from vp_ray.report.job import run as make_report
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.shapeworld.judgement import score_images
from vp_ray.storage import Manifest, RunFolder

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def judge_url() -> Iterator[str]:
    with running_judge(JudgeSettings(latency_seconds=0.05)) as url:
        yield url


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url.replace("/v1", "/stats"), timeout=10) as reply:  # noqa: S310
        return json.loads(reply.read())


def settings(annotator: dict[str, Any] | None = None, **changes: Any) -> AnnotateSettings:
    judge = {**SETTINGS["annotators"][0], **(annotator or {})}
    return AnnotateSettings.load({**SETTINGS, "annotators": [judge], **changes})


def test_a_killed_driver_loses_no_answer_and_pays_for_none_twice(
    tmp_path: Path, judge_url: str, request: pytest.FixtureRequest
) -> None:
    folder = small_run(tmp_path / "run", prompts=20)
    ledger = folder.stage("annotate") / "ledger"
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.ray.annotating_process", folder.uri, judge_url],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    deadline = time.monotonic() + 180
    while len(answered(ledger)) < 9 and time.monotonic() < deadline and driver.poll() is None:
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    # The actors of a killed driver end by themselves; until then they may still write.
    before = -1
    while len(answered(ledger)) != before:
        before = len(answered(ledger))
        time.sleep(3)
    assert 9 <= before < 40

    request.getfixturevalue("local_ray")
    outcome = run(settings(), folder, judge_url)
    assert outcome.rows == {"scored": 40}
    assert stats(judge_url)["bodies_judged"] == 40
    assert stats(judge_url)["bodies_judged_again"] <= 4
    assert outcome.figures["orders_compared"] == 20
    assert 0.3 < outcome.figures["kappa_by_aspect"]["fidelity"] <= 1.0
    assert outcome.figures["traffic"]["judge"]["requests"] == 40 - before

    judgements = folder.stage("annotate").read_table("judgements.parquet")
    ratings = folder.stage("annotate").read_table("ratings.parquet")
    assert judgements.schema.equals(JUDGEMENTS)
    assert ratings.schema.equals(RATINGS)
    assert ratings.num_rows == 20 * 4 * len(ASPECTS)
    assert set(ratings["count"].to_pylist()) == {2}

    again = run(settings(), folder, judge_url)
    assert again.rows == outcome.rows
    assert stats(judge_url)["requests"] == sum(stats(judge_url)["answers"].values())
    assert stats(judge_url)["bodies_judged_again"] <= 4
    assert folder.stage("annotate").read_table("judgements.parquet").equals(judgements)


def test_the_better_generators_images_have_the_better_fidelity(tmp_path: Path, judge_url: str, local_ray: None) -> None:
    folder = small_run(tmp_path / "run", prompts=12)
    run(settings({"model": "shapeworld-oracle"}, orders=1), folder, judge_url)
    rows = folder.stage("annotate").read_table("ratings.parquet").to_pylist()

    def mean(generator: str) -> float:
        levels = [row["mean"] for row in rows if (row["generator"], row["aspect"]) == (generator, "fidelity")]
        return sum(levels) / len(levels)

    assert mean("strong") > mean("weak") + 0.3


def test_quota_and_budget_end_the_stage_cleanly_and_a_second_call_finishes_it(
    tmp_path: Path, judge_url: str, local_ray: None
) -> None:
    folder = small_run(tmp_path / "run", prompts=12)
    ledger = folder.stage("annotate") / "ledger"
    with running_judge(JudgeSettings(quota_requests=10)) as poor, pytest.raises(AnnotatorError, match="no quota left"):
        run(settings(), folder, poor)
    assert len(answered(ledger)) == 10

    dear = {"price": {"request_usd_per_million_tokens": 100, "reply_usd_per_million_tokens": 100}}
    with pytest.raises(BudgetError, match="raise the stage's budget_usd"):
        run(settings(dear, budget_usd=1.0), folder, judge_url)
    kept = answered(ledger)
    assert 10 < len(kept) < 24
    assert 0.0 < spent_usd(ledger) <= 1.0
    with pytest.raises(BudgetError):
        run(settings(dear, budget_usd=spent_usd(ledger)), folder, judge_url)

    outcome = run(settings(dear, budget_usd=50.0), folder, judge_url)
    assert outcome.rows == {"scored": 24}
    assert outcome.cost_usd == pytest.approx(spent_usd(ledger))
    assert kept < answered(ledger)


def test_what_cannot_work_is_refused_before_an_actor_starts(tmp_path: Path, local_ray: None) -> None:
    folder: RunFolder = small_run(tmp_path / "run", prompts=2)
    with pytest.raises(AnnotatorError, match=r"does not answer at http://127\.0\.0\.1:9/v1"):
        run(settings(), folder, "http://127.0.0.1:9/v1")
    with pytest.raises(SettingsError, match="embedded judge, which does not run here"):
        run(settings(), folder, None)
    elsewhere = {"base_url": "http://127.0.0.1:9/v1", "model": "unpriced"}
    with pytest.raises(SettingsError, match=r"price of 'unpriced' is not known.*Set the annotator's price"):
        run(settings(elsewhere, budget_usd=1.0), folder, None)


def test_batches_run_beside_live_annotators_and_are_collected_when_batches_are_turned_off(
    tmp_path: Path, local_ray: None
) -> None:
    folder = small_run(tmp_path / "run", prompts=6)
    ledger = folder.stage("annotate") / "ledger"
    price = {"request_usd_per_million_tokens": 100, "reply_usd_per_million_tokens": 100}
    live = {**SETTINGS["annotators"][0], "price": price}
    batched = {**live, "name": "batched", "batch": {"requests_per_file": 5, "poll_seconds": 0.1}}
    with running_judge(JudgeSettings.load({"batches": {"seconds": 1.0}})) as url:
        # What is held for the batches is not there for the live annotator: it has hardly anything to spend.
        with pytest.raises(BudgetError):
            run(AnnotateSettings.load({**SETTINGS, "annotators": [batched, live], "budget_usd": 1.3}), folder, url)
        sent = under_way(AnnotateSettings.load({**SETTINGS, "annotators": [batched]}), folder.stage("annotate"))
        assert sent
        assert not sent & answered(ledger)
        plain = {**batched, "batch": None}
        outcome = run(AnnotateSettings.load({**SETTINGS, "annotators": [plain, live]}), folder, url)
        assert stats(url)["requests"] == 24, "no answer is paid twice"
    assert outcome.rows == {"scored": 24}
    assert sent <= answered(ledger)
    assert set(outcome.figures["traffic"]) == {"batched", "judge"}


def truth(folder: RunFolder) -> dict[str, np.ndarray]:
    """The noise-free levels of each image, unrounded, by aspect."""
    rows = (folder.stage("generate") / "images").read_table(".").to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) for row in rows])
    scores = score_images(pixels, [row["prompt"] for row in rows])
    return {row["image_id"]: levels for row, levels in zip(rows, scores, strict=True)}


def share_right(folder: RunFolder, true: dict[str, np.ndarray]) -> dict[str, float]:
    """By aspect, the share of pairs of different truth whose more probable image is the better one."""
    preferences = folder.stage("preferences").read_table("preferences.parquet").to_pylist()
    right: dict[str, list[float]] = {}
    for row in preferences:
        levels = (true[row["image_id_a"]] - true[row["image_id_b"]]).tolist()
        difference = sum(levels) / 4 if row["aspect"] == "overall" else levels[ASPECTS.index(row["aspect"])]
        if abs(difference) >= 0.5:
            right.setdefault(row["aspect"], []).append((row["probability_a"] - 0.5) * difference > 0)
    return {aspect: sum(values) / len(values) for aspect, values in right.items()}


@pytest.mark.parametrize(
    ("changes", "judgements"),
    [
        ({"mode": "pairwise"}, 12 * 12),
        ({"mode": "pointwise", "samples": 2}, 12 * 4 * 2),
        ({"ask": "each", "show_prompt": "prompt_following"}, 12 * 2 * 4),
    ],
)
def test_each_way_of_asking_leads_to_preferences_that_agree_with_the_truth(
    tmp_path: Path, judge_url: str, local_ray: None, changes: dict[str, Any], judgements: int
) -> None:
    folder = small_run(tmp_path / "run", prompts=12)
    chosen = settings({"temperature": 1.0, "concurrency": 16}, **changes)
    (before,) = estimate(chosen, folder)
    outcome = run(chosen, folder, judge_url)
    assert outcome.rows == {"scored": judgements}
    assert before.requests == outcome.figures["traffic"]["judge"]["requests"] == judgements
    assert [left.requests for left in estimate(chosen, folder)] == [0]
    stage = folder.stage("annotate")
    sent = stage.read_table("judgements.parquet", ("request_tokens", "rubric_version", "mode", "aspects"))
    assert before.request_tokens == pytest.approx(sum(sent["request_tokens"].to_pylist()), rel=0.2)
    assert len(set(sent["rubric_version"].to_pylist())) == 1
    stage.finish(Manifest("annotate", chosen.recorded(), {}, outcome.rows, 1.0, 0.0, outcome.figures))
    pairwise = changes.get("mode") == "pairwise"
    assert stage.exists("comparisons.parquet") == pairwise
    assert stage.exists("ratings.parquet") != pairwise

    made = make_preferences(PreferenceSettings(), folder)
    folder.stage("preferences").finish(Manifest("preferences", {}, {}, made.rows, 1.0, 0.0, made.figures))
    assert made.rows == {"preferences": 12 * 6 * 5}
    found = share_right(folder, truth(folder))
    assert min(found.values()) > 0.8
    assert found["overall"] > 0.85
    figures = outcome.figures
    if pairwise:
        assert figures["orders_compared"] == 12 * 6
        assert abs(figures["first_shown_wins"]["judge"]["fidelity"]["share"] - 0.5) < 0.15
    elif "samples" in changes:
        assert figures["between_samples"]["judge"]["compared"] == 12 * 4
        assert figures["slot_bias"] == {}
    else:
        assert figures["orders_compared"] == 12 * 4
        assert set(figures["slot_bias"]["judge"]) == set(ASPECTS)
    make_report(ReportSettings(), folder)
    page = (folder.stage("report").local_path / "index.html").read_text()
    assert ("The first of two images wins" in page) == pairwise
