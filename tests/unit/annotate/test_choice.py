"""Annotators are compared with a truth on the same pairs, and the cheapest that is surely near the best is advised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.annotate.conftest import judgement, table
from vp_ray.annotate.choice import choose, opinions_of
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.truth import people_of, rated
from vp_ray.errors import InputError, SettingsError
from vp_ray.records import COMPARISONS, RANKINGS

ORDER = ("a", "b", "c", "d")
TRUE = {"a": 5, "b": 4, "c": 2, "d": 1}


def rows_of(name: str, right: Callable[[int], bool], usd: float, groups: int = 60) -> list[dict[str, Any]]:
    """Judgements of an annotator that sees a group as it is, or the other way round."""
    rows = []
    for group in range(groups):
        sees = right(group)
        row = judgement(
            [f"{group}{image}" for image in ORDER],
            lambda image, *_, sees=sees: TRUE[image[-1]] if sees else 6 - TRUE[image[-1]],
            annotator=name,
            prompt_id=f"p{group}",
        )
        rows.append({**row, "cost_usd": usd, "request_tokens": 900, "reply_tokens": 100})
    return rows


def compared(*judges: list[dict[str, Any]], tolerance: float = 0.02) -> Any:
    truth = opinions_of(table(rows_of("truth", lambda group: True, 0.0)))["truth"]
    return choose(table([row for judge in judges for row in judge]), truth, "truth", tolerance, {}, {})


def test_accuracy_price_and_what_is_lacked_are_worked_by_hand() -> None:
    found = compared(rows_of("good", lambda n: n % 10 > 0, 0.01), rows_of("poor", lambda n: n % 2 > 0, 0.002))
    good, poor = found.rows
    assert (good["annotator"], good["accuracy"], poor["accuracy"]) == ("good", pytest.approx(0.9), pytest.approx(0.5))
    assert good["pairs"] == 60 * 6
    assert good["usd"] == pytest.approx(1000 * 0.01 / 4)
    assert (good["request_tokens"], good["answered"]) == (900, 1.0)
    assert poor["behind"]["mean"] == pytest.approx(0.4)
    assert found.recommended == "good"
    assert "no cheaper one is surely within 2 points" in found.reason
    assert {row["aspect"] for row in found.by_aspect} >= {"overall", "fidelity"}


def test_the_cheapest_that_is_surely_near_the_best_is_recommended() -> None:
    same, near = (lambda n: n % 10 > 0), (lambda n: n % 10 > 0 and n != 1)
    judges = [
        rows_of("dear", same, 0.01),
        rows_of("cheap", near, 0.001),
        rows_of("cheapest", lambda n: n % 2 > 0, 1e-4),
    ]
    assert compared(*judges, tolerance=0.1).recommended == "cheap"
    assert compared(*judges, tolerance=0.01).recommended == "dear", "one group in 60 is not surely within a point"


def test_an_unknown_price_leaves_the_most_accurate() -> None:
    unpriced = [{**row, "cost_usd": None} for row in rows_of("unpriced", lambda n: n > 0, 0.0)]
    found = compared(rows_of("good", lambda n: True, 0.01), unpriced, tolerance=0.2)
    assert (found.recommended, found.rows[1]["usd"]) == ("good", None)
    assert "not every price is known" in found.reason


def test_ties_of_the_truth_are_left_out_and_those_of_an_annotator_count_a_half() -> None:
    flat = [judgement(ORDER, lambda *_: 3, annotator="flat")]
    some = [judgement(ORDER, lambda image, *_: {"a": 5, "b": 3, "c": 3, "d": 3}[image], annotator="truth")]
    truth = opinions_of(table(some))["truth"]
    found = choose(table([{**row, "cost_usd": 0.0} for row in flat]), truth, "truth", 0.02, {}, {})
    assert (found.rows[0]["accuracy"], found.rows[0]["pairs"]) == (0.5, 3)


def test_people_decide_by_majority_of_rankings_and_choices() -> None:
    ranks = [
        ("p", rater, image, rank)
        for rater, order in (("x", "ab"), ("y", "ab"), ("z", "ba"))
        for rank, image in enumerate(order, 1)
    ]
    rankings = pa.Table.from_pylist([dict(zip(RANKINGS.names, row, strict=True)) for row in ranks], schema=RANKINGS)
    chosen = {"prompt_id": "p", "rater": "x", "aspect": "fidelity", "image_id_a": "b", "image_id_b": "a"}
    comparisons = pa.Table.from_pylist(
        [{**chosen, "preferred_a": 1.0}, {**chosen, "preferred_a": None}], schema=COMPARISONS
    )
    assert people_of(rankings, comparisons) == {
        ("p", "overall", "a", "b"): pytest.approx(1 / 3),
        ("p", "fidelity", "a", "b"): -1.0,
    }


def test_choices_between_two_images_are_opinions_too() -> None:
    row = judgement(("b", "a"), lambda *_: 3, annotator="judge")
    choices = [{"aspect": "fidelity", "preferred": "a", "rationale": ""}]
    found = opinions_of(table([{**row, "levels": [], "choices": choices}]))
    assert found == {"judge": {("p", "fidelity", "a", "b"): 1.0}}


def test_an_annotator_that_saw_no_decided_pair_is_refused_and_the_truth_enters_no_rating() -> None:
    with pytest.raises(InputError, match="no annotator judged a pair of images that 'truth' decides"):
        choose(table([judgement(ORDER, lambda *_: 3)]), {}, "truth", 0.02, {}, {})
    judges = [{"name": name, "model": "m"} for name in ("truth", "other")]
    settings = AnnotateSettings.load({"annotators": judges, "choice": {"truth": "truth"}})
    both = table([judgement(ORDER, lambda *_: 3, annotator=name) for name in ("truth", "other")])
    assert rated(both, settings)["annotator"].to_pylist() == ["other"]
    with pytest.raises(SettingsError, match="one of several annotators"):
        AnnotateSettings.load({"annotators": judges, "choice": {"truth": "nobody"}})


def test_accuracy_grows_with_less_noise() -> None:
    rng = np.random.default_rng(0)
    noisy = {sigma: rows_of(str(sigma), lambda n, sigma=sigma: rng.normal(0, sigma) < 1, 0.01) for sigma in (0.5, 2.0)}
    found = {row["annotator"]: row["accuracy"] for row in compared(*noisy.values()).rows}
    assert found["0.5"] > found["2.0"] + 0.1
