"""What a model can be asked: how an item becomes a request, how its reply is read, and what the row says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.parsing import parse_reply
from vp_ray.judging.requests import Message, Question, message
from vp_ray.judging.rubric import Rubric

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)


class Form(Protocol[Item_contra]):
    """One kind of question; the engine knows what happens to a request, and this what is in it."""

    def key(self, item: Item_contra) -> str:
        """Names the answer, as in the ledger."""
        ...

    def message(self, item: Item_contra) -> Message:
        """The request; raises `InputError` for an item that cannot be sent."""
        ...

    def read(self, item: Item_contra, text: str) -> Mapping[str, Any]:
        """The columns that hold the answer; raises `UnreadableReplyError`."""
        ...

    def row(self, item: Item_contra) -> Mapping[str, Any]:
        """The columns that say what was asked, and those of the answer while there is none."""
        ...


class JudgementForm:
    """Groups of images under a rubric."""

    def __init__(self, settings: AnnotatorSettings, rubric: Rubric) -> None:
        self._settings, self._rubric = settings, rubric

    def key(self, item: Question) -> str:
        """The judgement's id."""
        return item.judgement_id

    def message(self, item: Question) -> Message:
        """Rubric, images and prompt."""
        return message(item, self._rubric, self._settings)

    def read(self, item: Question, text: str) -> Mapping[str, Any]:
        """`levels` of the images in the order shown, or `choices` between two."""
        answer = parse_reply(text, self._rubric, item.image_ids, item.asked)
        return {"levels": answer.levels, "choices": answer.choices}

    def row(self, item: Question) -> Mapping[str, Any]:
        """The first columns of `records.JUDGEMENTS`, and neither levels nor choices."""
        return {
            "judgement_id": item.judgement_id,
            "prompt_id": item.prompt_id,
            "prompt": item.prompt,
            "mode": item.asked.mode,
            "aspects": list(item.asked.aspects),
            "order": list(item.image_ids),
            "sample": item.sample,
            "rubric_version": self._rubric.version,
            "levels": [],
            "choices": [],
        }
