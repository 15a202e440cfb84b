from __future__ import annotations

import numpy as np
import pytest

from vp_ray.shapeworld.render import shape_coverage
from vp_ray.shapeworld.shape_fit import fit_shape, soft_iou

EVERYWHERE = np.ones((32, 32), np.float32)


def test_soft_iou_is_a_third_for_two_halves_that_share_one_of_three_pixels() -> None:
    left = np.array([[[1, 1, 0]]], np.float32)
    assert soft_iou(left, np.array([[0, 1, 1]], np.float32), np.ones((1, 3), np.float32))[0] == pytest.approx(1 / 3)


def test_pixels_of_weight_zero_do_not_count_in_soft_iou() -> None:
    mask = np.array([[[1, 1, 0]]], np.float32)
    weight = np.array([[1, 1, 0]], np.float32)
    assert soft_iou(mask, np.array([[1, 1, 1]], np.float32), weight)[0] == pytest.approx(1.0)


@pytest.mark.parametrize("shape", ["circle", "square", "triangle"])
@pytest.mark.parametrize("radius", [3.2, 5.5, 9.7])
def test_a_template_is_found_again_to_a_third_of_a_pixel(shape: str, radius: float) -> None:
    fit = fit_shape(shape_coverage(shape, 14.3, 16.8, radius), EVERYWHERE)
    assert fit.shape == shape
    assert max(abs(fit.x - 14.3), abs(fit.y - 16.8), abs(fit.radius - radius)) < 0.34
    assert fit.overlap > 0.96


@pytest.mark.parametrize("shape", ["circle", "square", "triangle"])
def test_a_shape_is_still_known_when_a_stroke_through_it_is_hidden(shape: str) -> None:
    mask = shape_coverage(shape, 15.0, 15.0, 7.0)
    seen = EVERYWHERE.copy()
    seen[:, 12:15] = 0
    fit = fit_shape(mask * seen, seen)
    assert fit.shape == shape
    assert abs(fit.radius - 7.0) < 0.7
