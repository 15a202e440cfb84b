"""Levels from an annotator's reply; a reply that does not hold them is an error, never a guess."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vp_ray.judging.rubric import Rubric


class UnreadableReplyError(ValueError):
    """A reply does not answer what was asked; the text says where, for the annotator that is asked again."""


def parse_reply(text: str, rubric: Rubric, image_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Rows `{image_id, aspect, level, rationale}`, one for each image as shown and each aspect of the rubric.

    Raises `UnreadableReplyError` for text that is not JSON, keys that are missing or too many, and levels that are
    not on the rubric's scale.
    """
    try:
        answer = json.loads(_without_fence(text))
    except ValueError as error:
        raise UnreadableReplyError(f"the reply is not valid JSON: {error}") from None
    wanted = [f"image_{place}" for place in range(1, len(image_ids) + 1)]
    pictures = _keyed(answer, wanted, "the reply")
    rows = []
    for image_id, key in zip(image_ids, wanted, strict=True):
        opinions = _keyed(pictures[key], rubric.aspects, key)
        for aspect in rubric.aspects:
            where = f"{key}.{aspect}"
            opinion = _keyed(opinions[aspect], ("rationale", "level"), where)
            level, rationale = opinion["level"], opinion["rationale"]
            if level not in rubric.levels:
                raise UnreadableReplyError(f"{where}.level is {level!r}, which is none of {list(rubric.levels)}")
            if not isinstance(rationale, str):
                raise UnreadableReplyError(f"{where}.rationale is not a string")
            number = rubric.levels.index(level) + 1
            rows.append({"image_id": image_id, "aspect": aspect, "level": number, "rationale": rationale})
    return rows


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
