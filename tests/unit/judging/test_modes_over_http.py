"""One image, two images, one aspect, several answers: each mode against the embedded judge over HTTP."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
from PIL import Image

from tests.unit.judging.conftest import JudgeAt, annotator, make_questions, open_judge, stats
from vp_ray.judging.requests import Question
from vp_ray.judging.rubric import Rubric
from vp_ray.judging.schemas import Asked
from vp_ray.records import ASPECTS
from vp_ray.shapeworld.judgement import Opinion, continuous_level, judge_image
from vp_ray.shapeworld.scenes import parse_prompt

HIDDEN = ("aesthetic", "fidelity", "harmlessness")


def opinion(question: Question, data: bytes) -> dict[str, Opinion]:
    """The truth about an image."""
    return judge_image(parse_prompt(question.prompt), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_one_image_a_request_and_one_aspect_a_request_give_the_levels_that_all_at_once_give(
    judge_at: JudgeAt, rubric: Rubric
) -> None:
    settings = annotator()
    group = make_questions(1, settings, rubric)[0]
    asked = [
        replace(
            group, judgement_id=aspect, asked=Asked(aspects=(aspect,), apart=True, with_prompt=aspect not in HIDDEN)
        )
        for aspect in ASPECTS
    ]
    asked += [
        replace(group, judgement_id=name, image_ids=(name,), images=(data,), asked=Asked("pointwise"))
        for name, data in zip(group.image_ids, group.images, strict=True)
    ]
    with open_judge(settings, judge_at(), rubric) as (judge, _):
        rows = judge([group, *asked])
    whole, *parts = [{(one["image_id"], one["aspect"]): one["level"] for one in row["levels"]} for row in rows]
    assert len(whole) == 16
    assert {key: level for part in parts[:4] for key, level in part.items()} == whole
    assert {key: level for part in parts[4:] for key, level in part.items()} == whole
    assert [row["aspects"] for row in rows] == [list(ASPECTS), *([aspect] for aspect in ASPECTS), *[list(ASPECTS)] * 4]
    assert Counter(row["mode"] for row in rows) == {"listwise": 5, "pointwise": 4}


def test_of_two_images_the_one_that_is_better_in_an_aspect_is_chosen_whichever_comes_first(
    judge_at: JudgeAt, rubric: Rubric
) -> None:
    settings = annotator()
    questions = []
    for group in make_questions(8, settings, rubric, count=1):
        for one, other in combinations(range(4), 2):
            for places in ((one, other), (other, one)):
                ids, images = (tuple(many[place] for place in places) for many in (group.image_ids, group.images))
                name = "/".join(ids)
                questions.append(
                    replace(group, judgement_id=name, image_ids=ids, images=images, asked=Asked("pairwise"))
                )
    with open_judge(settings, judge_at(), Rubric.load("visionprefer", "pairwise")) as (judge, _):
        rows = judge(questions)
    verdicts: Counter[str] = Counter()
    for question, row in zip(questions, rows, strict=True):
        assert (row["status"], row["levels"], len(row["choices"])) == ("scored", [], 4)
        first, second = (opinion(question, data) for data in question.images)
        for choice in row["choices"]:
            aspect = choice["aspect"]
            difference = continuous_level(first[aspect].quality) - continuous_level(second[aspect].quality)
            wanted = None if abs(difference) < 0.25 else question.image_ids[int(difference < 0)]
            assert choice["preferred"] == wanted
            assert choice["rationale"].startswith(f"image_1: {first[aspect].rationale}")
            verdicts["tie" if wanted is None else "decided"] += 1
    assert min(verdicts.values()) > 50


def test_samples_of_one_request_differ_at_a_temperature_and_are_the_same_at_none(
    judge_at: JudgeAt, rubric: Rubric
) -> None:
    url = judge_at(noise=1.0)
    for temperature, different in ((1.0, 4), (0.0, 1)):
        settings = annotator(model="shapeworld-judge", temperature=temperature)
        group = make_questions(1, settings, rubric)[0]
        before = stats(url)["requests"]
        with open_judge(settings, url, rubric) as (judge, _):
            rows = judge([replace(group, judgement_id=f"sample {n}", sample=n) for n in range(4)])
        assert [row["sample"] for row in rows] == [0, 1, 2, 3]
        assert len({str([one["level"] for one in row["levels"]]) for row in rows}) == different
        assert stats(url)["requests"] - before == 4
