"""Degraded pictures differ from their render by as much as is stated."""

from __future__ import annotations

import numpy as np
import pytest

from vp_ray.shapeworld.degradations import Degradation, degrade, draw_degradation


def edge() -> np.ndarray:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = 200
    return image


def test_no_degradation_leaves_the_picture_as_it_is() -> None:
    np.testing.assert_array_equal(degrade(edge(), Degradation(), np.random.default_rng(0)), edge())


def test_noise_has_the_stated_standard_deviation() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    noisy = degrade(grey, Degradation(noise=20.0), np.random.default_rng(0)).astype(float)
    assert noisy.std() == pytest.approx(20.0, rel=0.03)
    assert noisy.mean() == pytest.approx(128.0, abs=1.0)


def test_blur_spreads_an_edge_and_keeps_the_mean() -> None:
    blurred = degrade(edge(), Degradation(blur=1.0), np.random.default_rng(0)).astype(float)
    assert blurred[:, 15].mean() == pytest.approx(200 * 0.3085, abs=8)
    assert blurred.mean() == pytest.approx(100.0, abs=0.5)


def test_a_warp_moves_pixels_and_brings_no_new_values() -> None:
    warped = degrade(edge(), Degradation(warp=0.8), np.random.default_rng(0))
    assert 0.01 < (warped != edge()).mean() < 0.2
    assert (warped.min(), warped.max()) == (0, 200)


def test_the_stated_share_is_clean_and_the_rest_within_bounds() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_degradation(rng, clean_share=0.4) for _ in range(2000)]
    clean = np.mean([found == Degradation() for found in drawn])
    assert clean == pytest.approx(0.4 + 0.6 * 0.5**3, abs=0.04)
    assert max(found.blur for found in drawn) <= 1.2
    assert max(found.noise for found in drawn) <= 25
