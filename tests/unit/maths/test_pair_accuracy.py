"""Pair accuracy: the rule by hand, its symmetries and its edges."""

from __future__ import annotations

import numpy as np
import pytest

from vp_ray.errors import InputError
from vp_ray.maths.pair_accuracy import pair_accuracy


def test_the_rule_by_hand_right_wrong_half_and_left_out() -> None:
    # right, wrong, right (b preferred), equal scores (1/2), label tie (left out): 2.5 of 4.
    found = pair_accuracy([2, 1, 0, 1, 9], [1, 2, 5, 1, 0], [0.9, 0.6, 0.2, 1.0, 0.5], ["a", "b", "c", "d", "e"])
    assert found.accuracy is not None
    assert found.accuracy.mean == 2.5 / 4
    assert (found.pairs, found.label_ties) == (4, 1)


def test_macro_averages_prompts_whatever_their_number_of_pairs() -> None:
    # Three right pairs of one prompt, one wrong of another, and a tie of scores of a third.
    arguments = ([2, 2, 2, 0, 1], [1, 1, 1, 1, 1], [0.9, 0.9, 0.9, 0.9, 0.9], ["a", "a", "a", "b", "c"])
    micro, macro = pair_accuracy(*arguments), pair_accuracy(*arguments, averaging="prompts")
    assert micro.accuracy is not None
    assert macro.accuracy is not None
    assert (micro.accuracy.mean, macro.accuracy.mean) == (3.5 / 5, 0.5)
    assert (macro.pairs, macro.score_ties) == (5, 1)
    assert (macro.accuracy.low, macro.accuracy.high) == (0.0, 1.0)


def test_swapping_the_images_of_every_pair_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    a, b, wanted = rng.normal(size=60), rng.normal(size=60), rng.random(60)
    prompts = [str(n // 6) for n in range(60)]
    assert pair_accuracy(a, b, wanted, prompts) == pair_accuracy(b, a, 1 - wanted, prompts)


def test_any_increasing_map_of_the_scores_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    a, b, wanted = rng.normal(size=60), rng.normal(size=60), rng.random(60)
    prompts = [str(n) for n in range(60)]
    assert pair_accuracy(a, b, wanted, prompts) == pair_accuracy(np.exp(a), np.exp(b), wanted, prompts)


def test_random_scores_agree_on_half_and_the_interval_says_so() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 4000))
    found = pair_accuracy(a, b, rng.random(4000), [str(n // 4) for n in range(4000)]).accuracy
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.5 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(4000), rel=0.15)


def test_labels_that_are_all_ties_give_no_accuracy() -> None:
    found = pair_accuracy([1.0, 2.0], [0.0, 0.0], [0.5, 0.5], ["a", "b"])
    assert found.accuracy is None
    assert (found.pairs, found.label_ties) == (0, 2)


@pytest.mark.parametrize(
    ("a", "probability"), [([float("nan")], [0.7]), ([float("inf")], [0.7]), ([1.0], [1.2]), ([1.0], [float("nan")])]
)
def test_numbers_that_are_none_are_refused(a: list[float], probability: list[float]) -> None:
    with pytest.raises(InputError):
        pair_accuracy(a, [0.0], probability, ["p"])
