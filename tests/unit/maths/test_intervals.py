"""Intervals and win counts: hand-worked numbers, invariances, and how often an interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vp_ray.errors import InputError
from vp_ray.maths.intervals import (
    Interval,
    WinCounts,
    clustered_mean,
    clustered_standard_error,
    minimum_detectable_gain,
    paired_gain,
    wilson_interval,
    win_counts,
)

RNG = np.random.default_rng(7)


def test_two_clusters_of_zero_and_one_resample_to_zero_half_and_one() -> None:
    # The four draws of two clusters have the means 0, 1/2, 1/2 and 1, so the 95 % interval is the whole range.
    assert clustered_mean([0.0, 1.0], ["a", "b"]) == Interval(0.5, 0.0, 1.0)
    inner = clustered_mean([0.0, 1.0], ["a", "b"], confidence=0.4)
    assert (inner.low, inner.high) == (0.5, 0.5)


def test_a_cluster_of_more_values_weighs_more() -> None:
    assert clustered_mean([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]).mean == 0.75


def test_repeating_every_row_within_its_cluster_changes_nothing() -> None:
    values, clusters = RNG.normal(size=30), np.repeat([str(n) for n in range(15)], 2)
    once = clustered_mean(values, clusters)
    thrice = clustered_mean(np.tile(values, 3), np.tile(clusters, 3))
    assert thrice.mean == pytest.approx(once.mean)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


def test_the_order_of_rows_does_not_matter() -> None:
    values, clusters = RNG.normal(size=40), np.array([str(n % 13) for n in range(40)])
    shuffled = RNG.permutation(40)
    one, other = clustered_mean(values, clusters), clustered_mean(values[shuffled], clusters[shuffled])
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high))


def test_swapping_base_and_tuned_mirrors_the_interval() -> None:
    base, tuned = RNG.normal(size=(2, 50))
    clusters = [str(n) for n in range(50)]
    gain, loss = paired_gain(base, tuned, clusters), paired_gain(tuned, base, clusters)
    assert gain.low is not None
    assert gain.high is not None
    assert (loss.mean, loss.low, loss.high) == pytest.approx((-gain.mean, -gain.high, -gain.low))


def test_a_constant_added_to_both_models_leaves_the_gain() -> None:
    base, tuned = RNG.normal(size=(2, 50))
    clusters = [str(n) for n in range(50)]
    plain, shifted = paired_gain(base, tuned, clusters), paired_gain(base + 3, tuned + 3, clusters)
    assert (plain.mean, plain.low, plain.high) == pytest.approx((shifted.mean, shifted.low, shifted.high))


def test_one_prompt_has_a_mean_and_no_interval() -> None:
    assert paired_gain([1.0, 2.0], [2.0, 4.0], ["a", "a"]) == Interval(1.5, None, None)
    assert minimum_detectable_gain([1.0, 2.0], ["a", "a"]) is None
    assert not Interval(1.5, None, None).excludes_zero


def test_equal_differences_give_an_interval_of_no_width() -> None:
    gain = paired_gain([0.1] * 9, [0.4] * 9, [str(n) for n in range(9)])
    assert (gain.low, gain.high) == pytest.approx((0.3, 0.3))
    assert gain.excludes_zero


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [1.0, float("inf")]])
def test_missing_values_are_refused(values: list[float]) -> None:
    with pytest.raises(InputError):
        clustered_mean(values, [str(n) for n in range(len(values))])


def test_values_that_do_not_fit_their_clusters_are_refused() -> None:
    with pytest.raises(InputError, match="one cluster for each"):
        clustered_mean([1.0, 2.0], ["a"])
    with pytest.raises(InputError, match="no pairs"):
        paired_gain([1.0, 2.0], [1.0], ["a", "b"])


def test_the_interval_holds_the_truth_in_about_95_of_100_data_sets_with_strong_clusters() -> None:
    rng = np.random.default_rng(1)
    clusters, held, naive_held, sets = np.repeat([str(n) for n in range(60)], 4), 0, 0, 400
    for _ in range(sets):
        values = np.repeat(rng.normal(0.3, 1.0, 60), 4) + rng.normal(0, 0.2, 240)
        found = clustered_mean(values, clusters, draws=500)
        naive = clustered_mean(values, [str(n) for n in range(240)], draws=500)
        held += found.low <= 0.3 <= found.high  # type: ignore[operator]
        naive_held += naive.low <= 0.3 <= naive.high  # type: ignore[operator]
    assert 0.91 <= held / sets <= 0.98
    assert naive_held / sets < 0.75, "rows of a prompt are not independent, and treating them so must show"


def test_standard_error_of_singles_is_the_ordinary_one_and_by_hand_with_clusters() -> None:
    values = RNG.normal(size=25)
    assert clustered_standard_error(values, [str(n) for n in range(25)]) == pytest.approx(stats.sem(values))
    # Clusters (0, 0) and (1, 1): mean 1/2, residual sums -1 and 1, so sqrt(2/1 * 2) / 4 = 1/2.
    assert clustered_standard_error([0, 0, 1, 1], ["a", "a", "b", "b"]) == pytest.approx(0.5)


def test_minimum_detectable_gain_is_2_8_standard_errors_and_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(2)
    clusters = [str(n) for n in range(100)]
    values = rng.normal(size=100)
    error = clustered_standard_error(values, clusters)
    detectable = minimum_detectable_gain(values, clusters)
    assert error is not None
    assert detectable == pytest.approx((1.959964 + 0.841621) * error, rel=1e-6)
    found = sum((clustered_mean(rng.normal(0.28, 1.0, 100), clusters, draws=400).low or 0.0) > 0 for _ in range(300))
    assert 0.72 <= found / 300 <= 0.88


def test_wilson_of_eight_in_ten_is_49_to_94_percent() -> None:
    found = wilson_interval(8, 10)
    assert found.mean == 0.8
    assert (found.low, found.high) == pytest.approx((0.4901, 0.9433), abs=1e-4)


def test_wilson_stays_in_range_mirrors_and_needs_a_trial() -> None:
    none, all_ = wilson_interval(0, 5), wilson_interval(5, 5)
    assert none.low == 0.0
    assert all_.high == 1.0
    assert none.high == pytest.approx(1 - (all_.low or 0.0))
    with pytest.raises(InputError):
        wilson_interval(0, 0)


def test_sign_test_of_nine_to_one_is_22_in_1024_and_ties_do_not_count() -> None:
    assert WinCounts(9, 0, 1).p_value == pytest.approx(22 / 1024)
    assert WinCounts(9, 50, 1).p_value == WinCounts(1, 0, 9).p_value == WinCounts(9, 0, 1).p_value
    assert WinCounts(5, 0, 5).p_value == WinCounts(0, 4, 0).p_value == 1.0


@pytest.mark.parametrize(("wins", "losses"), [(12, 3), (0, 7), (40, 61)])
def test_sign_test_equals_scipys_exact_binomial_test(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses, 0.5).pvalue
    assert WinCounts(wins, 1, losses).p_value == pytest.approx(expected)


def test_differences_within_rounding_are_ties() -> None:
    assert win_counts([0.1 + 0.2 - 0.3, 0.5, -0.5, 1.0]) == WinCounts(2, 1, 1)
    assert win_counts([]) == WinCounts(0, 0, 0)
