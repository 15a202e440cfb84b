"""Calibration of pair probabilities: by hand, by symmetry, and on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from vp_ray.errors import InputError
from vp_ray.maths.calibration import pair_calibration


def test_two_bins_by_hand() -> None:
    # 0.95 right and 0.05 (that is 0.95 for the other side) right: 1.0 observed; 0.65 on a tie: 0.5 observed.
    found = pair_calibration([0.95, 0.05, 0.65], [1.0, 0.0, 0.5], bins=5)
    assert [(each.pairs, each.low, each.high) for each in found.bins] == [(1, 0.6, 0.7), (2, 0.9, 1.0)]
    assert [(each.predicted, each.observed) for each in found.bins] == [
        (0.65, 0.5),
        (0.95, 1.0),
    ]
    assert found.error == pytest.approx((1 * 0.15 + 2 * 0.05) / 3)


def test_it_does_not_matter_which_image_is_called_a() -> None:
    rng = np.random.default_rng(0)
    probability, label = rng.random((2, 200))
    turned = pair_calibration(1 - probability, 1 - label)
    assert turned.error == pytest.approx(pair_calibration(probability, label).error)


def test_true_probabilities_are_calibrated_and_overconfident_ones_are_not() -> None:
    rng = np.random.default_rng(1)
    difference = rng.normal(0, 1.5, 20_000)
    true = 1 / (1 + np.exp(-difference))
    label = (rng.random(20_000) < true).astype(float)
    assert pair_calibration(true, label).error < 0.015
    sure = pair_calibration(1 / (1 + np.exp(-4 * difference)), label)
    assert sure.error > 0.1
    assert all(each.predicted > each.observed for each in sure.bins if each.low > 0.6)


def test_what_is_no_probability_is_refused() -> None:
    for probability, label in (([1.2], [1]), ([0.5], []), ([], [])):
        with pytest.raises(InputError):
            pair_calibration(probability, label)
