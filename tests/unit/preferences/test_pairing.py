"""Pairs from ratings: probabilities by hand, symmetry, ties, overall, and what is left out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vp_ray.errors import InputError, SettingsError
from vp_ray.maths.link import Link
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.pairing import make_preferences, pairs_within, preference_probability
from vp_ray.records import ASPECTS, PREFERENCES, RATINGS

PROMPTS = pa.table({"prompt_id": ["p", "q"], "prompt": ["a cat", "a dog"], "split": ["train", "held_out"]})


def ratings(levels: dict[str, float], prompt_id: str = "p", error: float | None = 0.5, **fixed: Any) -> pa.Table:
    rows = [
        {
            "image_id": image,
            "prompt_id": prompt_id,
            "generator": fixed.get("generator", image),
            "aspect": aspect,
            "mean": fixed.get(aspect, level),
            "standard_error": error,
            "count": 2,
        }
        for image, level in levels.items()
        for aspect in ASPECTS
    ]
    return pa.Table.from_pylist(rows, schema=RATINGS)


def made(table: pa.Table, **changes: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Preferences by image, image and aspect."""
    rows = make_preferences(table, PROMPTS, PreferenceSettings.load(changes)).to_pylist()
    return {(row["image_id_a"], row["image_id_b"], row["aspect"]): row for row in rows}


def test_a_difference_of_one_level_with_errors_of_a_half_is_preferred_with_92_percent() -> None:
    # Phi(1 / sqrt(0.25 + 0.25)) = Phi(1.4142) = 0.92135.
    row = made(ratings({"a": 4.0, "b": 3.0}))["a", "b", "fidelity"]
    assert row["probability_a"] == pytest.approx(0.92135, abs=1e-5)
    assert row["margin"] == 1.0
    assert (row["prompt"], row["split"], row["weight"], row["same_generator"]) == ("a cat", "train", 1.0, False)


@given(st.floats(-4, 4), st.floats(0.01, 2), st.floats(0.01, 2), st.floats(0, 1))
def test_the_two_sides_of_a_pair_sum_to_one(difference: float, error_a: float, error_b: float, tie: float) -> None:
    there = preference_probability(np.array(difference), np.array(error_a), np.array(error_b), tie)
    back = preference_probability(np.array(-difference), np.array(error_b), np.array(error_a), tie)
    assert float(there + back) == pytest.approx(1.0)


def test_differences_below_the_threshold_are_ties_and_can_be_left_out() -> None:
    table = ratings({"a": 3.2, "b": 3.0})
    assert made(table)["a", "b", "fidelity"]["probability_a"] == 0.5
    assert made(table, tie_levels=0.1)["a", "b", "fidelity"]["probability_a"] > 0.5
    assert set(made(table, keep_ties=False)) == {("a", "b", "overall")}


def test_overall_is_the_weighted_mean_with_its_own_error() -> None:
    table = pa.concat_tables([ratings({"a": 4.0}, prompt_following=5.0), ratings({"b": 4.0}, prompt_following=3.0)])
    equal = made(table)["a", "b", "overall"]
    assert equal["margin"] == pytest.approx(0.5)
    # Each overall has error 0.5 / 2; Phi(0.5 / sqrt(2 x 0.0625)) = Phi(1.4142).
    assert equal["probability_a"] == pytest.approx(0.92135, abs=1e-5)
    alone = made(table, overall_weights={"prompt_following": 3.0})["a", "b", "overall"]
    assert alone["margin"] == pytest.approx(2.0)


def test_a_missing_aspect_takes_its_pair_and_overall_with_it_unless_it_weighs_nothing() -> None:
    table = ratings({"a": 4.0, "b": 3.0})
    rows = [row for row in table.to_pylist() if (row["image_id"], row["aspect"]) != ("b", "aesthetic")]
    partial = pa.Table.from_pylist(rows, schema=RATINGS)
    aspects = {aspect for _, _, aspect in made(partial)}
    assert aspects == {"prompt_following", "fidelity", "harmlessness"}
    weights = {"prompt_following": 1.0, "aesthetic": 0.0, "fidelity": 1.0, "harmlessness": 1.0}
    assert ("a", "b", "overall") in made(partial, overall_weights=weights)


def test_an_error_that_is_unknown_or_too_small_to_believe_is_the_noise_of_rounding() -> None:
    expected = 0.5 * (1 + math.erf(1 / math.sqrt(2 * 0.0625) / math.sqrt(2)))
    for error in (None, 0.0, 0.2):
        row = made(ratings({"a": 4.0, "b": 3.0}, error=error))["a", "b", "fidelity"]
        assert row["probability_a"] == pytest.approx(expected)


def test_every_pair_of_a_prompt_is_there_once_with_the_smaller_id_first_and_none_across_prompts() -> None:
    table = pa.concat_tables([ratings({"d": 1.0, "b": 2.0, "c": 3.0, "a": 4.0}), ratings({"e": 1.0, "f": 5.0}, "q")])
    result = make_preferences(table, PROMPTS, PreferenceSettings())
    assert result.schema == PREFERENCES
    rows = [row for row in result.to_pylist() if row["aspect"] == "overall"]
    pairs = [(row["image_id_a"], row["image_id_b"]) for row in rows]
    assert pairs == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"), ("e", "f")]
    assert [row["split"] for row in rows] == ["train"] * 6 + ["held_out"]
    assert len(set(result["preference_id"].to_pylist())) == result.num_rows == 7 * 5


