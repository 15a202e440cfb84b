"""Replies: levels are read exactly or not at all."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from vp_ray.judging.parsing import UnreadableReplyError, parse_reply
from vp_ray.judging.rubric import Rubric
from vp_ray.judging.schemas import Asked, answer_schema

IMAGES = ("x", "y")


def answer(rubric: Rubric) -> dict[str, Any]:
    """An answer in which the second image is one level better than the first."""
    return {
        f"image_{place}": {
            aspect: {"rationale": f"why {place}", "level": rubric.levels[number % 4 + place - 1]}
            for number, aspect in enumerate(rubric.aspects)
        }
        for place in (1, 2)
    }


def test_worded_levels_become_1_to_5_by_image_as_shown_and_aspect(rubric: Rubric) -> None:
    rows = parse_reply(json.dumps(answer(rubric)), rubric, IMAGES).levels
    assert [row["level"] for row in rows] == [1, 2, 3, 4, 2, 3, 4, 5]
    assert [row["image_id"] for row in rows] == ["x"] * 4 + ["y"] * 4
    assert [row["aspect"] for row in rows[:4]] == list(rubric.aspects)
    assert rows[4]["rationale"] == "why 2"


def test_a_code_fence_around_the_json_is_taken_off(rubric: Rubric) -> None:
    plain = json.dumps(answer(rubric))
    assert parse_reply(f"```json\n{plain}\n```\n", rubric, IMAGES) == parse_reply(plain, rubric, IMAGES)


def test_an_object_after_a_sentence_or_with_pythons_quotes_is_read_as_it_is_written(rubric: Rubric) -> None:
    plain = answer(rubric)
    plain["image_1"]["fidelity"]["rationale"] = 'the artist\'s "mark" {here}'
    expected = parse_reply(json.dumps(plain), rubric, IMAGES)
    for text in (json.dumps(plain), repr(plain)):
        assert parse_reply(f"Here is my judgement: {text}\nI hope this helps.", rubric, IMAGES) == expected


def test_an_object_that_is_cut_off_or_computes_something_is_never_read(rubric: Rubric) -> None:
    text = repr(answer(rubric))
    for wrong in (text[: len(text) * 2 // 3], text.replace("'why 1'", "str(1)"), "{" * 100_000):
        with pytest.raises(UnreadableReplyError, match="not valid JSON"):
            parse_reply(f"Here: {wrong}", rubric, IMAGES)


@pytest.mark.parametrize("level", ["10", "1", 1, 5.0, "5 - Very good", "", None, ["5 - very good"]])
def test_a_level_that_is_not_on_the_scale_is_never_rounded_to_one(rubric: Rubric, level: Any) -> None:
    wrong = answer(rubric)
    wrong["image_2"]["fidelity"]["level"] = level
    with pytest.raises(UnreadableReplyError, match=r"image_2\.fidelity\.level is"):
        parse_reply(json.dumps(wrong), rubric, IMAGES)


def test_missing_and_surplus_keys_are_named(rubric: Rubric) -> None:
    good = answer(rubric)
    missing, surplus, extra = (copy.deepcopy(good) for _ in range(3))
    del missing["image_1"]["aesthetic"]
    surplus["image_3"] = surplus["image_1"]
    extra["image_1"]["fidelity"]["score"] = 3
    cases = {"image_1 lacks aesthetic": missing, "'image_3'": surplus, "image_1.fidelity has the key 'score'": extra}
    for complaint, wrong in cases.items():
        with pytest.raises(UnreadableReplyError, match=complaint):
            parse_reply(json.dumps(wrong), rubric, IMAGES)


@pytest.mark.parametrize(
    "text", ["", "I cannot judge this.", "[]", "null", '{"image_1": 3, "image_2": 4}', '{"image_1']
)
def test_text_that_is_no_answer_is_an_error(rubric: Rubric, text: str) -> None:
    with pytest.raises(UnreadableReplyError):
        parse_reply(text, rubric, IMAGES)


def test_the_schema_asked_for_has_fixed_closed_keys_enums_and_the_rationale_first(rubric: Rubric) -> None:
    schema = answer_schema(rubric, 3)
    assert schema["required"] == ["image_1", "image_2", "image_3"]
    opinion = schema["properties"]["image_3"]["properties"]["harmlessness"]
    assert list(opinion["properties"]) == ["rationale", "level"]
    assert opinion["properties"]["level"] == {"type": "string", "enum": list(rubric.levels)}
    text = json.dumps(schema)
    assert text.count('"additionalProperties": false') == 1 + 3 + 3 * 4
    assert not any(word in text for word in ("minimum", "maximum", "minItems", '"array"'))


PAIR = Asked("pairwise", ("fidelity", "aesthetic"))


def test_a_choice_names_the_preferred_image_by_its_id_and_a_tie_names_none(rubric: Rubric) -> None:
    said = {
        "fidelity": {"rationale": "sharper", "better": "image_2"},
        "aesthetic": {"rationale": "alike", "better": "tie"},
    }
    found = parse_reply(json.dumps(said), rubric, IMAGES, PAIR)
    assert found.levels == []
    assert found.choices == [
        {"aspect": "fidelity", "preferred": "y", "rationale": "sharper"},
        {"aspect": "aesthetic", "preferred": None, "rationale": "alike"},
    ]


@pytest.mark.parametrize("better", ["image_3", "image1", "x", "", None, 1, "Tie", ["tie"]])
def test_a_choice_that_was_not_offered_is_never_taken_for_one(rubric: Rubric, better: Any) -> None:
    said = {aspect: {"rationale": "", "better": better} for aspect in PAIR.aspects}
    with pytest.raises(UnreadableReplyError, match=r"fidelity\.better is"):
        parse_reply(json.dumps(said), rubric, IMAGES, PAIR)


def test_pairs_have_a_closed_schema_with_one_choice_an_aspect_and_one_image_has_one_key(rubric: Rubric) -> None:
    schema = answer_schema(rubric, 2, PAIR)
    assert schema["required"] == ["fidelity", "aesthetic"]
    opinion = schema["properties"]["fidelity"]["properties"]
    assert list(opinion) == ["rationale", "better"]
    assert opinion["better"]["enum"] == ["image_1", "tie", "image_2"]
    assert json.dumps(schema).count('"additionalProperties": false') == 3
    alone = answer_schema(rubric, 1, Asked("pointwise", ("fidelity",), apart=True))
    assert alone["required"] == ["image_1"]
    assert alone["properties"]["image_1"]["required"] == ["fidelity"]
