"""The plan of the evaluation: same noise for both models, prompts by hash, refusals of what would not be fair."""

from __future__ import annotations

from typing import Any

import pytest

from vp_ray.errors import InputError, SettingsError
from vp_ray.evaluate.config import EvaluateSettings
from vp_ray.evaluate.planning import choose_prompts, pair_images, plan_drawings
from vp_ray.ids import content_id

BASE = {"name": "weak", "source": "embedded:weak", "guidance_scale": 1.0, "batch_size": 4}

JUDGE = {"name": "oracle", "model": "m"}


def _settings(**changes: Any) -> EvaluateSettings:
    return EvaluateSettings.load({"base": BASE} | changes)


def _prompts(count: int, split: str = "held_out") -> list[dict[str, Any]]:
    return [{"prompt_id": content_id(split, n), "prompt": f"{split} {n}", "split": split} for n in range(count)]


def _rows(drawing: Any) -> list[dict[str, Any]]:
    return [row for shard in drawing.shards for row in shard["rows"]]


def test_both_models_start_from_the_same_noise_with_the_same_guidance_and_differ_in_ids() -> None:
    base, tuned = plan_drawings(_prompts(5), _settings(images_per_prompt=2), "/somewhere/adapter", "v1")
    for before, after in zip(_rows(base), _rows(tuned), strict=True):
        assert {key: before[key] for key in ("prompt_id", "seed", "guidance_scale", "steps")} == {
            key: after[key] for key in ("prompt_id", "seed", "guidance_scale", "steps")
        }
        assert before["image_id"] != after["image_id"]
        assert (before["generator"], after["generator"]) == ("base", "tuned")
    assert (base.model.adapter, tuned.model.adapter) == (None, "/somewhere/adapter")
    assert len({row["seed"] for row in _rows(base)}) == 10


def test_ids_follow_the_adapters_version_and_not_its_place() -> None:
    here = plan_drawings(_prompts(3), _settings(), "/here", "v1")[1]
    moved = plan_drawings(_prompts(3), _settings(), "/there", "v1")[1]
    retrained = plan_drawings(_prompts(3), _settings(), "/here", "v2")[1]
    assert here.shards == moved.shards
    assert {row["image_id"] for row in _rows(here)}.isdisjoint(row["image_id"] for row in _rows(retrained))


def test_at_most_so_many_prompts_the_same_each_time_and_a_part_of_any_larger_choice() -> None:
    prompts = _prompts(50) + _prompts(10, "train")
    few = choose_prompts(prompts, _settings(prompts=10))
    more = choose_prompts(prompts, _settings(prompts=30))
    assert len(few) == 10
    assert few == choose_prompts(prompts, _settings(prompts=10))
    assert {row["prompt_id"] for row in few} < {row["prompt_id"] for row in more}
    assert {row["split"] for row in more} == {"held_out"}
    assert [row for row in prompts if row in few] == few, "the order is that of the table"
    assert few != choose_prompts(prompts, _settings(prompts=10, seed=1))


def test_more_prompts_than_there_are_means_all_of_them() -> None:
    assert choose_prompts(_prompts(4), _settings(prompts=99)) == _prompts(4)


def test_a_split_without_prompts_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"no prompt is in the splits compositional.*evaluate\.splits"):
        choose_prompts(_prompts(4), _settings(splits=["compositional"]))


def test_an_image_without_partner_is_in_no_pair() -> None:
    def row(prompt: str, seed: int, generator: str) -> dict[str, Any]:
        return {"prompt_id": prompt, "seed": seed, "generator": generator}

    images = [row("p", 1, "base"), row("p", 2, "base"), row("p", 1, "tuned"), row("q", 1, "tuned")]
    assert pair_images(images) == [(images[0], images[2])]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base": BASE | {"adapter": "x"}}, "base.adapter has no effect"),
        ({"base": BASE | {"guidance_scale": [1.0, 7.0]}}, "must be one number"),
        ({"vp_score": False}, "nothing would score"),
        ({"judges": [{"name": "vp_score", "model": "m"}]}, "none may be 'vp_score'"),
        ({"judges": [{"name": "a", "model": "m"}, {"name": "a", "model": "n"}]}, "different names"),
        ({"weights": {"fidelity": 0}}, "one must be above zero"),
        ({"orders": 4}, "orders"),
        ({"scorers": {"vp_score": "x"}}, "none may be 'vp_score'"),
        ({"conditions": {"a": {}}}, "must set something"),
        ({"conditions": {"a/b": {"steps": 3}}}, "cannot name a folder"),
        ({"judge_conditions": True}, "no effect without conditions and judges"),
        ({"conditions": {"a": {"steps": 3}}, "vp_score": False, "judges": [JUDGE]}, "nothing would score the condit"),
        ({"tuned": BASE, "adapter": "x"}, "adapter has no effect with tuned"),
        ({"tuned": BASE | {"guidance_scale": 3}}, "must be that of base"),
        ({"judge": []}, "did you mean 'judges'"),
    ],
)
def test_settings_that_cannot_be_fair_or_have_no_effect_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        _settings(**changes)
