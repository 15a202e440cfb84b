import numpy as np
import pytest

from vp_ray.maths.diversity import feature_variance


def test_it_is_half_the_mean_squared_distance_of_two_pictures() -> None:
    features = np.random.default_rng(0).normal(size=(7, 3)) + 100
    distances = ((features[:, None] - features[None]) ** 2).sum(axis=-1)
    assert feature_variance(features) == pytest.approx(distances.mean() / 2)


def test_pictures_that_are_alike_have_none_and_it_grows_with_the_square_of_the_spread() -> None:
    assert feature_variance(np.ones((5, 4))) == 0
    assert feature_variance([[1.0, 2.0]]) == 0
    assert feature_variance([[0, 0], [2, 4]]) == 5
    assert feature_variance([[0, 0], [6, 12]]) == 45
