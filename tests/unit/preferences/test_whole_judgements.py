"""Judgements of one aspect each read like judgements of all aspects."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from vp_ray.preferences.levels import judged_groups, scored
from vp_ray.preferences.whole import whole_judgements
from vp_ray.records import ASPECTS, JUDGEMENTS

LEVELS = {"a": 5, "b": 3, "c": 2}


def part(aspects: tuple[str, ...], order: str = "abc", status: str = "scored", **more: Any) -> dict[str, Any]:
    """A judgement of these aspects, in which each aspect lies a bit lower than the one before."""
    levels = [
        {"image_id": image, "aspect": aspect, "level": LEVELS[image] - (ASPECTS.index(aspect) > 1), "rationale": aspect}
        for image in order
        for aspect in aspects
    ]
    row = dict.fromkeys(JUDGEMENTS.names) | {
        "judgement_id": f"{order}{aspects}",
        "prompt_id": "p",
        "annotator": "judge",
        "mode": "listwise",
        "aspects": list(aspects),
        "order": list(order),
        "sample": 0,
        "status": status,
        "levels": levels if status == "scored" else [],
        "answered_at": float(ASPECTS.index(aspects[-1])),
    }
    return row | more


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=JUDGEMENTS)


def test_four_judgements_of_an_aspect_each_are_the_one_of_all_four() -> None:
    for order in ("abc", "cab"):
        parts = [part((aspect,), order) for aspect in reversed(ASPECTS)]
        (merged,) = whole_judgements(table(*parts)).to_pylist()
        (whole,) = table(part(ASPECTS, order)).to_pylist()
        assert merged["levels"] == whole["levels"]
        assert (merged["status"], merged["aspects"], merged["answered_at"]) == ("scored", list(ASPECTS), 3.0)


def test_orders_samples_and_annotators_stay_apart_and_a_refused_part_makes_the_whole_refused() -> None:
    rows = [part((aspect,)) for aspect in ASPECTS]
    rows += [part((aspect,), "cba") for aspect in ASPECTS]
    rows += [part((aspect,), sample=1) for aspect in ASPECTS]
    rows += [
        part((aspect,), annotator="second", status="refused" if aspect == "fidelity" else "scored")
        for aspect in ASPECTS
    ]
    whole = whole_judgements(table(*rows))
    assert whole["status"].to_pylist() == ["scored"] * 3 + ["refused"]
    (groups,) = judged_groups(scored(whole))
    assert groups.level_JKA.shape == (3, 3, 4)
    assert set(groups.group_J.tolist()) == {0}


def test_whole_judgements_and_those_of_older_tables_are_left_as_they_are_and_pairs_have_none() -> None:
    rows = table(part(ASPECTS), {**part(ASPECTS, "cba"), "aspects": None, "mode": None})
    assert whole_judgements(rows).equals(rows)
    older = rows.drop_columns(["mode", "aspects", "sample", "choices"])
    assert whole_judgements(older).equals(older)
    assert whole_judgements(table(part(("fidelity",), "ab", mode="pairwise", levels=[]))).num_rows == 0
