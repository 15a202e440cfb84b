"""Numbers as text: signs, thousands, units, and a dash where there is no number."""

from __future__ import annotations

from typing import Any

import pytest

from vp_ray.report.formatting import MISSING, count, number, probability, seconds, share, signed, size, usd


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234.5, 2, "1,234.50"), (-0.125, 2, "−0.12"), (-0.001, 2, "0.00"), (0, 0, "0"), (1e6, 0, "1,000,000")],
)
def test_numbers_have_a_true_minus_and_no_negative_zero(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


@pytest.mark.parametrize(("value", "text"), [(0.214, "+0.21"), (-0.214, "−0.21"), (0.0, "0.00"), (0.001, "0.00")])
def test_signs_stand_only_before_what_is_not_shown_as_zero(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "3", True])
def test_what_is_no_finite_number_is_a_dash_and_never_a_zero(value: Any) -> None:
    assert number(value) == signed(value) == share(value) == seconds(value) == count(value) == usd(value) == MISSING


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.95, "1 min 00 s"), (192, "3 min 12 s"), (3599.6, "1 h 00 min")],
)
def test_seconds_take_the_unit_that_fits(value: float, text: str) -> None:
    assert seconds(value) == text


def test_money_sizes_and_shares() -> None:
    assert (usd(12.4), usd(0.0312), usd(0)) == ("$12.40", "$0.0312", MISSING)
    assert (size(512), size(3174), size(5 * 2**30)) == ("512 B", "3.1 KiB", "5.0 GiB")
    assert (share(0.931), share(1, 0)) == ("93.1\xa0%", "100\xa0%")


def test_a_probability_below_one_is_never_shown_as_certain() -> None:
    assert (probability(0.9994), probability(0.99999), probability(1.0)) == ("99.9\xa0%", "> 99.9\xa0%", "100.0\xa0%")
