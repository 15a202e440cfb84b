"""Agreement between annotators and between people, drift over the time of answers, and use of levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vp_ray.preferences.agreement import GivenLevels, people_agreement, people_drift
from vp_ray.preferences.answers import answers_of_comparisons, answers_of_rankings
from vp_ray.records import ASPECTS, COMPARISONS, JUDGEMENTS, PROMPTS, RANKINGS

PROMPT_TABLE = pa.Table.from_pylist(
    [{"prompt_id": f"p{n}", "prompt": f"a {n}", "split": "train"} for n in range(300)], schema=PROMPTS
)


def judgement(prompt: int, annotator: str, levels: dict[str, int], at: float | None = None) -> dict[str, Any]:
    entries = [
        {"image_id": f"{prompt}-{image}", "aspect": aspect, "level": level, "rationale": ""}
        for image, level in levels.items()
        for aspect in ASPECTS
    ]
    row = dict.fromkeys(JUDGEMENTS.names) | {"annotator": annotator, "status": "scored", "answered_at": at}
    return row | {
        "judgement_id": f"{prompt}{annotator}{at}",
        "prompt_id": f"p{prompt}",
        "order": [f"{prompt}-{image}" for image in levels],
        "levels": entries,
    }


def given(rows: list[dict[str, Any]]) -> GivenLevels:
    return GivenLevels(pa.Table.from_pylist(rows, schema=JUDGEMENTS))


def test_two_annotators_who_say_the_same_agree_perfectly_and_one_has_no_other() -> None:
    rng = np.random.default_rng(0)
    levels = [{"a": int(a), "b": int(b)} for a, b in rng.integers(1, 6, (50, 2))]
    rows = [judgement(n, who, pair) for n, pair in enumerate(levels) for who in ("x", "y")]
    found = given(rows).agreement()
    assert found["alpha_between_annotators"]["fidelity"] == pytest.approx(1.0)
    assert found["kappa"]["x and y"]["fidelity"] == pytest.approx(1.0)
    alone = given([row for row in rows if row["annotator"] == "x"]).agreement()
    assert alone["alpha_between_annotators"]["fidelity"] is None
    assert alone["alpha_of_answers"]["fidelity"] is None
    assert alone["kappa"] == {}


def test_annotators_who_answer_by_chance_agree_by_chance() -> None:
    rng = np.random.default_rng(1)
    rows = [
        judgement(n, who, {"a": int(rng.integers(1, 6)), "b": int(rng.integers(1, 6))})
        for n in range(300)
        for who in ("x", "y")
    ]
    assert given(rows).agreement()["alpha_between_annotators"]["aesthetic"] == pytest.approx(0.0, abs=0.12)


def test_orders_of_one_annotator_do_not_count_as_agreement_between_several() -> None:
    rows = [judgement(n, "x", {"a": 1 + n % 5, "b": 3}, at) for n in range(40) for at in (1.0, 2.0)]
    rows += [judgement(n, "y", {"a": 5 - n % 5, "b": 3}) for n in range(40)]
    found = given(rows).agreement()
    assert found["alpha_of_answers"]["fidelity"] > found["alpha_between_annotators"]["fidelity"]


def test_an_annotator_who_grows_harsher_is_told_from_one_who_does_not() -> None:
    rng = np.random.default_rng(2)
    rows = []
    for n in range(300):
        at = 1e9 + 3600 * float(rng.permutation(300)[0]) + n
        time_share = (at - 1e9) / (3600 * 300)
        for who, change in (("steady", 0.0), ("harsher", -2.0)):
            level = np.clip(np.rint(rng.normal(3.5, 0.6, 2) + change * time_share), 1, 5).astype(int)
            rows.append(judgement(n, who, {"a": int(level[0]), "b": int(level[1])}, at))
    # The rows come by prompt, so that only the time of the answers can tell.
    found = given(rows).drift()
    harsher, steady = (found[who]["aspects"]["fidelity"] for who in ("harsher", "steady"))
    assert harsher["change"] == pytest.approx(-2.0, abs=0.5)
    assert harsher["high"] < 0
    assert steady["low"] < 0 < steady["high"]
    assert len(harsher["windows"]) == 10
    assert harsher["windows"][0] - harsher["windows"][-1] > 1


def test_answers_without_times_have_no_drift() -> None:
    assert given([judgement(n, "x", {"a": 1, "b": 2}) for n in range(5)]).drift() == {}
    assert given([judgement(n, "x", {"a": 1, "b": 2}, 5.0) for n in range(5)]).drift() == {}


def test_levels_are_counted_by_annotator() -> None:
    rows = [
        judgement(0, "x", {"a": 1, "b": 5}),
        judgement(1, "x", {"a": 5, "b": 5}),
        judgement(2, "y", {"a": 2, "b": 2}),
    ]
    assert given(rows).histograms()["x"]["fidelity"] == [1, 0, 0, 0, 3]
    assert given(rows).histograms()["y"]["aesthetic"] == [0, 2, 0, 0, 0]


def rankings(by_rater: dict[str, list[int]], prompt: int = 0) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"prompt_id": f"p{prompt}", "rater": rater, "image_id": f"{prompt}-{image}", "rank": rank}
            for rater, ranks in by_rater.items()
            for image, rank in enumerate(ranks)
        ],
        schema=RANKINGS,
    )


def test_people_with_one_ranking_agree_and_with_opposite_ones_less_than_chance() -> None:
    same = people_agreement(answers_of_rankings(rankings({"x": [1, 2, 3], "y": [1, 2, 3]}), PROMPT_TABLE))["overall"]
    assert (same["alpha"], same["same_verdict"], same["pairs"], same["people"]) == (1.0, 1.0, 3, 2)
    opposite = people_agreement(answers_of_rankings(rankings({"x": [1, 2, 3], "y": [3, 2, 1]}), PROMPT_TABLE))
    assert opposite["overall"]["alpha"] < 0
    assert opposite["overall"]["same_verdict"] == 0.0


def test_alpha_of_people_is_that_of_their_verdicts_by_hand() -> None:
    # Two pairs, two people: they agree on one and are opposed on the other. Counted both ways round there are four
    # values of each verdict; D_o = 1/2 and D_e = 4/7 of the largest distance, so alpha = 1 - 7/8.
    table = rankings({"x": [1, 2], "y": [1, 2]})
    table = pa.concat_tables([table, rankings({"x": [1, 2], "y": [2, 1]}, prompt=1)])
    assert people_agreement(answers_of_rankings(table, PROMPT_TABLE))["overall"]["alpha"] == pytest.approx(1 / 8)


def test_one_person_alone_has_nobody_to_agree_with() -> None:
    found = people_agreement(answers_of_rankings(rankings({"x": [1, 2]}), PROMPT_TABLE))["overall"]
    assert (found["alpha"], found["same_verdict"]) == (None, None)


def test_people_who_come_to_take_the_first_image_drift() -> None:
    rng = np.random.default_rng(4)
    rows = []
    for n in range(300):
        preferred = float(rng.random() < 0.3 + 0.5 * n / 300)
        a, b = (f"{n}-a", f"{n}-b")[:: 1 if n % 2 else -1]
        row = {"prompt_id": f"p{n}", "rater": "x", "aspect": "overall", "image_id_a": a, "image_id_b": b}
        rows.append(row | {"preferred_a": preferred, "answered_at": 1e9 + n})
    answers = answers_of_comparisons(pa.Table.from_pylist(rows, schema=COMPARISONS), PROMPT_TABLE)
    found = people_drift(answers)["people"]["aspects"]["shown_first_wins"]
    assert found["low"] > 0
    assert found["change"] == pytest.approx(0.5, abs=0.2)
