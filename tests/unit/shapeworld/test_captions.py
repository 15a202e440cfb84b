"""A wrong caption contradicts the scene in one fact, and never something that the scene leaves open."""

from __future__ import annotations

import numpy as np
import pytest

from vp_ray.records import ASPECTS
from vp_ray.shapeworld.captions import draw_wrong, wrong_by_one_fact
from vp_ray.shapeworld.judgement import OracleScorer
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import all_scenes, parse_prompt, prompt_of


def wrong_prompts(prompt: str) -> dict[str, set[str]]:
    return {
        kind: {prompt_of(scene) for scene in scenes} for kind, scenes in wrong_by_one_fact(parse_prompt(prompt)).items()
    }


def test_the_changes_of_a_whole_scene_by_hand() -> None:
    found = wrong_prompts("a red circle left of a blue square on a white ground")
    assert "a blue circle left of a red square on a white ground" in found["binding"]
    assert found["ground"] == {
        f"a red circle left of a blue square on a {ground} ground" for ground in ("gray", "black")
    }
    assert found["relation"] == {
        f"a red circle {relation} a blue square on a white ground" for relation in ("right of", "above", "below")
    }
    assert found["count"] == {"a red circle on a white ground", "a blue square on a white ground"}
    assert len(found["colour"]) == 2 * 5
    assert len(found["shape"]) == 2 * 2
    assert found["size"] == set()


def test_what_is_left_open_is_not_contradicted() -> None:
    assert wrong_prompts("a red circle and a blue circle") | {"colour": set(), "shape": set()} == {
        "colour": set(),
        "shape": set(),
        "size": set(),
        "count": {"a red circle", "a blue circle"},
        "binding": set(),
        "relation": set(),
        "ground": set(),
    }
    assert wrong_prompts("a small red circle")["size"] == {"a large red circle"}
    assert wrong_prompts("a red circle")["count"] == {"two red circles", "three red circles"}


@pytest.mark.parametrize("prompt", ["a red circle and a blue square", "two green triangles on a gray ground"])
def test_no_change_names_the_scene_itself_and_each_can_be_parsed(prompt: str) -> None:
    for scenes in wrong_prompts(prompt).values():
        assert prompt not in scenes
        assert all(prompt_of(parse_prompt(wrong)) == wrong for wrong in scenes)


def test_the_judge_gives_no_picture_the_top_level_for_a_wrong_caption() -> None:
    rng = np.random.default_rng(4)
    scenes = list(all_scenes())
    chosen = [scenes[int(place)] for place in rng.integers(len(scenes), size=80)]
    images = np.stack([render(arrange(scene, rng)) for scene in chosen])
    following = ASPECTS.index("prompt_following")
    wrong = OracleScorer().score(images, [prompt_of(draw_wrong(scene, rng)) for scene in chosen])[:, following]
    right = OracleScorer().score(images, [prompt_of(scene) for scene in chosen])[:, following]
    assert (np.rint(wrong) < 5).mean() >= 0.97
    assert (np.rint(right) == 5).mean() >= 0.97
