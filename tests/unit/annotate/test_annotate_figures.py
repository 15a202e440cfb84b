"""Figures of the annotators: flips, kappa, use of levels, slot bias."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.annotate.conftest import judgement, simulated, table
from vp_ray.annotate.agreement import agreement_figures, answer_pairs, choice_table, level_table
from vp_ray.annotate.comparisons import comparisons_of
from vp_ray.annotate.figures import first_shown_figures, level_figures
from vp_ray.annotate.ratings import collect, slot_effects
from vp_ray.records import ASPECTS, COMPARISONS

LEVELS = {"a": 5, "b": 3, "c": 2, "d": 2}


def of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The agreement of these judgements."""
    return agreement_figures(level_table(collect(table(rows))), table(rows), 5)


def test_one_swap_between_two_orders_is_one_flip_in_five_decided_pairs() -> None:
    swapped = {**LEVELS, "a": 3, "b": 5}
    rows = [
        judgement("abcd", lambda image, *_: LEVELS[image]),
        judgement("dcba", lambda image, *_: swapped[image]),
    ]
    figures = of(rows)
    assert figures["orders_compared"] == 1
    assert figures["flip_rate"] == pytest.approx(1 / 5)
    assert figures["flip_rate_by_aspect"] == dict.fromkeys(ASPECTS, pytest.approx(1 / 5))


def test_a_judge_that_repeats_itself_has_kappa_one_and_one_that_sees_no_difference_has_none() -> None:
    rows = [judgement(order, lambda image, *_: LEVELS[image]) for order in ("abcd", "dcba")]
    figures = of(rows)
    assert figures["kappa_by_aspect"] == dict.fromkeys(ASPECTS, 1.0)
    same = [judgement(order, lambda *_: 3) for order in ("abcd", "dcba")]
    figures = of(same)
    assert (figures["flip_rate"], figures["kappa_by_aspect"]["fidelity"]) == (None, None)


def test_only_scored_judgements_of_the_same_images_by_the_same_annotator_are_compared() -> None:
    rows = [
        judgement("abcd", lambda *_: 3),
        judgement("dcba", lambda *_: 3, status="refused"),
        judgement("badc", lambda *_: 3, annotator="second"),
        judgement("abc", lambda *_: 3),
        judgement("dbac", lambda *_: 3),
    ]
    assert answer_pairs(table(rows)).orders["judge"] == [(0, 3)]
    none = of(rows[:3])
    assert (none["orders_compared"], "flip_rate" in none, none["orders_by_annotator"]) == (0, False, {})


def test_groups_of_different_sizes_are_compared_together() -> None:
    rows = [judgement(order, lambda image, *_: LEVELS[image]) for order in ("abcd", "dcba", "ab", "ba")]
    figures = of(rows)
    assert (figures["orders_compared"], figures["flip_rate"]) == (2, 0.0)


def test_levels_are_counted_by_aspect_and_slot_effects_are_those_of_the_common_size() -> None:
    judgements, _ = simulated(200, noise=0.3, bias=(0.5, 0, 0, 0))
    levels = collect(judgements)
    effects, _ = slot_effects(levels)
    figures = level_figures(levels, effects)
    assert sum(figures["level_counts"]["aesthetic"]) == 200 * 2 * 4
    assert figures["slot_bias"]["judge"]["aesthetic"][0] == pytest.approx(0.5, abs=0.1)
    assert 0.02 < figures["slot_bias_error"]["judge"]["aesthetic"][0] < 0.1


def test_agreement_of_orders_of_annotators_and_of_samples_are_told_apart() -> None:
    def other(image: str, *_: object) -> float:
        return {**LEVELS, "a": 4}[image]

    rows = [judgement(order, lambda image, *_: LEVELS[image]) for order in ("abcd", "dcba")]
    rows += [judgement(order, other, annotator="second") for order in ("abcd", "dcba")]
    rows += [{**judgement("abcd", lambda image, *_: 6 - LEVELS[image]), "sample": 1}]
    rows = [{**row, "sample": row["sample"] or 0} for row in rows]
    found = of(rows)
    assert found["orders_compared"] == 2
    assert {name: one["compared"] for name, one in found["orders_by_annotator"].items()} == {"judge": 1, "second": 1}
    between = found["between_annotators"]["judge and second"]
    assert (between["compared"], between["flip_rate"]) == (2, 0.0)
    assert between["tau_by_aspect"]["fidelity"] == 1.0
    assert 0.8 < between["kappa_by_aspect"]["fidelity"] < 1.0
    assert 0.8 < between["alpha_by_aspect"]["fidelity"] < 1.0
    again = found["between_samples"]["judge"]
    assert (again["compared"], again["flip_rate"], again["tau_by_aspect"]["fidelity"]) == (1, 1.0, -1.0)


def choice(order: str, preferred: str | None, aspects: tuple[str, ...] = ASPECTS, **more: Any) -> dict[str, Any]:
    """A judgement of two images."""
    said = [{"aspect": aspect, "preferred": preferred, "rationale": ""} for aspect in aspects]
    row = {**judgement(order, lambda *_: 3), "mode": "pairwise", "levels": [], "choices": said, "sample": 0}
    return {**row, "aspects": list(aspects), "answered_at": 5.0, **more}


def test_a_pair_that_flips_with_its_order_is_a_flip_and_the_first_wins_share_is_told_with_its_error() -> None:
    rows = [
        choice("ab", "a", prompt_id="p"),
        choice("ba", "b", prompt_id="p"),
        choice("cd", "c", prompt_id="q"),
        choice("dc", "c", prompt_id="q"),
        choice("ef", None, prompt_id="r"),
        choice("fe", "f", prompt_id="r"),
    ]
    found = agreement_figures(choice_table(table(rows)), table(rows), 3)
    assert (found["orders_compared"], found["flip_rate"]) == (3, 0.5)
    first = first_shown_figures(table(rows))["first_shown_wins"]["judge"]["fidelity"]
    assert (first["share"], first["answers"]) == (4.5 / 6, 6)
    # Prompts' shares 1, 1/2 and 3/4 about their mean 3/4: the error is sqrt(3/2 * (1/2)^2 * 2 / 6^2).
    assert first["standard_error"] == pytest.approx(0.25 / 3**0.5)


def test_choices_become_comparisons_and_a_refusal_abstains_from_what_was_asked() -> None:
    rows = [
        choice("ab", "b"),
        choice("ba", None, aspects=("fidelity",)),
        choice("cd", None, aspects=("aesthetic",), status="refused", choices=[]),
    ]
    made = comparisons_of(table(rows))
    assert made.schema.equals(COMPARISONS)
    found = made.to_pylist()
    assert [(row["aspect"], row["image_id_a"], row["preferred_a"]) for row in found] == [
        *((aspect, "a", 0.0) for aspect in ASPECTS),
        ("fidelity", "b", 0.5),
        ("aesthetic", "c", None),
    ]
    assert {row["rater"] for row in found} == {"judge"}
