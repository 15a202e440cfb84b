"""Figures of the annotators: flips, kappa, use of levels, slot bias."""

from __future__ import annotations

import pytest

from tests.unit.annotate.conftest import judgement, simulated, table
from vp_ray.annotate.figures import level_figures, order_figures, order_pairs
from vp_ray.annotate.ratings import collect, slot_effects
from vp_ray.records import ASPECTS

LEVELS = {"a": 5, "b": 3, "c": 2, "d": 2}


def test_one_swap_between_two_orders_is_one_flip_in_five_decided_pairs() -> None:
    swapped = {**LEVELS, "a": 3, "b": 5}
    rows = [
        judgement("abcd", lambda image, *_: LEVELS[image]),
        judgement("dcba", lambda image, *_: swapped[image]),
    ]
    figures = order_figures(collect(table(rows)), order_pairs(table(rows)))
    assert figures["orders_compared"] == 1
    assert figures["flip_rate"] == pytest.approx(1 / 5)
    assert figures["flip_rate_by_aspect"] == dict.fromkeys(ASPECTS, pytest.approx(1 / 5))


def test_a_judge_that_repeats_itself_has_kappa_one_and_one_that_sees_no_difference_has_none() -> None:
    rows = [judgement(order, lambda image, *_: LEVELS[image]) for order in ("abcd", "dcba")]
    figures = order_figures(collect(table(rows)), order_pairs(table(rows)))
    assert figures["kappa_by_aspect"] == dict.fromkeys(ASPECTS, 1.0)
    same = [judgement(order, lambda *_: 3) for order in ("abcd", "dcba")]
    figures = order_figures(collect(table(same)), order_pairs(table(same)))
    assert (figures["flip_rate"], figures["kappa_by_aspect"]["fidelity"]) == (None, None)


def test_only_scored_judgements_of_the_same_images_by_the_same_annotator_are_compared() -> None:
    rows = [
        judgement("abcd", lambda *_: 3),
        judgement("dcba", lambda *_: 3, status="refused"),
        judgement("badc", lambda *_: 3, annotator="second"),
        judgement("abc", lambda *_: 3),
        judgement("dbac", lambda *_: 3),
    ]
    assert order_pairs(table(rows)) == [(0, 3)]
    assert order_figures(collect(table(rows[:3])), order_pairs(table(rows[:3]))) == {"orders_compared": 0}


def test_groups_of_different_sizes_are_compared_together() -> None:
    rows = [judgement(order, lambda image, *_: LEVELS[image]) for order in ("abcd", "dcba", "ab", "ba")]
    figures = order_figures(collect(table(rows)), order_pairs(table(rows)))
    assert (figures["orders_compared"], figures["flip_rate"]) == (2, 0.0)


def test_levels_are_counted_by_aspect_and_slot_effects_are_those_of_the_common_size() -> None:
    judgements, _ = simulated(200, noise=0.3, bias=(0.5, 0, 0, 0))
    levels = collect(judgements)
    effects, _ = slot_effects(levels)
    figures = level_figures(levels, effects)
    assert sum(figures["level_counts"]["aesthetic"]) == 200 * 2 * 4
    assert figures["slot_bias"]["judge"]["aesthetic"][0] == pytest.approx(0.375, abs=0.1)