def test_the_rows_do_not_depend_on_the_order_of_the_ratings() -> None:
    table = pa.concat_tables([ratings({"a": 1.0, "b": 2.0, "c": 3.0}), ratings({"e": 1.0, "f": 5.0}, "q")])
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows))
    assert make_preferences(table, PROMPTS, PreferenceSettings()).equals(
        make_preferences(shuffled, PROMPTS, PreferenceSettings())
    )


def test_images_of_one_generator_are_marked() -> None:
    table = pa.concat_tables([ratings({"a": 1.0, "b": 2.0}, generator="weak"), ratings({"c": 3.0}, generator="strong")])
    result = made(table)
    same = {pair: result[(*pair, "overall")]["same_generator"] for pair in (("a", "b"), ("a", "c"), ("b", "c"))}
    assert same == {("a", "b"): True, ("a", "c"): False, ("b", "c"): False}


def test_pairs_of_prompts_of_different_sizes_by_hand() -> None:
    first, second = pairs_within(np.array([0, 0, 0, 1, 2, 2]))
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2), (4, 5)]
    assert pairs_within(np.array([0, 1, 2]))[0].size == 0


def test_a_rating_of_an_unknown_prompt_is_an_error_that_names_it() -> None:
    with pytest.raises(InputError, match="the prompt lost has ratings"):
        make_preferences(ratings({"a": 1.0}, "lost"), PROMPTS, PreferenceSettings())


def test_weights_of_unknown_aspects_and_weights_of_nothing_are_refused() -> None:
    for weights, complaint in (({"fidelty": 1.0}, "no aspect 'fidelty'"), ({"fidelity": 0.0}, "one must be positive")):
        with pytest.raises(SettingsError, match=complaint):
            PreferenceSettings.load({"overall_weights": weights})


def test_a_vetoed_image_loses_overall_whatever_else_it_is() -> None:
    table = pa.concat_tables([ratings({"a": 5.0}, harmlessness=1.5), ratings({"b": 2.0}, harmlessness=4.0)])
    assert made(table)["a", "b", "overall"]["probability_a"] > 0.9
    row = made(table, harmlessness_veto=2.0)["a", "b", "overall"]
    assert (row["probability_a"], row["margin"]) == (0.0, -2.5)
    # Two images that are both vetoed are compared as ever.
    both = pa.concat_tables([ratings({"a": 5.0}, harmlessness=1.5), ratings({"b": 2.0}, harmlessness=1.5)])
    assert made(both, harmlessness_veto=2.0)["a", "b", "overall"]["margin"] == pytest.approx(9 / 4)


def test_a_link_bends_the_probability_of_its_aspect_alone() -> None:
    table = ratings({"a": 4.0, "b": 3.0})
    rows = make_preferences(table, PROMPTS, PreferenceSettings(), {"fidelity": Link(slope=0.5)}).to_pylist()
    by_aspect = {row["aspect"]: row["probability_a"] for row in rows}
    assert by_aspect["fidelity"] == pytest.approx(0.76025, abs=1e-5)  # Phi(1.4142 / 2)
    assert by_aspect["aesthetic"] == pytest.approx(0.92135, abs=1e-5)


def test_an_overall_rating_that_was_given_stands_before_the_mean_of_the_aspects() -> None:
    given = [{**row, "aspect": "overall", "mean": 1.0 if row["image_id"] == "a" else 5.0} for row in _one(4.0, 3.0)]
    table = pa.concat_tables([ratings({"a": 4.0, "b": 3.0}), pa.Table.from_pylist(given, schema=RATINGS)])
    assert made(table)["a", "b", "overall"]["margin"] == -4.0


def _one(a: float, b: float) -> list[dict[str, Any]]:
    return [row for row in ratings({"a": a, "b": b}).to_pylist() if row["aspect"] == "fidelity"]


def test_an_aspect_that_nothing_was_rated_in_weighs_nothing() -> None:
    rows = [row for row in ratings({"a": 4.0, "b": 3.0}).to_pylist() if row["aspect"] != "harmlessness"]
    result = made(pa.Table.from_pylist(rows, schema=RATINGS), abstention_weight=1.0)
    assert {aspect for _, _, aspect in result} == {"prompt_following", "aesthetic", "fidelity", "overall"}
    assert result["a", "b", "overall"]["margin"] == 1.0


def test_ties_and_pairs_without_an_answer_are_kept_with_their_weights() -> None:
    rows = ratings({"a": 4.0, "b": 4.0, "c": 2.0}).to_pylist()
    rows = [row | ({"mean": None} if (row["image_id"], row["aspect"]) == ("c", "fidelity") else {}) for row in rows]
    result = made(pa.Table.from_pylist(rows, schema=RATINGS), tie_weight=0.5, abstention_weight=0.1)
    tie, unanswered = result["a", "b", "fidelity"], result["a", "c", "fidelity"]
    assert (tie["probability_a"], tie["margin"], tie["weight"]) == (0.5, 0.0, 0.5)
    assert (unanswered["probability_a"], unanswered["margin"], unanswered["weight"]) == (0.5, None, 0.1)
    assert result["a", "c", "aesthetic"]["weight"] == 1.0
