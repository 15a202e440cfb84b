"""Scores of pairs: means over orders by hand, what is missing stays missing, VP-Score as it scores by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vp_ray.evaluate.scoring import scores_by_judges, scores_by_model
from vp_ray.models.reward import VPScore
from vp_ray.pictures import encode_png
from vp_ray.records import ASPECTS, OVERALL

IMAGES = {
    name: {"image_id": name, "prompt_id": "p", "seed": 7, "generator": generator}
    for name, generator in (("b", "base"), ("t", "tuned"))
}
EQUAL = dict.fromkeys(ASPECTS, 1.0)


def _judgement(levels: dict[str, list[int]], status: str = "scored", annotator: str = "judge") -> dict[str, Any]:
    entries = [
        {"image_id": image, "aspect": aspect, "level": level, "rationale": ""}
        for image, given in levels.items()
        for aspect, level in zip(ASPECTS, given, strict=False)
    ]
    return {"annotator": annotator, "status": status, "levels": entries}


def _found(judgements: list[dict[str, Any]], weights: dict[str, float]) -> dict[tuple[str, str], float]:
    rows = scores_by_judges(judgements, IMAGES, weights).to_pylist()
    return {(row["image_id"], row["aspect"]): row["score"] for row in rows}


def test_a_score_is_the_mean_over_orders_and_the_overall_the_weighted_mean_of_aspects() -> None:
    judgements = [
        _judgement({"b": [2, 3, 4, 5], "t": [5, 5, 5, 5]}),
        _judgement({"t": [4, 5, 5, 5], "b": [3, 3, 4, 5]}),
    ]
    found = _found(judgements, EQUAL)
    assert found["b", "prompt_following"] == 2.5
    assert found["t", "prompt_following"] == 4.5
    assert found["b", OVERALL] == (2.5 + 3 + 4 + 5) / 4
    weighted = _found(judgements, {"prompt_following": 3.0, "aesthetic": 1.0, "fidelity": 0.0})
    assert weighted["b", OVERALL] == (3 * 2.5 + 3) / 4


def test_an_answer_that_is_none_enters_no_mean() -> None:
    refused = _judgement({"b": [1, 1, 1, 1], "t": [1, 1, 1, 1]}, status="refused")
    judged = _judgement({"b": [4, 4, 4, 4], "t": [4, 4, 4, 4]})
    assert _found([refused, judged], EQUAL) == _found([judged], EQUAL)
    assert _found([refused], EQUAL) == {}


def test_without_an_aspect_that_weighs_there_is_no_overall() -> None:
    found = _found([_judgement({"b": [4, 4], "t": [4, 4]})], EQUAL)
    assert set(found) == {(image, aspect) for image in "bt" for aspect in ASPECTS[:2]}
    assert ("b", OVERALL) in _found([_judgement({"b": [4, 4], "t": [4, 4]})], {"aesthetic": 1.0, "harmlessness": 0.0})


def test_judges_are_kept_apart() -> None:
    rows = scores_by_judges(
        [_judgement({"b": [1] * 4}, annotator="one"), _judgement({"b": [5] * 4}, annotator="other")], IMAGES, EQUAL
    ).to_pylist()
    assert {(row["scorer"], row["score"]) for row in rows} == {("one", 1.0), ("other", 5.0)}


def test_vp_scores_rows_are_what_it_scores_by_itself(vp_score: VPScore) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)
    images = [
        IMAGES["b"] | {"image_id": str(n), "prompt": "a red circle", "image": {"bytes": encode_png(picture)}}
        for n, picture in enumerate(pixels)
    ]
    scores = vp_score.score(pixels, ["a red circle"] * 3)
    found = {(row["image_id"], row["aspect"]): row["score"] for row in scores_by_model(vp_score, images).to_pylist()}
    assert len(found) == 3 * (len(vp_score.aspects) + 1)
    for n in range(3):
        assert found[str(n), vp_score.aspects[0]] == pytest.approx(float(scores[n, 0]))
        assert found[str(n), OVERALL] == pytest.approx(float(vp_score.overall(scores)[n]))
    assert len(scores_by_model(vp_score, [])) == 0
