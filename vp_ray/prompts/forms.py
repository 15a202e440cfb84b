"""What models are asked about prompts: whether they are harmful, and to write them better."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vp_ray.errors import InputError
from vp_ray.ids import content_id
from vp_ray.judging.image_tokens import text_tokens
from vp_ray.judging.parsing import UnreadableReplyError
from vp_ray.judging.requests import Message, escaped
from vp_ray.prompts.config import ModeratorSettings, PolisherSettings
from vp_ray.prompts.guide import Guide

FAULTS: Final = ("bias", "inconsistency", "unsafe")
"""What a polish looks for."""
_PART_TOKENS: Final = 12


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that is asked about."""

    prompt_id: str
    text: str


class ModerationForm:
    """Is a prompt harmful?"""

    def __init__(self, settings: ModeratorSettings) -> None:
        self._settings = settings

    def key(self, item: Prompt) -> str:
        """Names the answer by model and text."""
        return content_id("moderation", self._settings.name, self._settings.model, item.text)

    def message(self, item: Prompt) -> Message:
        """The text alone."""
        return Message([{"role": "user", "content": item.text}], {}, text_tokens(item.text))

    def read(self, item: Prompt, text: str) -> Mapping[str, Any]:
        """`flagged`, and the categories that were met."""
        answer = json.loads(text)
        return {"flagged": bool(answer["flagged"]), "categories": list(answer["categories"])}

    def row(self, item: Prompt) -> Mapping[str, Any]:
        """What was asked, and no answer."""
        return {"judgement_id": self.key(item), "prompt": item.text, "flagged": None, "categories": []}


class PolishForm:
    """A prompt without its faults."""

    def __init__(self, settings: PolisherSettings, guide: Guide, max_characters: int) -> None:
        self._settings, self._guide, self._most = settings, guide, max_characters

    def key(self, item: Prompt) -> str:
        """Names the answer by model, guide and text."""
        return content_id("polish", self._settings.name, self._settings.model, self._guide.version, item.text)

    def message(self, item: Prompt) -> Message:
        """The instructions first, so that they can be cached, then the prompt as data."""
        if not item.text:
            raise InputError("an empty prompt cannot be polished", "Drop it.")
        asked = f"{self._guide.instructions}\n\n<prompt>{escaped(item.text)}</prompt>"
        schema = {"name": "polish", "strict": True, "schema": polish_schema()}
        return Message(
            [{"role": "user", "content": asked}],
            {"type": "json_schema", "json_schema": schema},
            text_tokens(asked) + _PART_TOKENS,
        )

    def read(self, item: Prompt, text: str) -> Mapping[str, Any]:
        """`polished`, on one line, and the `faults` that were found."""
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise UnreadableReplyError(f"the reply is not valid JSON: {error}") from None
        if not isinstance(answer, dict) or set(answer) != {*FAULTS, "prompt"}:
            raise UnreadableReplyError(f"the reply must have the keys {', '.join(FAULTS)} and prompt, and no other")
        for fault in FAULTS:
            if answer[fault] not in ("yes", "no"):
                raise UnreadableReplyError(f"{fault} is {answer[fault]!r}, which is neither yes nor no")
        prompt = answer["prompt"]
        if not isinstance(prompt, str) or not prompt.strip():
            raise UnreadableReplyError("prompt holds no text")
        if len(prompt) > self._most:
            raise UnreadableReplyError(f"prompt has {len(prompt)} characters, more than {self._most}")
        return {"polished": prompt, "faults": [fault for fault in FAULTS if answer[fault] == "yes"]}

    def row(self, item: Prompt) -> Mapping[str, Any]:
        """What was asked, and no answer."""
        return {
            "judgement_id": self.key(item),
            "prompt": item.text,
            "guide_version": self._guide.version,
            "polished": None,
            "faults": [],
        }


def polish_schema() -> dict[str, Any]:
    """The strict JSON schema of a polish: a yes or no for each fault, then the prompt."""
    found = {"type": "string", "enum": ["yes", "no"]}
    properties = {**dict.fromkeys(FAULTS, found), "prompt": {"type": "string"}}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
