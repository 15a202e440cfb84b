"""Levels and choices from an annotator's reply; a reply that does not hold them is an error, never a guess."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from vp_ray.judging.rubric import Rubric
from vp_ray.judging.schemas import ALL_AT_ONCE, TIE, Asked


class UnreadableReplyError(ValueError):
    """A reply does not answer what was asked; the text says where, for the annotator that is asked again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply says: levels of images, or which of two images is better."""

    levels: list[dict[str, Any]] = field(default_factory=list)
    """`records.LEVEL`, one for each image as shown and each aspect asked."""
    choices: list[dict[str, Any]] = field(default_factory=list)
    """`records.CHOICE`, one for each aspect asked."""


def parse_reply(text: str, rubric: Rubric, image_ids: Sequence[str], asked: Asked = ALL_AT_ONCE) -> Answer:
    """What a reply says about the images in the order shown.

    Raises `UnreadableReplyError` for text that is not JSON, keys that are missing or too many, and levels or choices
    that are none of those offered.
    """
    answer = _value(text)
    if asked.mode == "pairwise":
        return Answer(choices=_choices(answer, image_ids, asked.aspects))
    return Answer(levels=_levels(answer, rubric, image_ids, asked.aspects))


def _levels(answer: Any, rubric: Rubric, image_ids: Sequence[str], aspects: Sequence[str]) -> list[dict[str, Any]]:
    wanted = [f"image_{place}" for place in range(1, len(image_ids) + 1)]
    pictures = _keyed(answer, wanted, "the reply")
    rows = []
    for image_id, key in zip(image_ids, wanted, strict=True):
        opinions = _keyed(pictures[key], aspects, key)
        for aspect in aspects:
            level, rationale = _opinion(opinions[aspect], "level", rubric.levels, f"{key}.{aspect}")
            number = rubric.levels.index(level) + 1
            rows.append({"image_id": image_id, "aspect": aspect, "level": number, "rationale": rationale})
    return rows


def _choices(answer: Any, image_ids: Sequence[str], aspects: Sequence[str]) -> list[dict[str, Any]]:
    preferred = {"image_1": image_ids[0], TIE: None, "image_2": image_ids[1]}
    opinions = _keyed(answer, aspects, "the reply")
    rows = []
    for aspect in aspects:
        better, rationale = _opinion(opinions[aspect], "better", tuple(preferred), aspect)
        rows.append({"aspect": aspect, "preferred": preferred[better], "rationale": rationale})
    return rows


def _opinion(value: Any, key: str, offered: Sequence[str], where: str) -> tuple[str, str]:
    opinion = _keyed(value, ("rationale", key), where)
    chosen, rationale = opinion[key], opinion["rationale"]
    if not isinstance(chosen, str) or chosen not in offered:
        raise UnreadableReplyError(f"{where}.{key} is {chosen!r}, which is none of {list(offered)}")
    if not isinstance(rationale, str):
        raise UnreadableReplyError(f"{where}.rationale is not a string")
    return chosen, rationale


def _value(text: str) -> Any:
    """The value of a reply: the JSON text, or else the object that stands in it, as JSON or with Python's quotes.

    Models without guided decoding write a sentence in front or single quotes. What is read is what is written: keys and
    levels are checked afterwards as always.
    """
    plain = _without_fence(text)
    try:
        return json.loads(plain)
    except (ValueError, RecursionError) as error:
        problem = f"the reply is not valid JSON: {error}"
    inner = plain[plain.find("{") : plain.rfind("}") + 1]
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return read(inner)
    raise UnreadableReplyError(problem)


def _without_fence(text: str) -> str:
    """The text inside a Markdown code fence, which models put around JSON when a backend ignores the schema."""
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped:
        return stripped[stripped.index("\n") : -3]
    return stripped


def _keyed(value: Any, keys: Sequence[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableReplyError(f"{where} is not an object")
    missing = [key for key in keys if key not in value]
    surplus = [key for key in value if key not in keys]
    if missing:
        raise UnreadableReplyError(f"{where} lacks {', '.join(missing)}")
    if surplus:
        raise UnreadableReplyError(f"{where} has the key {surplus[0]!r}, which was not asked for")
    return value
