"""What the page picks out of a run: pairs whatever their result, different prompts, no exact ties, no secrets."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from vp_ray.pictures import encode_png
from vp_ray.records import ASPECTS, OVERALL, PREFERENCES, SCORES
from vp_ray.report.assets import Assets
from vp_ray.report.reading import RunReader
from vp_ray.report.scatter_chart import Point, scatter_chart
from vp_ray.report.sections.accuracy import accuracy_data, accuracy_sentence, accuracy_tables
from vp_ray.report.sections.annotators import annotators
from vp_ray.report.sections.choice import annotator_choice
from vp_ray.report.sections.comparison import before_after, comparison_rows, comparison_tables
from vp_ray.report.sections.curves import RL_CHARTS, charts, grids
from vp_ray.report.sections.evaluation import evaluation, witness_charts
from vp_ray.report.sections.preferences import preferences
from vp_ray.report.sections.settings import HIDDEN, stage_settings
from vp_ray.storage import Folder, RunFolder


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    return Assets(Folder.at(tmp_path / "page"), side=64)


def _read(assets: Assets, place: str) -> bytes:
    return assets.folder.read_bytes(place)


def test_pairs_are_the_same_whatever_their_result(made_run: Callable[..., Any], assets: Assets) -> None:
    made = made_run(12)
    made.evaluate()
    chosen = [card.prompt for card in before_after(RunReader(made.run), assets, "oracle", 5)]
    folder = made.run.stage("evaluate")
    scores = folder.read_table("scores.parquet")
    worse = scores.set_column(6, "score", pa.array(np.random.default_rng(0).random(len(scores))))
    folder.write_table("scores.parquet", worse, SCORES)
    assert [card.prompt for card in before_after(RunReader(made.run), assets, "oracle", 5)] == chosen
    assert len(chosen) == len(set(chosen)) == 5


def test_a_card_shows_the_scores_of_its_own_images(finished_run: RunFolder, assets: Assets) -> None:
    reader = RunReader(finished_run)
    card = before_after(reader, assets, "oracle", 1)[0]
    rows = reader.rows("evaluate", "images", ["image_id", "prompt", "generator"])
    ids = {row["generator"]: row["image_id"] for row in rows if row["prompt"] == card.prompt}
    scores = {
        (row["image_id"], row["aspect"]): row["score"]
        for row in reader.rows("evaluate", "scores.parquet", SCORES.names)
        if row["scorer"] == "oracle"
    }
    assert [name for name, _, _ in card.levels] == [*ASPECTS, OVERALL]
    for aspect, base, tuned in card.levels:
        assert (base, tuned) == (scores[ids["base"], aspect], scores[ids["tuned"], aspect])


def test_each_scorer_has_an_axis_of_its_own(finished_run: RunFolder) -> None:
    tables = comparison_tables(comparison_rows(RunReader(finished_run)))
    assert [(table.scorer, table.unit) for table in tables] == [("oracle", "level"), ("vp_score", "score")]
    assert tables[0].scale != tables[1].scale


def _preference(n: int, prompt: int, probability: float, images: list[str]) -> dict[str, Any]:
    return {
        "preference_id": f"{n:04d}",
        "prompt_id": f"p{prompt}",
        "prompt": f"prompt {prompt}",
        "aspect": OVERALL,
        "image_id_a": images[0],
        "image_id_b": images[1],
        "probability_a": probability,
        "margin": 4 * (probability - 0.5),
        "weight": 1.0,
        "same_generator": True,
        "split": "train",
    }


def test_both_ends_are_of_different_prompts_and_exact_ties_are_no_close_calls(
    made_run: Callable[..., Any], assets: Assets
) -> None:
    made = made_run(2)
    made.generate()
    ids = [row["image_id"] for row in made.images]
    probabilities = [(0, 0.99), (0, 0.98), (1, 0.02), (1, 0.55), (2, 0.5), (2, 0.9), (3, 0.48)]
    rows = [_preference(n, prompt, p, ids[n : n + 2]) for n, (prompt, p) in enumerate(probabilities)]
    made.run.stage("preferences").write_table("preferences.parquet", pa.Table.from_pylist(rows, schema=PREFERENCES))
    found = preferences(RunReader(made.run), assets, 3)
    assert found is not None
    assert [(card.prompt, card.probability) for card in found.clearest] == [
        ("prompt 0", 0.99),
        ("prompt 1", 0.98),
        ("prompt 2", 0.9),
    ]
    assert [card.prompt for card in found.closest] == ["prompt 3", "prompt 1", "prompt 2"]
    flipped = found.clearest[1]
    assert (flipped.preferred, flipped.other) == (assets.pictures[ids[3]], assets.pictures[ids[2]])
    assert flipped.margin == pytest.approx(1.92)


def test_a_card_holds_what_was_said_of_its_two_images_with_their_places(
    finished_run: RunFolder, assets: Assets
) -> None:
    reader = RunReader(finished_run)
    found = preferences(reader, assets, 4)
    assert found is not None
    spoken = [card for card in found.clearest if len(card.judgements) == 2]
    assert spoken
    for card in spoken:
        forward, backward = card.judgements
        assert (backward.place_a, backward.place_b) == (5 - forward.place_a, 5 - forward.place_b)
        assert card.aspects == ASPECTS
        total = sum(one.level_a - one.level_b for shown in card.judgements for one in shown.opinions)
        assert total / 8 == pytest.approx(card.margin)


def test_a_run_without_preferences_has_none(made_run: Callable[..., Any], assets: Assets) -> None:
    assert preferences(RunReader(made_run(2).run), assets, 3) is None


def test_levels_are_counted_by_aspect_and_sum_to_one(finished_run: RunFolder) -> None:
    panel = annotators(RunReader(finished_run))
    assert panel is not None
    assert [use.aspect for use in panel.levels] == list(ASPECTS)
    assert all(sum(use.shares) == pytest.approx(1) and 1 <= use.mean <= 5 for use in panel.levels)
    assert dict(panel.statuses[0].counts) == {"scored": 22, "refused": 2}
    assert (panel.statuses[0].rate_share, panel.statuses[0].refused_by_rate) == (0.993, 1)
    orders = [one for one in panel.agreement if one.between == "two orders"]
    assert [(one.kappa, one.alpha, one.tau) for one in orders[:3]] == [(0.81, 0.79, 0.7)] * 3
    assert (orders[3].kappa, orders[3].flip_rate) == (None, 0.06)
    # One annotator's orders are those of all, and are not shown twice.
    assert {one.between for one in panel.agreement} == {"two orders", "judge and second"}
    assert panel.biases[0].effects == ((0.21, 0.03), (-0.02, 0.03), (-0.04, 0.03), (-0.15, None))
    (cost,) = panel.costs
    assert (cost.model, cost.day, cost.tokens, cost.cost_usd) == ("gpt-4o", "2026-11-25", 1100, 0.0312)


def test_only_charts_with_numbers_are_drawn() -> None:
    rows = [{"epoch": n, "reward_mean": n / 10, "kl": None, "fidelity_mean": 0.5} for n in range(4)]
    drawn = charts(rows, RL_CHARTS, "epoch")
    assert [chart.title for chart in drawn] == ["Reward", "Fidelity"]
    assert all(chart.legend is None for chart in drawn)


def test_accuracies_have_the_overall_first_and_chance_last() -> None:
    figures = {
        "accuracy": {
            "fidelity": {"accuracy": 0.7, "low": None, "high": None},
            "overall": {"accuracy": 0.8, "pairs": 3},
        },
        "cross_validation": None,
    }
    (table,) = accuracy_tables(figures)
    assert [(row.name, row.is_own) for row in table.rows] == [("overall", True), ("fidelity", True), ("a coin", False)]
    assert accuracy_sentence([table]) == "VP-Score prefers what the labels prefer on 80.0\xa0% of 3 pairs."
    assert accuracy_tables({}) == accuracy_tables({"accuracy": {}, "cross_validation": []}) == []
    assert accuracy_sentence([]) is None


def test_trainings_on_less_are_compared_by_the_overall_pairs() -> None:
    rows = [
        {"variant": "all", "accuracy": {"overall": {"accuracy": 0.8, "low": 0.7, "high": 0.9, "pairs": 60}}},
        {"variant": "half", "accuracy": {"overall": {"accuracy": 0.75, "low": 0.6, "high": 0.9, "pairs": 60}}},
        {"variant": "unlabelled", "accuracy": {}},
    ]
    (table,) = accuracy_tables({"variants": rows})
    assert [(row.name, row.accuracy) for row in table.rows] == [("all", 0.8), ("half", 0.75), ("a coin", 0.5)]


def test_a_cross_validation_stands_beside_what_it_must_beat(finished_run: RunFolder) -> None:
    tables = accuracy_tables(RunReader(finished_run).figures("reward"))
    assert [table.title for table in tables] == ["Validation", "Cross-validation over prompts"]
    assert [row.name for row in tables[1].rows if not row.is_own] == [
        "the larger file",
        "one person against the others",
        "a coin",
    ]
    assert accuracy_sentence(tables) == (
        "VP-Score prefers what the labels prefer on 61.2\xa0% of 840 pairs (95 % interval 57.0\xa0% to 65.0\xa0%)."
    )
    assert len(list(accuracy_data(tables))) == 6 + 4


def test_grids_are_spread_from_the_first_to_the_last(made_run: Callable[..., Any], assets: Assets) -> None:
    made = made_run(8)
    made.rl(epochs=24)
    reader = RunReader(made.run)
    assert [grid.epoch for grid in grids(reader, assets, 4)] == [0, 8, 16, 24]
    assert [grid.epoch for grid in grids(reader, assets, 99)] == [0, 4, 8, 12, 16, 20, 24]
    assert grids(reader, assets, 0) == []


def test_the_verdict_stands_with_its_witnesses_and_each_way_of_drawing_beside_the_main_one(
    finished_run: RunFolder,
) -> None:
    reader = RunReader(finished_run)
    found = evaluation(reader, comparison_rows(reader))
    assert found is not None
    assert [row["scorer"] for row in found.witnesses] == ["vp_score", "oracle"]
    assert found.variety is not None
    assert "keep 90.0\N{NO-BREAK SPACE}% of the variance" in found.variety
    assert "\N{MINUS SIGN}25.0 % against the base" in found.variety
    oracle = next(table for table in found.conditions if table.scorer == "oracle")
    assert [row["name"] for row, _ in oracle.rows] == ["as compared above", "guidance_3", "other_noise"]
    assert [row["name"] for row, _ in found.categories[0].rows] == ["counts", "relations"]


def test_scorers_that_only_watch_have_charts_and_quality_is_drawn_over_diversity() -> None:
    rows = [
        {
            "epoch": n,
            "held_out_pick.overall": 0.1 * n,
            "held_out_fidelity": 1,
            "held_out_score": n,
            "diversity": 2 - n / 4,
        }
        for n in range(3)
    ]
    drawn = witness_charts(rows, None)
    assert [chart.title for chart in drawn] == ["Held out, by pick", "Quality and diversity"]
    assert "held-out score, image diversity 1.5000: 2.0000" in drawn[1].svg
    assert witness_charts([{"epoch": 0, "held_out_score": 1.0}], None) == []


def test_the_recommended_annotator_is_drawn_in_full_over_price(finished_run: RunFolder) -> None:
    found = annotator_choice(RunReader(finished_run))
    assert found is not None
    assert found.chart is not None
    large, small = (found.chart.index(f"<title>{name}: ") for name in ("large", "small"))
    assert small < large, "the cheaper one is drawn first"
    assert found.chart[:small].rpartition('<g class="s')[2].startswith("1")
    assert found.chart[:large].rpartition('<g class="s')[2].startswith("0")
    places = [float(found.chart[:place].rpartition('cx="')[2].partition('"')[0]) for place in (large, small)]
    assert places[0] > places[1], "it costs more"
    assert scatter_chart([Point("free", 0.0, 0.9, None, None)], label="x", x_name="usd") is None


def test_secrets_are_not_shown_and_nested_settings_are_flat(finished_run: RunFolder) -> None:
    shown = dict(stage_settings(RunReader(finished_run))[0][1])
    assert shown["generators.0.steps"] == "10"
    assert shown["judge.api_key"] == HIDDEN


def test_large_pictures_are_shrunk_small_ones_are_kept_to_the_byte_and_broken_ones_are_counted(
    made_run: Callable[..., Any], assets: Assets
) -> None:
    made = made_run(2)
    made.generate()
    rng = np.random.default_rng(0)
    sizes = {"small": (32, 32), "wide": (60, 240)}
    rows = [made.images[0] | {"image_id": name} for name in ("small", "wide", "../../broken")]
    pictures = {name: encode_png(rng.integers(0, 255, (*size, 3), np.uint8)) for name, size in sizes.items()}
    rows = [row | {"image": {"bytes": pictures.get(row["image_id"], b"GIF8"), "path": "x"}} for row in rows]
    table = made.run.stage("generate").read_table("images")
    made.run.stage("generate").write_table("images/more.parquet", pa.Table.from_pylist(rows, schema=table.schema))
    assets.add_pictures(RunReader(made.run), ["small", "wide", "../../broken"])
    assert assets.unreadable == 1
    assert _read(assets, assets.pictures["small"].source) == pictures["small"]
    wide = assets.pictures["wide"]
    assert (wide.width, wide.height) == (64, 16)
    assert Image.open(io.BytesIO(_read(assets, wide.source))).size == (64, 16)


def test_data_files_hold_every_key_and_no_formulas(assets: Assets) -> None:
    address = assets.add_data("x", [{"name": "=SUM(A1)", "value": -0.5}, {"name": "plain, text", "more": 3}])
    assert address == "assets/data/x.csv"
    rows = list(csv.DictReader(io.StringIO(_read(assets, address).decode())))
    assert rows[0] == {"name": "'=SUM(A1)", "value": "-0.5", "more": ""}
    assert rows[1] == {"name": "plain, text", "value": "", "more": "3"}
    assert assets.add_data("none", []) is None
