"""Effects of slots: the bias of an opinion, also where levels are cut off, with honest errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import optimize

from vp_ray.maths.slots import SlotFit, SlotModel, fit_slots, surprise

Qualities = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
QUALITIES: dict[str, Qualities] = {
    "in the middle": lambda rng, size: 1 + 4 * rng.beta(3, 3, size),
    "mostly good": lambda rng, size: 1 + 4 * rng.beta(5, 1.2, size),
    "six in ten perfect": lambda rng, size: np.where(rng.random(size) < 0.6, 5.0, rng.uniform(1, 4.2, size)),
    "all perfect": lambda rng, size: np.full(size, 5.0),
}


def said(
    qualities: Qualities, groups: int, orders: int, bias: tuple[float, ...], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(I, S, L) counts of levels of groups of four, and what was said by order, image and slot (orders, groups, 4)."""
    rng = np.random.default_rng(seed)
    quality = qualities(rng, (groups, 4))
    drawn = np.argsort(rng.random((groups, 4)), axis=1)
    counts, levels = np.zeros((groups, 4, 4, 5), np.int16), []
    for order in range(orders):
        slot = drawn if order == 0 else 3 - drawn
        opinion = quality + np.array(bias)[slot] + rng.normal(0, 0.5, quality.shape)
        level = np.floor(np.clip(opinion, 1, 5) + 0.5).astype(np.int64)
        np.add.at(counts, (np.arange(groups)[:, None], np.arange(4)[None], slot, level - 1), 1)
        levels.append(level)
    return counts.reshape(-1, 4, 5), np.stack(levels)


def fitted(qualities: Qualities, groups: int, orders: int, bias: tuple[float, ...], seed: int) -> SlotFit:
    counts, _ = said(qualities, groups, orders, bias, seed)
    return fit_slots(counts, np.repeat(np.arange(groups), 4))


@pytest.mark.parametrize("name", QUALITIES)
def test_a_bias_of_half_a_level_is_found_whatever_part_of_it_is_cut_off(name: str) -> None:
    fits = [fitted(QUALITIES[name], 200, 2, (0.5, 0, 0, 0), seed) for seed in range(4)]
    found = np.array([fit.model.effect_S[0] * 4 / 3 for fit in fits])
    errors = np.array([fit.standard_error_S[0] * 4 / 3 for fit in fits])
    assert abs(found.mean() - 0.5) < 0.1
    assert (np.abs(found - 0.5) < 3.5 * errors).all()
    assert np.median(errors) < 0.1


def test_a_plain_mean_would_find_little_more_than_half_of_it() -> None:
    counts, _ = said(QUALITIES["six in ten perfect"], 2000, 2, (0.5, 0, 0, 0), 0)
    mean_S = (counts.sum(0) @ np.arange(1, 6)) / counts.sum((0, 2))
    assert 0.2 < mean_S[0] - mean_S[1:].mean() < 0.35


def test_without_a_bias_nothing_is_removed_that_matters() -> None:
    fits = [fitted(QUALITIES["mostly good"], 300, 2, (0, 0, 0, 0), seed) for seed in range(3)]
    assert max(np.abs(fit.shift_IS).max() for fit in fits) < 0.1


def test_an_image_that_is_perfect_wherever_it_stands_is_hardly_moved_and_a_fair_one_by_all_of_it() -> None:
    mixed = fitted(lambda rng, size: np.where(rng.random(size) < 0.5, 5.0, 3.0), 400, 2, (0.5, 0, 0, 0), 0)
    fair = fitted(lambda _, size: np.full(size, 3.0), 400, 2, (0.5, 0, 0, 0), 0)
    assert fair.shift_IS[:, 0].mean() == pytest.approx(0.375, abs=0.05)
    assert mixed.shift_IS[:, 0].min() < 0.1
    assert mixed.shift_IS[:, 0].max() > 0.3


def test_one_prompt_has_no_standard_error_and_nothing_is_removed() -> None:
    counts, _ = said(QUALITIES["in the middle"], 10, 2, (0.5, 0, 0, 0), 0)
    fit = fit_slots(counts, np.zeros(40, np.int64))
    assert np.isnan(fit.standard_error_S).all()
    assert (fit.shrinkage, np.abs(fit.shift_IS).max()) == (0.0, 0.0)


def test_the_mean_level_of_an_opinion_is_that_of_many_draws() -> None:
    model = SlotModel(np.zeros(4), 3.0, 1.0, 0.5)
    for opinion in (1.0, 2.7, 4.9, 6.0):
        draws = np.floor(np.clip(opinion + np.random.default_rng(0).normal(0, 0.5, 200_000), 1, 5) + 0.5)
        assert float(model.expected(np.array(opinion), 5)) == pytest.approx(draws.mean(), abs=0.01)


def test_the_slopes_are_those_of_the_likelihood() -> None:
    counts, _ = said(QUALITIES["mostly good"], 30, 2, (0.5, 0, 0, 0), 3)
    answers, weight = np.unique(counts.reshape(120, -1), axis=0, return_counts=True)
    about = (answers.astype(np.float64), weight.astype(np.float64), 4, 5)
    for x in (np.array([0.3, -0.1, 0.2, 3.5, 0.2, -0.5]), np.array([0.0, 0.0, 0.0, 5.5, 0.5, -1.2])):
        error = optimize.check_grad(lambda x: surprise(x, *about)[0], lambda x: surprise(x, *about)[1], x)
        assert error < 1e-5
