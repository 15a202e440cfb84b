"""The whole loop as a user runs it, at its smallest: prompts to a compared model, then the same command again."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.end_to_end.conftest import Loop
from tests.end_to_end.driver import command, small_loop
from vp_ray.models.reward import VPScore
from vp_ray.pictures import decode_image
from vp_ray.pipeline.stages import STAGE_NAMES
from vp_ray.records import ASPECTS, OVERALL

# The first test waits for the whole loop.
pytestmark = pytest.mark.timeout(1000)

STAGES = [name for name in STAGE_NAMES if name != "import"]
TRAIN, HELD_OUT, PER_PROMPT, ORDERS = 12, 8, 4, 2
EVERY_ASPECT = {*ASPECTS, OVERALL}


def files_of(path: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every file of the stages; report and logs are made anew each time."""
    found = (file for file in path.rglob("*") if file.is_file() and file.name != ".lock")
    return {
        str(file.relative_to(path)): (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in found
        if file.relative_to(path).parts[0] not in ("report", "logs")
    }


def test_every_stage_finishes_and_says_so(loop: Loop) -> None:
    manifests = {name: loop.run.stage(name).finished() for name in STAGES}
    assert all(manifest.seconds > 0 for name, manifest in manifests.items() if name != "prompts")
    assert manifests["prompts"].figures["splits"] == {"train": TRAIN, "held_out": HELD_OUT}
    assert manifests["generate"].rows["made"] + manifests["generate"].rows.get("blank", 0) == TRAIN * PER_PROMPT
    for name in STAGES:
        assert f"{name} finished in " in loop.ended.out
    assert "Tuned against base" in loop.ended.out
    assert str(loop.path / "report" / "index.html") in loop.ended.out.replace("\n", "")
    assert "Traceback" not in loop.ended.err


def test_each_image_of_the_plan_is_there_once(loop: Loop) -> None:
    images = (loop.run.stage("generate") / "images").read_table(".").to_pylist()
    prompts = loop.run.stage("prompts").read_table("prompts.parquet").to_pylist()
    assert len({row["image_id"] for row in images}) == len(images) == TRAIN * PER_PROMPT
    assert Counter(row["prompt_id"] for row in images) == {
        row["prompt_id"]: PER_PROMPT for row in prompts if row["split"] == "train"
    }
    assert Counter(row["generator"] for row in images) == {"weak": 24, "strong": 24}
    pictures = {row["image"]["bytes"] for row in images}
    assert len(pictures) == len(images)
    assert all(decode_image(picture).shape == (32, 32, 3) for picture in pictures)
    assert all(1 <= row["guidance_scale"] <= 5 for row in images)


def test_each_group_is_judged_in_two_orders_and_every_answer_is_a_level(loop: Loop) -> None:
    judgements = loop.run.stage("annotate").read_table("judgements.parquet").to_pylist()
    assert loop.run.stage("annotate").finished().rows == {"scored": TRAIN * ORDERS}
    orders: dict[str, list[list[str]]] = defaultdict(list)
    for row in judgements:
        orders[row["prompt_id"]].append(row["order"])
        assert {(level["image_id"], level["aspect"]) for level in row["levels"]} == {
            (image, aspect) for image in row["order"] for aspect in ASPECTS
        }
        assert all(1 <= level["level"] <= 5 and level["rationale"] for level in row["levels"])
    assert len(orders) == TRAIN
    assert all(first == second[::-1] for first, second in orders.values())
    levels = {level["level"] for row in judgements for level in row["levels"]}
    assert len(levels) >= 3

    ratings = loop.run.stage("annotate").read_table("ratings.parquet").to_pylist()
    assert len(ratings) == TRAIN * PER_PROMPT * len(ASPECTS)
    assert {row["count"] for row in ratings} == {ORDERS}


def test_every_two_images_of_a_prompt_are_a_pair_in_each_aspect(loop: Loop) -> None:
    images = (loop.run.stage("generate") / "images").read_table(".", ["image_id", "prompt_id"]).to_pylist()
    owner = {row["image_id"]: row["prompt_id"] for row in images}
    pairs = loop.run.stage("preferences").read_table("preferences.parquet").to_pylist()
    wanted = {
        (aspect, frozenset(pair))
        for aspect in EVERY_ASPECT
        for pair in combinations(owner, 2)
        if owner[pair[0]] == owner[pair[1]]
    }
    assert {(row["aspect"], frozenset((row["image_id_a"], row["image_id_b"]))) for row in pairs} == wanted
    assert len(pairs) == len(wanted) == TRAIN * 6 * 5
    assert all((row["probability_a"] > 0.5) == (row["margin"] > 0) for row in pairs if row["probability_a"] != 0.5)
    assert sum(row["probability_a"] != 0.5 for row in pairs) > len(pairs) / 4


def test_the_reward_model_learns_from_the_pairs_and_its_checkpoint_scores(loop: Loop) -> None:
    manifest = loop.run.stage("reward").finished()
    assert set(manifest.figures["accuracy"]) <= EVERY_ASPECT
    assert manifest.rows["training_groups"] + manifest.rows["validation_groups"] == TRAIN
    assert manifest.figures["updates"] == -(-2 * manifest.rows["training_groups"] // 4)
    scorer = VPScore.from_pretrained((loop.run.stage("reward") / "checkpoint").uri)
    images = (loop.run.stage("generate") / "images").read_table(".").to_pylist()[:6]
    pixels = np.stack([decode_image(row["image"]["bytes"]) for row in images])
    scores = scorer.score(pixels, [row["prompt"] for row in images])
    assert scores.shape == (6, len(ASPECTS))
    assert np.isfinite(scores).all()
    assert (scores.std(axis=0) > 0).all()


def test_the_policy_moves_and_rewards_come_from_the_service(loop: Loop) -> None:
    folder = loop.run.stage("rl")
    rows = [json.loads(line) for line in folder.read_bytes("metrics.jsonl").splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["update"] for row in rows] == [0, 2, 4]
    for row in rows[1:]:
        assert np.isfinite([row["reward_mean"], row["reward_std"], row["kl"], row["gradient_norm"]]).all()
        assert row["reward_std"] > 0
        assert row["gradient_norm"] > 0
        assert abs(row["ratio_mean"] - 1) < 0.5
    assert all(row["held_out_score"] is not None for row in rows)
    assert folder.finished().rows == {"images": 2 * 2 * 8, "prompts": TRAIN - 4, "held_out_prompts": 4}
    adapter = load_file(folder.local_path / "adapter" / "pytorch_lora_weights.safetensors")
    assert adapter
    assert all(np.isfinite(weight).all() and weight.any() for weight in adapter.values())
    grids = list((folder.local_path / "grids").iterdir())
    assert len(grids) == 3


def test_tuned_and_base_are_compared_on_every_held_out_prompt_by_both_scorers(loop: Loop) -> None:
    folder = loop.run.stage("evaluate")
    rows = folder.read_table("comparison.parquet").to_pylist()
    assert Counter(row["scorer"] for row in rows) == {"vp_score": 5, "oracle": 5}
    assert {row["aspect"] for row in rows} == EVERY_ASPECT
    for row in rows:
        assert row["prompts"] == row["pairs"] == row["wins"] + row["ties"] + row["losses"] == HELD_OUT
        assert row["gain"] == pytest.approx(row["tuned"] - row["base"])
        assert row["low"] <= row["gain"] <= row["high"]
    assert any(row["gain"] != 0 for row in rows if row["scorer"] == "vp_score")
    levels = [row for row in rows if row["scorer"] == "oracle"]
    assert all(1 <= row["base"] <= 5 and 1 <= row["tuned"] <= 5 for row in levels)
    images = (folder / "images").read_table(".", ["image_id", "generator", "prompt_id", "seed"]).to_pylist()
    assert Counter(row["generator"] for row in images) == {"base": HELD_OUT, "tuned": HELD_OUT}
    assert len({(row["prompt_id"], row["seed"]) for row in images}) == HELD_OUT
    assert folder.finished().rows == {"made": 2 * HELD_OUT, "scored": HELD_OUT * ORDERS}


def test_the_report_is_one_page_with_pictures_and_without_problems(loop: Loop) -> None:
    page = loop.run.stage("report").read_bytes("index.html").decode()
    manifest = loop.run.stage("report").finished()
    assert manifest.rows["problems"] == 0
    assert manifest.rows["pictures"] > 0
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page.replace("https://arxiv.org", "")


def test_the_same_command_again_skips_what_is_finished_and_changes_nothing(loop: Loop) -> None:
    before = files_of(loop.path)
    again = command(small_loop(loop.path))
    assert again.code == 0, again.err
    for name in STAGES[:-1]:
        assert f"{name} was finished" in again.out
    assert "report finished in" in again.out
    assert files_of(loop.path) == before
    assert again.seconds < max(30.0, loop.ended.seconds / 3)


def test_a_run_with_changed_settings_is_refused_with_the_difference(loop: Loop) -> None:
    before = files_of(loop.path)
    refused = command(small_loop(loop.path, rl__epochs="3"))
    assert refused.code == 2
    assert "epochs: 2 -> 3" in refused.err
    assert "'rl' was started with other settings" in refused.err
    assert "Traceback" not in refused.err
    assert files_of(loop.path) == before


def test_settings_that_do_not_change_the_result_may_differ(loop: Loop) -> None:
    again = command(small_loop(loop.path, annotate__annotators__0__concurrency="5", rl__checkpoint_every="7"))
    assert again.code == 0, again.err
    assert "evaluate was finished" in again.out
