from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from vp_ray.errors import InputError
from vp_ray.records import ASPECTS
from vp_ray.shapeworld.judgement import OracleScorer, judge_image, opinions_on, score_images, to_level
from vp_ray.shapeworld.measure import measure
from vp_ray.shapeworld.render import Arrangement, Placed, render
from vp_ray.shapeworld.scenes import Scene, parse_prompt, prompt_of

Pictures = tuple[list[Scene], list[Arrangement], NDArray[np.uint8]]
PROMPT, AESTHETIC, FIDELITY, HARM = range(4)


def levels_of(scenes: list[Scene], images: NDArray[np.uint8]) -> NDArray[np.int64]:
    scores = score_images(images, [prompt_of(scene) for scene in scenes])
    return np.vectorize(to_level)(scores)


@pytest.fixture(scope="module")
def perfect(pictures: Pictures) -> NDArray[np.int64]:
    return levels_of(pictures[0], pictures[2])


def test_perfect_renders_get_the_top_prompt_following_level_in_at_least_99_percent(perfect: NDArray[np.int64]) -> None:
    assert (perfect[:, PROMPT] == 5).mean() >= 0.99


def test_renders_of_another_scene_get_the_top_prompt_following_level_in_at_most_2_percent(pictures: Pictures) -> None:
    others = levels_of(pictures[0], np.roll(pictures[2], 1, axis=0))
    assert (others[:, PROMPT] == 5).mean() <= 0.02
    assert others[:, PROMPT].mean() < 3


def test_perfect_renders_have_top_fidelity_in_at_least_95_percent(perfect: NDArray[np.int64]) -> None:
    assert (perfect[:, FIDELITY] == 5).mean() >= 0.95


def test_perfect_renders_spread_over_the_aesthetic_levels_3_to_5(perfect: NDArray[np.int64]) -> None:
    shares = [(perfect[:, AESTHETIC] == level).mean() for level in (3, 4, 5)]
    assert min(shares) > 0.1
    assert sum(shares) > 0.97


def test_every_marked_picture_is_harmful_and_no_other_is(perfect: NDArray[np.int64], marked_pictures: Pictures) -> None:
    assert (perfect[:, HARM] == 5).all()
    assert (levels_of(marked_pictures[0], marked_pictures[2])[:, HARM] <= 2).all()


def test_a_fragment_of_a_mark_is_judged_between() -> None:
    circle = (Placed("red", "circle", 20, 20, 6),)
    image = render(Arrangement(circle, "white", hazard=(5, 5)))
    image[3:] = render(Arrangement(circle, "white"))[3:]
    assert 0 < judge_image(parse_prompt("a red circle"), image)["harmlessness"].quality < 1


def mean_fidelity(pictures: Pictures, images: list[NDArray[np.uint8]]) -> float:
    prompts = [prompt_of(scene) for scene in pictures[0][: len(images)]]
    return float(score_images(np.stack(images), prompts)[:, FIDELITY].mean())


def test_the_more_blur_the_lower_the_fidelity(pictures: Pictures) -> None:
    blurs = [[ndimage.gaussian_filter(image, (s, s, 0)) for image in pictures[2][:80]] for s in (0.3, 0.6, 0.9, 1.4)]
    means = [mean_fidelity(pictures, images) for images in blurs]
    assert means == sorted(means, reverse=True)
    assert means[0] > 4.9
    assert means[-1] < 3


def test_the_more_noise_the_lower_the_fidelity(pictures: Pictures) -> None:
    noise = np.random.default_rng(3).normal(size=(80, 32, 32, 3))
    noisy = [[*np.clip(pictures[2][:80] + sd * noise, 0, 255).astype(np.uint8)] for sd in (2, 8, 16, 32)]
    means = [mean_fidelity(pictures, images) for images in noisy]
    assert means == sorted(means, reverse=True)
    assert means[0] > 4.8
    assert means[-1] < 2.5


RED_LEFT = Arrangement((Placed("red", "circle", 9, 16, 5), Placed("blue", "square", 23, 16, 5)), "white")


@pytest.mark.parametrize(
    ("prompt", "quality"),
    [
        ("a red circle left of a blue square on a white ground", 1.0),
        ("a red circle and a blue square", 1.0),
        ("a red circle right of a blue square", 0.8),  # 5 of 6, held down to level 4
        ("a red circle left of a blue square on a black ground", 0.8),  # 6 of 7
        ("a red square left of a blue square", 4 / 6),  # the shape is wrong, so that the relation has no first
        ("two green triangles", 1 / 3),  # of colour, shape and number, the number holds
        ("a small red circle", 2 / 4),  # too large, and one object too many
    ],
)
def test_prompt_following_is_the_share_of_demands_that_are_met(prompt: str, quality: float) -> None:
    opinion = judge_image(parse_prompt(prompt), render(RED_LEFT))["prompt_following"]
    assert opinion.quality == pytest.approx(quality)
    assert (opinion.level == 5) == (quality == 1)


def test_a_long_blob_is_no_circle() -> None:
    blob = np.full((32, 32, 3), 245, np.uint8)
    blob[13:18, 4:28] = (214, 40, 40)
    opinion = judge_image(parse_prompt("a red circle"), blob)["prompt_following"]
    assert opinion.quality == pytest.approx(2 / 3)
    assert "a red circle is missing" in opinion.rationale


def test_two_of_three_counted_objects_are_two_thirds_of_each_demand() -> None:
    image = render(Arrangement((Placed("red", "circle", 9, 16, 4), Placed("red", "circle", 23, 16, 4)), "white"))
    opinion = judge_image(parse_prompt("three red circles"), image)["prompt_following"]
    assert opinion.quality == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_only_prompt_following_depends_on_the_prompt() -> None:
    seen = measure(render(RED_LEFT))
    first, second = (opinions_on(seen, parse_prompt(text)) for text in ("a red circle", "three cyan triangles"))
    assert {aspect for aspect in ASPECTS if first[aspect] != second[aspect]} == {"prompt_following"}
    assert "prompt_following" not in opinions_on(seen, None)


def test_nothing_to_see_is_the_lowest_level_of_all_but_harmlessness() -> None:
    levels = judge_image(parse_prompt("a red circle"), np.full((32, 32, 3), 245, np.uint8))
    assert [levels[aspect].level for aspect in ASPECTS] == [1, 1, 1, 5]


def test_halves_go_up_and_levels_stay_in_1_to_5() -> None:
    assert [to_level(value) for value in (-3.0, 1.49, 1.5, 4.5, 9.0)] == [1, 1, 2, 5, 5]


def test_the_scorer_gives_unrounded_levels_in_the_order_of_the_aspects() -> None:
    scorer = OracleScorer()
    image = render(RED_LEFT)
    scores = scorer.score(image[None], ["a red circle right of a blue square"])
    opinions = judge_image(parse_prompt("a red circle right of a blue square"), image)
    assert scores[0].tolist() == pytest.approx([1 + 4 * opinions[aspect].quality for aspect in scorer.aspects])
    assert scorer.score(np.empty((0, 32, 32, 3), np.uint8), []).shape == (0, 4)


def test_prompts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="1 images do not fit 2 prompts"):
        score_images(np.zeros((1, 32, 32, 3), np.uint8), ["a red circle", "a red circle"])
    with pytest.raises(InputError, match="not a scene"):
        score_images(np.zeros((1, 32, 32, 3), np.uint8), ["an oil painting of a fox"])
