import numpy as np
import pytest
from scipy.special import expit

from vp_ray.maths.strengths import bradley_terry_strengths


def test_two_images_with_little_prior_have_the_odds_of_their_answers() -> None:
    s = bradley_terry_strengths([0], [1], [3.0], [4.0], 2, 1e-9)
    assert s[0] - s[1] == pytest.approx(np.log(3), abs=1e-4)


def test_one_answer_with_one_prior_answer_by_hand() -> None:
    # W = 1 + 1/2 = sigmoid(2 s) + sigmoid(s) is solved by s = 0.7565.
    s = bradley_terry_strengths([0], [1], [1.0], [1.0], 2, 1.0)
    assert expit(2 * s[0]) + expit(s[0]) == pytest.approx(1.5, abs=1e-6)
    assert s[0] == pytest.approx(-s[1])


def test_an_image_that_always_ties_is_equal_and_one_that_nobody_saw_is_average() -> None:
    s = bradley_terry_strengths([0], [1], [1.0], [2.0], 3, 0.5)
    assert s.tolist() == [0.0, 0.0, 0.0]


def test_strengths_are_found_again_from_many_answers() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=6)
    first, second = np.triu_indices(6, 1)
    count = np.full(first.size, 4000.0)
    wins = rng.binomial(4000, expit(truth[first] - truth[second])).astype(float)
    found = bradley_terry_strengths(first, second, wins, count, 6, 0.1)
    assert np.allclose(found - found.mean(), truth - truth.mean(), atol=0.06)


def test_groups_do_not_influence_each_other() -> None:
    alone = bradley_terry_strengths([0, 0, 1], [1, 2, 2], [2.0, 2.0, 1.0], [2.0, 2.0, 2.0], 3, 0.5)
    pairs = ([0, 0, 1, 3], [1, 2, 2, 4]), ([2.0, 2.0, 1.0, 9.0], [2.0, 2.0, 2.0, 9.0])
    together = bradley_terry_strengths(*pairs[0], *pairs[1], 5, 0.5)
    assert np.allclose(alone, together[:3], atol=1e-7)
    assert alone[0] > alone[1] == pytest.approx(alone[2])
