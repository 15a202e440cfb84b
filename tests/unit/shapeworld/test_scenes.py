from collections import Counter

import pytest

from vp_ray.errors import InputError
from vp_ray.shapeworld.scenes import (
    COMPOSITIONAL_PAIRS,
    Scene,
    Thing,
    all_scenes,
    category_of,
    parse_prompt,
    prompt_of,
    split_of,
)


def test_the_grammar_has_more_than_five_thousand_prompts_and_each_parses_back() -> None:
    scenes = list(all_scenes())
    prompts = {prompt_of(scene) for scene in scenes}
    assert len(prompts) == len(scenes) == 6480
    assert all(parse_prompt(prompt_of(scene)) == scene for scene in scenes)


def test_case_spaces_and_a_full_stop_do_not_matter() -> None:
    assert parse_prompt(" A red  Circle left of a BLUE square. ") == Scene(
        (Thing("red", "circle"), Thing("blue", "square")), relation="left of"
    )


@pytest.mark.parametrize(
    "prompt",
    ["", "a purple circle", "a red circle left a blue square", "four red circles", "a red circle on a blue ground"],
)
def test_a_prompt_outside_the_grammar_is_refused_by_name(prompt: str) -> None:
    with pytest.raises(InputError, match="not a scene"):
        parse_prompt(prompt)


def test_splits_are_disjoint_and_the_compositional_pairs_never_reach_training() -> None:
    by_split = Counter(split_of(scene) for scene in all_scenes())
    assert sum(by_split.values()) == 6480
    assert 0.13 < by_split["held_out"] / (by_split["held_out"] + by_split["train"]) < 0.19
    for scene in all_scenes():
        held = any((thing.colour, thing.shape) in COMPOSITIONAL_PAIRS for thing in scene.things)
        assert held == (split_of(scene) == "compositional")


def test_every_category_is_in_training_and_in_the_held_out_split() -> None:
    found = {(split_of(scene), category_of(scene)) for scene in all_scenes()}
    for category in ("single", "size", "count", "pair", "relation"):
        assert ("train", category) in found
        assert ("held_out", category) in found
