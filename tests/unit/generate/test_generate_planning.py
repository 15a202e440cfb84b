"""What the plan of a generation fixes before anything is drawn."""

from __future__ import annotations

from typing import Any

import pytest

from vp_ray.errors import SettingsError
from vp_ray.generate.config import GenerateSettings
from vp_ray.generate.planning import Measured, estimate, plan_generation
from vp_ray.ids import content_id

PROMPTS = [{"prompt": text, "prompt_id": content_id(text)} for text in ("a red circle", "a blue star", "two squares")]


def settings(*generators: dict[str, Any], **options: Any) -> GenerateSettings:
    filled = [{"name": f"g{place}", "source": "embedded:weak", **one} for place, one in enumerate(generators)]
    return GenerateSettings.load({"generators": filled, **options})


def rows_of(chosen: GenerateSettings, prompts: list[dict[str, str]] | None = None) -> list[dict[str, Any]]:
    plans = plan_generation(PROMPTS if prompts is None else prompts, chosen)
    return [row for plan in plans for shard in plan.shards for row in shard["rows"]]


def test_prompts_schedulers_guidance_and_seeds_multiply() -> None:
    chosen = settings({"images_per_prompt": 2, "guidance_scales": [1, 4.5, 9], "schedulers": ["ddim", "euler"]}, {})
    rows = rows_of(chosen)
    assert [pool.images_of_a_prompt for pool in chosen.generators] == [12, 1]
    assert len(rows) == len({row["image_id"] for row in rows}) == 3 * 13
    grid = {(row["prompt"], row["scheduler"], row["guidance_scale"], row["seed"]) for row in rows[:36]}
    assert len(grid) == 36
    assert {row["guidance_scale"] for row in rows[:36]} == {1, 4.5, 9}
    # Whatever else differs, the same repetition of a prompt starts from the same noise.
    seeds = {prompt["prompt"]: {row["seed"] for row in rows if row["prompt"] == prompt["prompt"]} for prompt in PROMPTS}
    assert {len(found) for found in seeds.values()} == {2}
    assert len(set().union(*seeds.values())) == 6


def test_guidance_is_drawn_from_the_range_by_the_images_id() -> None:
    rows = rows_of(settings({"guidance_scale": [3, 12], "images_per_prompt": 64}))
    scales = [row["guidance_scale"] for row in rows]
    assert all(3 <= scale <= 12 for scale in scales)
    assert len(set(scales)) == len(scales)
    assert sum(scales) / len(scales) == pytest.approx(7.5, abs=0.8)


def test_ids_stay_when_other_prompts_generators_or_places_of_work_change_and_not_when_the_picture_would() -> None:
    def ids(prompts: list[dict[str, str]], *generators: dict[str, Any], **options: Any) -> set[str]:
        rows = rows_of(settings(*generators, **options), prompts)
        return {row["image_id"] for row in rows if row["generator"] == "g0" and row["prompt"] == "a red circle"}

    plain = ids(PROMPTS, {})
    assert ids(PROMPTS[::-1], {}, {"steps": 9}) == plain
    assert (
        ids(PROMPTS[:1], {"batch_size": 9, "device": "cpu", "pool": {"max_actors": 7}, "images_per_second": 3}) == plain
    )
    assert ids(PROMPTS, {"images_per_prompt": 3}) > plain
    for change in (
        {"steps": 9},
        {"guidance_scale": 3},
        {"negative_prompt": "a"},
        {"schedulers": ["ddim"]},
        {"height": 64},
    ):
        assert not ids(PROMPTS, change) & plain
    assert not ids(PROMPTS, {}, seed=1) & plain


def test_shards_are_whole_batches_of_one_scheduler_and_named_by_their_rows() -> None:
    chosen = settings({"images_per_prompt": 3, "schedulers": ["ddim", "euler"], "batch_size": 2}, batches_per_shard=2)
    (plan,) = plan_generation(PROMPTS, chosen)
    assert [len(shard["rows"]) for shard in plan.shards] == [4, 4, 1, 4, 4, 1]
    assert plan.images == 18
    assert all(len({row["scheduler"] for row in shard["rows"]}) == 1 for shard in plan.shards)
    (again,) = plan_generation(PROMPTS, chosen)
    assert again.shards == plan.shards
    (other,) = plan_generation(PROMPTS[1:], chosen)
    assert not {shard["file"] for shard in other.shards} & {shard["file"] for shard in plan.shards}


def test_an_estimate_prefers_what_was_measured_and_admits_what_nobody_knows() -> None:
    pool = settings({"images_per_second": 2, "pool": {"gpus_per_actor": 0.5}}).generators[0]
    row = estimate(pool, 3600, None)
    assert (row.images, row.actor_hours, row.gpu_hours) == (3600, 0.5, 0.25)
    assert row.gigabytes == pytest.approx(3600 * 32 * 32 * 2.1 / 1e9)
    row = estimate(pool, 3600, Measured(images=40, actor_seconds=4, bytes=80_000))
    assert (row.images_per_second, row.actor_hours, row.gigabytes) == (10, 0.1, pytest.approx(0.0072))
    row = estimate(settings({"source": "someone/some-model"}).generators[0], 10, None)
    assert (row.actor_hours, row.gpu_hours, row.gigabytes, row.source) == (None, None, None, "not measured yet")


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"guidance_scales": [3, 3]}, "guidance scales must differ"),
        ({"guidance_scales": [300]}, "within 0..100"),
        ({"schedulers": ["ddim", "ddim"]}, "schedulers must differ"),
        ({"schedulers": ["dimm"]}, r"generators\.0\.schedulers\.0"),
        ({"guidance_scale": [9, 3]}, "must be ordered"),
    ],
)
def test_settings_that_make_no_plan_are_refused(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        settings(wrong)
