"""Agreement against numbers worked by hand, published examples and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from vp_ray.maths.agreement import (
    flip_counts,
    kendall_tau_b,
    krippendorff_alpha,
    mean_kendall_tau_b,
    quadratic_kappa,
)

NAN = math.nan

KRIPPENDORFF_2011 = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


def test_kappa_of_three_items_worked_by_hand() -> None:
    # Observed disagreement 1, expected (2/3 + 1/3 + 4/3 + 2/3) = 3.
    assert quadratic_kappa([1, 2, 3], [1, 2, 2], levels=3) == pytest.approx(2 / 3)


def test_kappa_is_one_for_equal_ratings_minus_one_for_opposite_ones_and_symmetric() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 6, (2, 200))
    assert quadratic_kappa(a, a, 5) == 1.0
    assert quadratic_kappa([1, 5], [5, 1], 5) == -1.0
    assert quadratic_kappa(a, b, 5) == pytest.approx(quadratic_kappa(b, a, 5))


def test_kappa_is_undefined_where_only_one_level_occurs() -> None:
    assert math.isnan(quadratic_kappa([3, 3], [3, 3], 5))
    assert math.isnan(quadratic_kappa([], [], 5))


def test_alpha_of_the_published_example_is_0_815() -> None:
    assert krippendorff_alpha(KRIPPENDORFF_2011, levels=5) == pytest.approx(0.815, abs=5e-4)


def test_alpha_does_not_depend_on_the_order_of_raters_or_items_and_ignores_items_rated_once() -> None:
    shuffled = np.random.default_rng(0).permutation(KRIPPENDORFF_2011)[:, ::-1]
    once = np.array([[NAN, 4, NAN, NAN]])
    expected = krippendorff_alpha(KRIPPENDORFF_2011, 5)
    assert krippendorff_alpha(np.vstack([shuffled, once]), 5) == pytest.approx(expected)


def test_alpha_is_one_for_equal_raters_and_undefined_for_one_level() -> None:
    assert krippendorff_alpha([[1, 1], [4, 4], [2, 2]], 5) == 1.0
    assert math.isnan(krippendorff_alpha([[2, 2], [2, 2]], 5))


def test_tau_b_with_ties_equals_scipy() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.integers(1, 6, (2, 12))
        assert kendall_tau_b(a, b) == pytest.approx(kendalltau(a, b).statistic)


def test_tau_b_of_four_items_worked_by_hand() -> None:
    # Of six pairs one is discordant and none tied: (5 - 1) / 6.
    assert kendall_tau_b([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert math.isnan(kendall_tau_b([1, 1, 1], [1, 2, 3]))


def test_a_flip_is_a_pair_decided_both_times_and_differently() -> None:
    first = [[1, 2, 3], [4, 4, NAN]]
    second = [[2, 1, 3], [1, 2, 3]]
    # First group: one flip, two agreements. Second group: a tie, and pairs with a missing image.
    assert flip_counts(first, second) == (1, 3)


def test_the_mean_tau_leaves_out_groups_in_which_a_judgement_ties_everything() -> None:
    first = [[1, 2, 3, 4], [1, 2, 3, np.nan], [3, 3, 3, 3]]
    second = [[1, 2, 3, 4], [3, 2, 1, np.nan], [1, 2, 3, 4]]
    assert mean_kendall_tau_b(first, second) == pytest.approx(0.0)
    rng = np.random.default_rng(0)
    one, other = rng.integers(1, 6, (2, 30, 5))
    taus = [kendall_tau_b(a, b) for a, b in zip(one, other, strict=True)]
    assert mean_kendall_tau_b(one, other) == pytest.approx(np.nanmean(taus))
    assert np.isnan(mean_kendall_tau_b([[2, 2]], [[1, 2]]))
