"""The whole stage over the real judge, with images drawn by the stage's own workers in this process."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vp_ray.errors import AnnotatorError, BudgetError, SettingsError, StorageError
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.evaluate.drawing import ModelShardMaker
from vp_ray.evaluate.job import run as evaluate
from vp_ray.evaluate.planning import choose_prompts, plan_drawings
from vp_ray.records import ASPECTS, COMPARISON, OVERALL
from vp_ray.storage import Folder, RunFolder

Make = Callable[..., RunFolder]
MakeSettings = Callable[..., EvaluateSettings]

DEAD_URL = "http://127.0.0.1:9/v1"


def _draw(settings: EvaluateSettings, run: RunFolder) -> None:
    """What the actors do, here: all images of the plan, and of those of the conditions."""
    _draw_one_way(settings, run, run.stage("evaluate") / "images")
    for name in settings.conditions:
        _draw_one_way(settings.condition(name), run, run.stage("evaluate") / "conditions" / name / "images")


def _draw_one_way(settings: EvaluateSettings, run: RunFolder, folder: Folder) -> None:
    prompts = choose_prompts(run.stage("prompts").read_table("prompts.parquet").to_pylist(), settings)
    adapter = str((run.stage("rl") / "adapter").local_path)
    folder.make()
    version = "" if settings.tuned else run.stage("rl").finished().fingerprint
    drawings = plan_drawings(prompts, settings, adapter, version)
    make = ModelShardMaker(
        {drawing.model.name: drawing.model.model_dump(mode="json") for drawing in drawings}, folder.uri
    )
    for drawing in drawings:
        for shard in drawing.shards:
            make(shard | {"model": drawing.model.name})


def test_other_ways_of_drawing_are_comparisons_of_their_own(
    trained_run: Make, settings: MakeSettings, judge_url: str
) -> None:
    run = trained_run(strength=0.5)
    ways = {"guided": {"guidance_scale": 3.0}, "longer": {"steps": 3, "prompts": 2}, "elsewhere": {"seed": 9}}
    chosen = settings(conditions=ways, judge_conditions=True)
    _draw(chosen, run)
    outcome = evaluate(chosen, run, judge_url)
    assert outcome.rows == {"made": 16 * 3 + 8, "scored": 16 * 3 + 8}
    rows = outcome.figures["conditions"]
    assert [(row["condition"], row["scorer"], row["prompts"]) for row in rows] == [
        ("guided", "oracle", 4), ("guided", "vp_score", 4), ("longer", "oracle", 2), ("longer", "vp_score", 2),
        ("elsewhere", "oracle", 4), ("elsewhere", "vp_score", 4),
    ]  # fmt: skip
    assert {row["aspect"] for row in rows} == {OVERALL}
    by_name = {(row["condition"], row["scorer"]): row["gain"] for row in rows}
    main = {row["scorer"]: row["gain"] for row in outcome.figures["comparison"] if row["aspect"] == OVERALL}
    assert len({by_name["guided", "vp_score"], by_name["elsewhere", "vp_score"], main["vp_score"]}) == 3
    guided = (run.stage("evaluate") / "conditions" / "guided" / "images").read_table(".").to_pylist()
    assert {row["guidance_scale"] for row in guided} == {3.0}
    assert run.stage("evaluate").read_table("conditions.parquet").to_pylist() == rows
    unseen = evaluate(settings(conditions=ways), run, judge_url)
    assert {row["scorer"] for row in unseen.figures["conditions"]} == {"vp_score"}
    assert unseen.rows["scored"] == 16


def test_another_model_takes_the_place_of_the_tuned_one_and_the_run_needs_no_rl(
    trained_run: Make, settings: MakeSettings, judge_url: str, tiny_pipeline: Path
) -> None:
    run = trained_run(strength=0.5)
    run.stage("rl").delete("manifest.json")
    other = {"name": "other", "source": str(tiny_pipeline), "guidance_scale": 1.0}
    same = settings(tuned=other | {"steps": 2}, judges=[])
    _draw(same, run)
    assert {row["gain"] for row in evaluate(same, run, None).figures["comparison"]} == {0.0}
    more = trained_run(name="more")
    longer = settings(tuned=other | {"steps": 4}, judges=[])
    _draw(longer, more)
    assert evaluate(longer, more, None).figures["comparison"][0]["gain"] != 0


def test_other_scorers_witness_the_gain_and_variety_is_measured(
    trained_run: Make, settings: MakeSettings, judge_url: str
) -> None:
    run = trained_run(strength=0.5)
    chosen = settings(scorers={"second": (run.stage("reward") / "checkpoint").uri})
    _draw(chosen, run)
    figures = evaluate(chosen, run, judge_url).figures
    of = {name: [row for row in figures["comparison"] if row["scorer"] == name] for name in ("vp_score", "second")}
    changed = {"scorer": "", "p_adjusted": 0}
    assert [row | changed for row in of["vp_score"]] == [row | changed for row in of["second"]], (
        "they are the same model"
    )
    assert [row["scorer"] for row in figures["exploitation"]["witnesses"]] == ["oracle", "second"]
    assert {row["scorer"] for row in figures["agreement"]} == {"vp_score", "second"}
    assert figures["variety"]["share"] > 0
    assert figures["variety"]["within_base"] > 0
    assert figures["categories"] == [], "there is one category"


def test_prompts_of_several_categories_are_compared_by_category(
    trained_run: Make, settings: MakeSettings, judge_url: str
) -> None:
    run, chosen = trained_run(strength=0.5), settings()
    table = run.stage("prompts").read_table("prompts.parquet")
    place = table.schema.get_field_index("category")
    run.stage("prompts").write_table(
        "prompts.parquet", table.set_column(place, "category", [["one", "two", "two", "two"]])
    )
    _draw(chosen, run)
    rows = evaluate(chosen, run, judge_url).figures["categories"]
    assert [(row["category"], row["scorer"], row["prompts"]) for row in rows] == [
        ("one", "oracle", 1), ("one", "vp_score", 1), ("two", "oracle", 3), ("two", "vp_score", 3)
    ]  # fmt: skip


def _stats(judge_url: str) -> dict[str, Any]:
    with urllib.request.urlopen(judge_url.removesuffix("/v1") + "/stats") as reply:  # noqa: S310 - loopback
        found: dict[str, Any] = json.load(reply)
    return found


def test_an_adapter_that_changes_nothing_gains_exactly_nothing(
    trained_run: Make, settings: MakeSettings, judge_url: str
) -> None:
    run, chosen = trained_run(strength=0.0), settings()
    _draw(chosen, run)
    outcome = evaluate(chosen, run, judge_url)
    assert outcome.rows == {"made": 16, "scored": 16}
    comparison = outcome.figures["comparison"]
    assert [(row["scorer"], row["aspect"]) for row in comparison] == [
        (scorer, aspect) for scorer in ("oracle", "vp_score") for aspect in (OVERALL, *ASPECTS)
    ]
    for row in comparison:
        assert row["gain"] == row["low"] == row["high"] == 0
        assert (row["wins"], row["ties"], row["losses"], row["prompts"], row["pairs"]) == (0, 4, 0, 4, 8)
    folder = run.stage("evaluate")
    assert folder.read_table("comparison.parquet").to_pylist() == comparison
    assert folder.read_table("comparison.parquet").schema == COMPARISON
    assert len(folder.read_table("scores.parquet")) == 16 * 5 * 2


def test_an_adapter_that_changes_the_images_is_told_from_its_base(
    trained_run: Make, settings: MakeSettings, judge_url: str
) -> None:
    run, chosen = trained_run(strength=0.5), settings(judges=[])
    _draw(chosen, run)
    outcome = evaluate(chosen, run, None)
    assert outcome.rows == {"made": 16}
    assert outcome.figures["comparison"][0]["gain"] != 0
    assert outcome.figures["agreement"] == []


def _spread(run: RunFolder) -> float:
    """Mean size of the difference between base and tuned, over pairs and aspects, in levels."""
    scores: dict[tuple[str, int, str], dict[str, float]] = {}
    for row in run.stage("evaluate").read_table("scores.parquet").to_pylist():
        scores.setdefault((row["prompt_id"], row["seed"], row["aspect"]), {})[row["generator"]] = row["score"]
    return float(np.mean([abs(both["tuned"] - both["base"]) for both in scores.values()]))


def test_two_orders_cancel_a_judges_liking_for_a_place_and_one_order_does_not(
    trained_run: Make, settings: MakeSettings, judge_url: str
) -> None:
    run = trained_run(strength=0.0)
    biased = {"name": "biased", "model": "shapeworld-judge", "base_url": "embedded", "requests_per_minute": 0}
    both = settings(judges=[biased], vp_score=False)
    _draw(both, run)
    evaluate(both, run, judge_url)
    judgements = run.stage("evaluate").read_table("judgements.parquet").to_pylist()
    orders = {tuple(row["order"]) for row in judgements}
    assert len(orders) == 16
    assert {order[::-1] for order in orders} == orders
    with_both = _spread(run)

    single = evaluate(settings(judges=[biased], vp_score=False, orders=1), run, judge_url)
    assert single.rows["scored"] == 8
    kept = run.stage("evaluate").read_table("judgements.parquet").to_pylist()
    assert {row["judgement_id"] for row in kept} < {row["judgement_id"] for row in judgements}
    # The images of a pair are equal, so all that differs is the judge's.
    assert with_both < 0.3
    assert _spread(run) > 0.8


def test_a_second_call_asks_nothing_again_and_needs_no_judge(
    trained_run: Make, settings: MakeSettings, judge_url: str
) -> None:
    run, chosen = trained_run(strength=0.1), settings()
    _draw(chosen, run)
    first = evaluate(chosen, run, judge_url)
    scores = run.stage("evaluate").read_bytes("scores.parquet")
    again = evaluate(chosen, run, DEAD_URL)
    assert again.figures["comparison"] == first.figures["comparison"]
    assert again.rows == first.rows
    assert run.stage("evaluate").read_bytes("scores.parquet") == scores


def test_what_the_ledger_lost_is_asked_and_nothing_else(
    trained_run: Make, settings: MakeSettings, judge_url: str
) -> None:
    run, chosen = trained_run(strength=0.1), settings()
    _draw(chosen, run)
    first = evaluate(chosen, run, judge_url)
    ledger = run.stage("evaluate") / "ledger"
    lines = [line for name in ledger.names() for line in ledger.read_bytes(name).splitlines(keepends=True)]
    for name in ledger.names():
        ledger.delete(name)
    ledger.write_bytes("kept.jsonl", b"".join(lines[:11]) + lines[11][:40])
    before = _stats(judge_url)["requests"]
    again = evaluate(chosen, run, judge_url)
    assert _stats(judge_url)["requests"] - before == 16 - 11
    assert again.figures["comparison"] == first.figures["comparison"]


def test_a_pair_with_a_blank_image_is_counted_and_left_out(
    trained_run: Make, settings: MakeSettings, judge_url: str
) -> None:
    run, chosen = trained_run(strength=0.1), settings()
    _draw(chosen, run)
    images = run.stage("evaluate") / "images"
    name = next(name for name in images.names() if name.startswith("tuned"))
    table = images.read_table(name)
    images.write_table(
        name, table.set_column(10, "status", [["blank", *table["status"].to_pylist()[1:]]]), table.schema
    )
    outcome = evaluate(chosen, run, judge_url)
    assert outcome.rows == {"made": 15, "blank": 1, "scored": 14}
    assert {row["pairs"] for row in outcome.figures["comparison"]} == {7}


def test_a_judge_that_does_not_answer_stops_the_stage_and_the_drawn_images_stay(
    trained_run: Make, settings: MakeSettings
) -> None:
    run, chosen = trained_run(), settings()
    _draw(chosen, run)
    with pytest.raises(AnnotatorError, match=r"'oracle' does not answer.*goes on from here"):
        evaluate(chosen, run, DEAD_URL)
    with pytest.raises(SettingsError, match="does not run here"):
        evaluate(chosen, run, None)
    assert len((run.stage("evaluate") / "images").names()) == 8


def test_a_budget_stops_before_it_is_passed_and_keeps_what_was_paid(
    trained_run: Make, settings: MakeSettings, judge_url: str
) -> None:
    judge = {"name": "oracle", "model": "shapeworld-oracle", "base_url": judge_url, "concurrency": 1}
    run, unpriced = trained_run(), settings(judges=[judge], budget_usd=1.0)
    _draw(unpriced, run)
    with pytest.raises(SettingsError, match="the price of 'shapeworld-oracle' is not known"):
        evaluate(unpriced, run, None)
    price = {"request_usd_per_million_tokens": 1000, "reply_usd_per_million_tokens": 1000}
    priced = settings(judges=[judge | {"price": price, "max_reply_tokens": 1000}], budget_usd=6.0)
    with pytest.raises(BudgetError):
        evaluate(priced, run, None)
    ledger = run.stage("evaluate") / "ledger"
    rows = [json.loads(line) for name in ledger.names() for line in ledger.read_bytes(name).splitlines()]
    assert 0 < len(rows) < 16
    assert 0 < sum(row["cost_usd"] for row in rows) <= 6.0


def test_a_run_without_a_reward_model_or_adapter_says_which_stage_to_run(
    trained_run: Make, settings: MakeSettings, judge_url: str
) -> None:
    run, chosen = trained_run(), settings()
    _draw(chosen, run)
    run.stage("reward").delete("manifest.json")
    with pytest.raises(StorageError, match="'reward' is not finished"):
        evaluate(chosen, run, judge_url)
    run.stage("rl").delete("manifest.json")
    with pytest.raises(StorageError, match="'rl' is not finished"):
        evaluate(chosen, run, judge_url)
