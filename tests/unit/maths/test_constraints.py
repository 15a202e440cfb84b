import pytest

from vp_ray.maths.constraints import next_multiplier


@pytest.mark.parametrize(
    ("multiplier", "mean", "expected"),
    [(1.0, 0.5, 1.25), (1.0, 1.0, 1.0), (1.0, 1.5, 0.75), (0.1, 3.0, 0.0), (3.9, 0.0, 4.0)],
)
def test_it_moves_by_rate_times_what_is_missing_and_stays_between_0_and_most(
    multiplier: float, mean: float, expected: float
) -> None:
    assert next_multiplier(multiplier, mean, at_least=1.0, rate=0.5, most=4.0) == pytest.approx(expected)


def test_it_settles_where_the_mean_meets_the_bound() -> None:
    """A policy whose mean rises by half the multiplier reaches the bound 1 at the multiplier 2."""
    multiplier = 0.0
    for _ in range(200):
        multiplier = next_multiplier(multiplier, 0.5 * multiplier, at_least=1.0, rate=0.2, most=10.0)
    assert multiplier == pytest.approx(2.0, abs=1e-6)
