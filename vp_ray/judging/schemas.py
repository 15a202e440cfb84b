"""What an annotator is asked, and the strict JSON schema of its answer.

Fixed keys and enums only, since backends disagree on arrays and ranges; a rationale comes before what it is to inform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from vp_ray.judging.config import Mode
from vp_ray.judging.rubric import Rubric
from vp_ray.records import ASPECTS

TIE: Final = "tie"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about the images of a question."""

    mode: Mode = "listwise"
    aspects: tuple[str, ...] = ASPECTS
    apart: bool = False
    """Whether these aspects have a request of their own; their guideline then comes last."""
    with_prompt: bool = True
    """Whether the annotator is told what the images should show."""


ALL_AT_ONCE: Final = Asked()


def answer_schema(rubric: Rubric, images: int, asked: Asked = ALL_AT_ONCE) -> dict[str, Any]:
    """The schema of an answer about so many images: `image_n.aspect.{rationale, level}`, or for two images that are
    compared `aspect.{rationale, better}` with better one of `image_1`, `image_2` and `tie`."""
    rationale = {"type": "string"}
    if asked.mode == "pairwise":
        better = {"type": "string", "enum": ["image_1", TIE, "image_2"]}
        return _closed(dict.fromkeys(asked.aspects, _closed({"rationale": rationale, "better": better})))
    level = {"type": "string", "enum": list(rubric.levels)}
    picture = _closed(dict.fromkeys(asked.aspects, _closed({"rationale": rationale, "level": level})))
    return _closed({f"image_{place}": picture for place in range(1, images + 1)})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
