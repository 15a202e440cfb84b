"""The plan: every group, every order, every annotator, and only what is missing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.small_runs import png, small_run
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.planning import Planned, index_images, plan, shards
from vp_ray.errors import InputError, SettingsError
from vp_ray.judging.rubric import Rubric
from vp_ray.pictures import ImageReader
from vp_ray.records import ASPECTS, IMAGES
from vp_ray.storage import Folder, RunFolder

JUDGE = {"name": "judge", "model": "m", "base_url": "embedded"}
RUBRIC = Rubric.load("visionprefer")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return small_run(tmp_path_factory.mktemp("run"), prompts=6)


def settings(**changes: object) -> AnnotateSettings:
    return AnnotateSettings.load({"annotators": [JUDGE], **changes})


@pytest.mark.parametrize(("orders", "expected"), [(1, 6), (2, 12), (4, 24)])
def test_each_group_is_planned_once_in_each_order_for_each_annotator(
    run: RunFolder, orders: int, expected: int
) -> None:
    index = index_images(run.stage("generate") / "images")
    twice = settings(orders=orders, annotators=[JUDGE, {**JUDGE, "name": "second"}])
    planned = plan(index, twice, RUBRIC)
    assert len(planned) == 2 * expected
    assert len({item.judgement_id for item in planned}) == 2 * expected
    shown = Counter(image for item in planned for image in item.order)
    assert set(shown.values()) == {2 * orders}
    assert len(shown) == 24


def test_the_plan_does_not_depend_on_the_order_of_rows_within_a_prompt(run: RunFolder) -> None:
    index = index_images(run.stage("generate") / "images")
    backwards = index.take(list(range(index.num_rows))[::-1])
    first, second = ({item.judgement_id for item in plan(rows, settings(), RUBRIC)} for rows in (index, backwards))
    assert first == second


def test_shards_hold_what_is_missing_in_turns_of_the_annotators_and_find_their_images(run: RunFolder) -> None:
    folder = run.stage("generate") / "images"
    index = index_images(folder)
    two = settings(annotators=[JUDGE, {**JUDGE, "name": "second"}])
    planned = plan(index, two, RUBRIC)
    done = {item.judgement_id for item in planned[:4]}
    made = shards(planned, done, index, requests_per_shard=3)
    assert [shard["annotator"] for shard in made[:4]] == ["judge", "second", "judge", "second"]
    asked = [item["judgement_id"] for shard in made for item in shard["judgements"]]
    assert sorted(asked) == sorted({item.judgement_id for item in planned} - done)
    assert max(len(shard["judgements"]) for shard in made) == 3
    stored = {row["image_id"]: row["image"]["bytes"] for row in folder.read_table(".").to_pylist()}
    reader = ImageReader(folder)
    for shard in made:
        assert {image for item in shard["judgements"] for image in item["order"]} == set(shard["images"])
        for image_id, place in shard["images"].items():
            assert reader.read(*place) == stored[image_id]


def test_only_images_that_were_made_are_judged_and_none_at_all_is_an_error(run: RunFolder, tmp_path: Path) -> None:
    rows = (run.stage("generate") / "images").read_table(".").to_pylist()
    broken = {**rows[0], "status": "failed", "image": {"bytes": png(np.zeros((8, 8, 3), np.uint8)), "path": ""}}
    Folder.at(tmp_path).write_table("one/a.parquet", pa.Table.from_pylist([broken, rows[1]], schema=IMAGES))
    Folder.at(tmp_path).write_table("none/a.parquet", pa.Table.from_pylist([broken], schema=IMAGES))
    assert index_images(Folder.at(tmp_path / "one"))["image_id"].to_pylist() == [rows[1]["image_id"]]
    for name in ("none", "missing"):
        with pytest.raises(InputError, match="no images to judge"):
            index_images(Folder.at(tmp_path / name))


def test_images_are_found_in_every_row_group_of_a_file(tmp_path: Path) -> None:
    big = small_run(tmp_path, prompts=110)
    folder = big.stage("generate") / "images"
    index = index_images(folder)
    assert max(index["row_group"].to_pylist()) == 2
    stored = {row["image_id"]: row["image"]["bytes"] for row in folder.read_table(".").to_pylist()}
    reader = ImageReader(folder)
    rows = index.to_pylist()[::17]
    assert all(reader.read(row["part"], row["row_group"], row["row"]) == stored[row["image_id"]] for row in rows)


def test_two_annotators_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match="different names"):
        settings(annotators=[JUDGE, JUDGE])


def test_pace_budget_and_address_may_change_while_a_stage_is_unfinished_and_nothing_else() -> None:
    faster = settings(
        budget_usd=5.0,
        actors={"max_actors": 4},
        annotators=[
            {
                **JUDGE,
                "requests_per_minute": 9,
                "concurrency": 3,
                "timeout_seconds": 5,
                "base_url": "http://127.0.0.1:9/v1",
            }
        ],
    )
    assert faster.recorded() == settings().recorded()
    for changes in (
        {"orders": 4},
        {"group_size": 3},
        {"rubric": "x"},
        {"ask": "each"},
        {"mode": "pairwise"},
        {"annotators": [{**JUDGE, "temperature": 1.0}]},
    ):
        assert settings(**changes).recorded() != settings().recorded()


@pytest.mark.parametrize(
    ("changes", "requests_a_prompt", "shown_each"),
    [
        ({"ask": "each"}, 2 * 4, 2 * 4),
        ({"mode": "pointwise"}, 4, 1),
        ({"mode": "pointwise", "ask": "each"}, 4 * 4, 4),
        ({"mode": "pairwise", "orders": 1}, 6, 3),
        ({"mode": "pairwise"}, 12, 6),
        ({"mode": "pairwise", "ask": "each"}, 12 * 4, 6 * 4),
        ({"mode": "pairwise", "group_size": 2, "orders": 1}, 2, 1),
        ({"samples": 3, "annotators": [{**JUDGE, "temperature": 1.0}]}, 2 * 3, 2 * 3),
    ],
)
def test_the_mode_says_how_many_requests_a_prompt_takes_and_how_often_each_image_is_shown(
    run: RunFolder, changes: dict[str, Any], requests_a_prompt: int, shown_each: int
) -> None:
    planned = plan(index_images(run.stage("generate") / "images"), settings(**changes), RUBRIC)
    assert len(planned) == len({item.judgement_id for item in planned}) == 6 * requests_a_prompt
    assert set(Counter(image for item in planned for image in item.order).values()) == {shown_each}
    assert Counter(aspect for item in planned for aspect in item.asked.aspects) == dict.fromkeys(
        ASPECTS, len(planned) // (4 if changes.get("ask") == "each" else 1)
    )
    assert {item.sample for item in planned} == set(range(changes.get("samples", 1)))
    (shard,) = shards(planned, (), index_images(run.stage("generate") / "images"), len(planned))
    assert [Planned.of(item) for item in json.loads(json.dumps(shard))["judgements"]] == planned


def test_pairs_are_shown_both_ways_round_and_a_single_order_puts_no_image_always_first(run: RunFolder) -> None:
    index = index_images(run.stage("generate") / "images")
    both = [item.order for item in plan(index, settings(mode="pairwise"), RUBRIC)]
    assert Counter(both) == Counter(order[::-1] for order in both)
    once = [item.order for item in plan(index, settings(mode="pairwise", orders=1), RUBRIC)]
    assert {frozenset(order) for order in once} == {frozenset(order) for order in both}
    always_first = [name for name in index["image_id"].to_pylist() if sum(order[0] == name for order in once) == 3]
    assert len(always_first) < 24 / 4


def test_quality_is_asked_without_the_prompt_where_that_is_set(run: RunFolder) -> None:
    index = index_images(run.stage("generate") / "images")
    planned = plan(index, settings(ask="each", show_prompt="prompt_following"), RUBRIC)
    told = {item.asked.aspects[0]: item.asked.with_prompt for item in planned}
    assert told == {aspect: aspect == "prompt_following" for aspect in ASPECTS}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"show_prompt": "prompt_following"}, "needs ask: each"),
        ({"mode": "pointwise", "orders": 2}, "orders has no effect in the mode pointwise"),
        ({"mode": "pointwise", "group_size": 4}, "group_size has no effect"),
        ({"mode": "pairwise", "orders": 4}, "two images have two orders"),
        ({"mode": "pairwise", "group_size": 1}, "no pairs"),
        ({"samples": 2}, "all the same at temperature 0"),
    ],
)
def test_a_setting_without_effect_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        settings(**changes)
