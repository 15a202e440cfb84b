"""Ratings: means worked by hand, the effect of places found and removed, errors that match the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.annotate.conftest import index_of, judgement, simulated, table
from vp_ray.annotate.ratings import collect, rate, slot_effects
from vp_ray.records import ASPECTS, RATINGS

LEVELS = {"a": 5, "b": 3, "c": 2, "d": 2}
INDEX = index_of(dict.fromkeys("abcd", "p"))


def rated(judgements: pa.Table, index: pa.Table) -> list[dict[str, Any]]:
    levels = collect(judgements)
    _, removed = slot_effects(levels)
    return rate(levels, removed, index).to_pylist()


def test_means_are_over_orders_and_annotators_and_each_is_counted() -> None:
    rows = [
        judgement("abcd", lambda image, *_: LEVELS[image]),
        judgement("dcba", lambda image, *_: LEVELS[image] - (image == "a"), annotator="second"),
        judgement("abcd", lambda *_: 1, status="refused"),
    ]
    ratings = rated(table(rows), INDEX)
    assert len(ratings) == 4 * len(ASPECTS)
    first = ratings[0]
    assert (first["image_id"], first["prompt_id"], first["generator"]) == ("a", "p", "strong")
    assert (first["aspect"], first["mean"], first["count"]) == ("prompt_following", 4.5, 2)


def test_the_standard_error_is_pooled_over_images_worked_by_hand() -> None:
    # One image differs by 1 between two orders: squares 0.5, over four degrees of freedom, over two orders.
    rows = [
        judgement("abcd", lambda image, *_: LEVELS[image]),
        judgement("dcba", lambda image, *_: LEVELS[image] - (image == "a")),
    ]
    levels = collect(table(rows))
    ratings = rate(levels, np.zeros_like(levels.level_N), INDEX).to_pylist()
    assert [row["standard_error"] for row in ratings] == pytest.approx([np.sqrt(0.5 / 4 / 2)] * 16)


def test_without_a_repeat_there_is_no_standard_error() -> None:
    ratings = rated(table([judgement("abcd", lambda image, *_: LEVELS[image])]), INDEX)
    assert {row["standard_error"] for row in ratings} == {None}


def test_an_image_without_a_scored_judgement_has_no_rating() -> None:
    rows = [judgement("ab", lambda *_: 3), judgement("cd", lambda *_: 3, status="refused")]
    assert {row["image_id"] for row in rated(table(rows), INDEX)} == {"a", "b"}
    empty = rate(collect(table(rows[1:])), np.empty(0), INDEX)
    assert empty.num_rows == 0
    assert empty.schema == RATINGS


def test_the_order_of_judgements_changes_nothing() -> None:
    judgements, truth = simulated(30, noise=0.5, bias=(0.5, 0, 0, 0))
    index = index_of({image: image[:2] for image in truth})
    shuffled = judgements.take(np.random.default_rng(3).permutation(judgements.num_rows))
    first, second = rated(judgements, index), rated(shuffled, index)
    assert [row["image_id"] for row in first] == [row["image_id"] for row in second]
    assert [row["mean"] for row in first] == pytest.approx([row["mean"] for row in second])


def test_a_bias_that_two_orders_do_not_cancel_is_measured_and_removed() -> None:
    bias = (0.6, 0.0, 0.0, 0.4)
    judgements, truth = simulated(400, noise=0.5, bias=bias)
    effects, removed = slot_effects(collect(judgements))
    expected = np.array(bias) - np.mean(bias)
    for effect in effects:
        assert effect.effect_S == pytest.approx(expected, abs=0.12)
        assert effect.effect_S.sum() == pytest.approx(0.0, abs=1e-9)
    index = index_of(dict.fromkeys(truth, "p"))
    levels = collect(judgements)

    def error(taken: np.ndarray) -> float:
        rows = [row for row in rate(levels, taken, index).to_pylist() if row["aspect"] == "fidelity"]
        return float(np.mean([(row["mean"] - truth[row["image_id"]]) ** 2 for row in rows]))

    assert error(removed) < error(np.zeros_like(removed)) - 0.04


def test_noise_without_bias_is_hardly_taken_for_one() -> None:
    judgements, _ = simulated(400, noise=0.5, bias=(0, 0, 0, 0))
    _, removed = slot_effects(collect(judgements))
    assert np.abs(removed).max() < 0.08


def test_the_standard_error_is_that_of_the_simulated_noise() -> None:
    # Noise 0.5 and rounding (variance 1/12), averaged over two orders.
    judgements, truth = simulated(500, noise=0.5, bias=(0, 0, 0, 0))
    index = index_of(dict.fromkeys(truth, "p"))
    expected = np.sqrt((0.25 + 1 / 12) / 2)
    for row in rated(judgements, index)[:4]:
        assert row["standard_error"] == pytest.approx(expected, rel=0.06)
