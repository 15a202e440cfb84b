"""Choices between two images: shares, Bradley-Terry, ties, abstentions, and images that were shown either way round."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from vp_ray.errors import InputError
from vp_ray.preferences.answers import answers_of_comparisons, preferences_of_comparisons
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.records import COMPARISONS, PROMPTS

PROMPT_TABLE = pa.Table.from_pylist(
    [{"prompt_id": name, "prompt": f"a {name}", "split": "train"} for name in ("p", "q")], schema=PROMPTS
)


def choices(*rows: tuple[str, str, float | None], prompt_id: str = "p", aspect: str = "overall") -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "prompt_id": prompt_id,
                "rater": str(number),
                "aspect": aspect,
                "image_id_a": a,
                "image_id_b": b,
                "preferred_a": answer,
                "answered_at": None,
            }
            for number, (a, b, answer) in enumerate(rows)
        ],
        schema=COMPARISONS,
    )


def made(table: pa.Table, **changes: object) -> dict[tuple[str, str], dict]:
    rows = preferences_of_comparisons(table, PROMPT_TABLE, PreferenceSettings.load(changes)).to_pylist()
    return {(row["image_id_a"], row["image_id_b"]): row for row in rows}


def test_shares_count_both_ways_round_and_ties_as_halves() -> None:
    row = made(choices(("a", "b", 1.0), ("b", "a", 1.0), ("a", "b", 0.5), ("b", "a", 0.0)), pairwise="shares")["a", "b"]
    assert row["probability_a"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert (row["weight"], row["source"], row["split"]) == (1.0, "annotated", "train")


def test_bradley_terry_tells_more_of_a_pair_than_its_own_answers() -> None:
    # b beat a once, but a beat c nine times and c beat b nine times.
    rows = [("b", "a", 1.0), *[("a", "c", 1.0)] * 9, *[("c", "b", 1.0)] * 9]
    assert made(choices(*rows), pairwise="shares")["a", "b"]["probability_a"] == 0.0
    fitted = made(choices(*rows))
    assert fitted["a", "b"]["probability_a"] > 0.8
    assert fitted["a", "b"]["margin"] > fitted["a", "c"]["margin"] > 0


def test_a_tie_is_exactly_one_half_with_its_weight_and_no_margin() -> None:
    row = made(choices(("a", "b", 0.5)), tie_weight=0.3)["a", "b"]
    assert (row["probability_a"], row["margin"], row["weight"]) == (0.5, 0.0, 0.3)
    assert made(choices(("a", "b", 0.5)), keep_ties=False) == {}


def test_an_abstention_is_one_half_without_a_margin_only_where_it_weighs_something() -> None:
    table = choices(("a", "b", None), ("a", "c", 1.0), ("a", "c", None))
    assert set(made(table)) == {("a", "c")}
    kept = made(table, abstention_weight=0.25, pairwise="shares")
    assert (kept["a", "b"]["probability_a"], kept["a", "b"]["margin"], kept["a", "b"]["weight"]) == (0.5, None, 0.25)
    assert kept["a", "c"]["probability_a"] == 1.0


def test_each_aspect_and_prompt_is_fitted_alone() -> None:
    table = pa.concat_tables(
        [
            choices(("a", "b", 1.0), aspect="fidelity"),
            choices(("a", "b", 0.0), aspect="aesthetic"),
            choices(("c", "d", 1.0), prompt_id="q"),
        ]
    )
    rows = preferences_of_comparisons(table, PROMPT_TABLE, PreferenceSettings()).to_pylist()
    by_aspect = {row["aspect"]: row["probability_a"] for row in rows}
    assert by_aspect["fidelity"] == pytest.approx(1 - by_aspect["aesthetic"])
    assert by_aspect["overall"] == pytest.approx(by_aspect["fidelity"])


def test_which_image_was_shown_first_is_kept() -> None:
    answers = answers_of_comparisons(choices(("b", "a", 1.0), ("a", "b", 1.0)), PROMPT_TABLE)
    assert answers.shown_first_N.tolist() == [-1, 1]
    assert answers.preferred_N.tolist() == [0.0, 1.0]


def test_generators_mark_pairs_and_unknown_ones_leave_the_mark_open() -> None:
    table = choices(("a", "b", 1.0), ("a", "c", 1.0), ("a", "d", 1.0))
    names = {"a": "x", "b": "x", "c": "y", "d": None}
    rows = preferences_of_comparisons(table, PROMPT_TABLE, PreferenceSettings(), names).to_pylist()
    assert [row["same_generator"] for row in rows] == [True, False, None]


def test_a_choice_about_an_unknown_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="the prompt lost has choices"):
        made(choices(("a", "b", 1.0), prompt_id="lost"))


def by_aspect(table: pa.Table, **changes: object) -> dict[str, dict]:
    rows = preferences_of_comparisons(table, PROMPT_TABLE, PreferenceSettings.load(changes)).to_pylist()
    assert len({(row["image_id_a"], row["image_id_b"]) for row in rows}) == 1
    return {row["aspect"]: row for row in rows}


def test_overall_is_the_weighted_mean_of_the_aspects_where_all_of_them_were_asked_about() -> None:
    said = {"prompt_following": 1.0, "aesthetic": 0.0, "fidelity": 1.0, "harmlessness": 0.5}
    table = pa.concat_tables(
        [choices(("a", "b", answer), ("b", "a", 1 - answer), aspect=aspect) for aspect, answer in said.items()]
    )
    found = by_aspect(table)
    margins = [found[aspect]["margin"] for aspect in said]
    assert found["overall"]["margin"] == pytest.approx(sum(margins) / 4)
    assert found["overall"]["probability_a"] == pytest.approx(1 / (1 + math.exp(-sum(margins) / 4)))
    weights = {"prompt_following": 3.0, "aesthetic": 1.0}
    weighed = by_aspect(table, pairwise="shares", overall_weights=weights)
    assert weighed["overall"]["probability_a"] == pytest.approx(0.75)
    assert "overall" not in by_aspect(table.filter(pc.not_equal(table["aspect"], "fidelity")))
    assert "overall" in by_aspect(table.filter(pc.not_equal(table["aspect"], "fidelity")), overall_weights=weights)


def test_a_pair_that_lacks_an_answer_in_an_aspect_abstains_overall() -> None:
    said = {"prompt_following": 1.0, "aesthetic": None, "fidelity": 1.0, "harmlessness": 1.0}
    table = pa.concat_tables([choices(("a", "b", answer), aspect=aspect) for aspect, answer in said.items()])
    assert set(by_aspect(table)) == {"prompt_following", "fidelity", "harmlessness"}
    kept = by_aspect(table, abstention_weight=0.5)["overall"]
    assert (kept["probability_a"], kept["margin"], kept["weight"]) == (0.5, None, 0.5)
