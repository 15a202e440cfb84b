"""Tuned against base: numbers by hand, what is left out, and who agrees with whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vp_ray.evaluate.comparison import agreement, compare, pair_up
from vp_ray.records import COMPARISON, SCORES

JUDGE = ("oracle", "overall")
MODEL = ("vp_score", "overall")


def _row(prompt: str, seed: int, generator: str, score: float, column: tuple[str, str] = JUDGE) -> Any:
    return {
        "image_id": f"{prompt}-{seed}-{generator}",
        "prompt_id": prompt,
        "seed": seed,
        "generator": generator,
        "scorer": column[0],
        "aspect": column[1],
        "score": score,
    }


def _pair(prompt: str, seed: int, base: float, tuned: float, column: tuple[str, str] = JUDGE) -> Any:
    return [_row(prompt, seed, "base", base, column), _row(prompt, seed, "tuned", tuned, column)]


def _table(*pairs: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([row for pair in pairs for row in pair], schema=SCORES)


def test_two_prompts_by_hand() -> None:
    table = _table(_pair("p", 1, 3.0, 4.0), _pair("p", 2, 2.0, 2.0), _pair("q", 1, 5.0, 4.0))
    (row,) = compare(pair_up(table), ["oracle"])
    assert (row["base"], row["tuned"], row["gain"]) == (pytest.approx(10 / 3), pytest.approx(10 / 3), 0.0)
    # Draws of two prompts: p p gives 1/2, p q gives 0, q q gives -1.
    assert (row["low"], row["high"]) == (-1.0, 0.5)
    assert (row["wins"], row["ties"], row["losses"]) == (1, 0, 1)
    assert (row["prompts"], row["pairs"], row["p_value"]) == (2, 3, 1.0)
    assert list(row) == COMPARISON.names


def test_more_comparisons_make_each_p_value_larger_and_keep_their_order() -> None:
    columns = [JUDGE, ("oracle", "aesthetic"), MODEL]
    pairs = [
        _pair(f"p{n}", 1, 1.0, 2.0 if n < 9 - 2 * c else 0.5, column)
        for n in range(9)
        for c, column in enumerate(columns)
    ]
    rows = compare(pair_up(_table(*pairs)), ["oracle"])
    raw = [row["p_value"] for row in rows]
    assert raw == [pytest.approx(2 / 512), pytest.approx(92 / 512), 1.0]
    assert [row["p_adjusted"] for row in rows] == [pytest.approx(6 / 512), pytest.approx(184 / 512), 1.0]


def test_an_image_without_partner_or_score_takes_its_pair_out_and_nothing_else() -> None:
    table = _table(_pair("p", 1, 1.0, 2.0), [_row("q", 1, "base", 5.0)], [_row("r", 1, "tuned", 5.0)])
    (row,) = compare(pair_up(table), ["oracle"])
    assert (row["base"], row["tuned"], row["prompts"]) == (1.0, 2.0, 1)
    assert row["low"] is row["high"] is row["detectable"] is None


def test_the_order_of_rows_changes_nothing_but_the_order_of_scorers() -> None:
    rng = np.random.default_rng(0)
    pairs = [_pair(f"p{n // 2}", n, *rng.normal(size=2)) for n in range(40)]
    backwards = [list(reversed(pair)) for pair in reversed(pairs)]
    assert compare(pair_up(_table(*pairs)), ["oracle"]) == compare(pair_up(_table(*backwards)), ["oracle"])


def test_overall_comes_first_within_each_scorer_and_unknown_aspects_last() -> None:
    columns = [("b", "zeal"), ("b", "fidelity"), ("b", "overall"), ("a", "prompt_following")]
    table = _table(*(_pair("p", 1, 0, 1, column) for column in columns))
    found = [(row["scorer"], row["aspect"]) for row in compare(pair_up(table), ["oracle"])]
    assert found == [("b", "overall"), ("b", "fidelity"), ("b", "zeal"), ("a", "prompt_following")]


def test_a_prompt_whose_images_gain_as_much_as_they_lose_is_a_tie() -> None:
    table = _table(_pair("p", 1, 0.1, 0.3), _pair("p", 2, 0.3, 0.1))
    (row,) = compare(pair_up(table), ["oracle"])
    assert (row["wins"], row["ties"], row["losses"]) == (0, 1, 0)


def test_no_scores_make_no_rows() -> None:
    assert compare(pair_up(SCORES.empty_table()), ["oracle"]) == []


def test_agreement_counts_the_judges_winners_and_leaves_its_ties_out() -> None:
    judge = (_pair("p", 1, 1, 2), _pair("q", 1, 2, 1), _pair("r", 1, 3, 3), _pair("s", 1, 1, 5))
    model = [
        _pair(prompt, 1, base, tuned, MODEL)
        for prompt, base, tuned in (("p", 0.1, 0.2), ("q", 0.1, 0.2), ("r", 0.0, 9.0), ("t", 0.0, 1.0))
    ]
    (row,) = agreement(pair_up(_table(*judge, *model)), "vp_score", ["oracle"])
    # Of the common pairs p agrees, q does not, r is the judge's tie; s and t have only one of the two.
    assert (row["accuracy"], row["pairs"], row["label_ties"]) == (0.5, 2, 1)


def test_agreement_where_the_judge_sees_no_difference_at_all_is_no_number() -> None:
    both = _table(_pair("p", 1, 3, 3), _pair("p", 1, 0.1, 0.2, MODEL))
    (row,) = agreement(pair_up(both), "vp_score", ["oracle"])
    assert row["accuracy"] is None
    assert (row["pairs"], row["label_ties"]) == (0, 1)
    assert agreement(pair_up(_table(_pair("p", 1, 3, 4))), "vp_score", ["oracle"]) == []
