import numpy as np
import pytest
from scipy.stats import norm

from vp_ray.maths.link import Link, fit_link


def test_the_default_is_thurstones_link_by_hand() -> None:
    # Phi(1) = 0.84134; errors add as squares before they come here.
    assert Link().probability(np.array([0.5]), np.array([0.5]))[0] == pytest.approx(0.84134, abs=1e-5)
    assert Link(slope=0.5).probability(np.array([1.0]), np.array([0.5]))[0] == pytest.approx(0.84134, abs=1e-5)


@pytest.mark.parametrize("slope", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("tie", [0.0, 0.6])
def test_slope_and_ties_of_simulated_answers_are_found_again(slope: float, tie: float) -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(0, 1.0, 40_000)
    latent = slope * z + rng.normal(size=z.size)
    link = fit_link(z, np.where(np.abs(latent) < tie, 0.5, (1 + np.sign(latent)) / 2))
    assert link.fitted
    assert link.answers == z.size
    assert link.slope == pytest.approx(slope, rel=0.05)
    assert link.tie_half_width == pytest.approx(tie, abs=0.02)


def test_the_likeliest_slope_of_two_points_is_that_of_their_shares() -> None:
    # At z = 1 three of four answers win and at z = -1 one does: Phi(k) = 3/4, so k = 0.6745.
    link = fit_link([1, 1, 1, 1, -1, -1, -1, -1], [1, 1, 1, 0, 1, 0, 0, 0])
    assert link.slope == pytest.approx(norm.ppf(0.75), abs=1e-4)


def test_answers_that_never_contradict_stop_at_the_steepest_slope() -> None:
    z = np.linspace(0.5, 2, 50)
    assert fit_link(np.concatenate([z, -z]), np.repeat([1.0, 0.0], 50)).slope > 5


def test_swapping_the_sides_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    z, answer = rng.normal(size=300), rng.choice([0.0, 0.5, 1.0], 300)
    assert fit_link(z, answer).slope == pytest.approx(fit_link(-z, 1 - answer).slope, rel=1e-3)
