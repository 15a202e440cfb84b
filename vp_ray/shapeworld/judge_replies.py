"""The judge's replies: opinions of the images, with noise and bias where the model has them, in the asked schema."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from statistics import NormalDist
from typing import Any, Final

from vp_ray.errors import InputError
from vp_ray.ids import content_id, uniform_from
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_faults import Fault, cut_short, malform
from vp_ray.shapeworld.judge_requests import MAX_CHOICES, JudgeRequest, decode_image, text_tokens
from vp_ray.shapeworld.judge_schema import BETTER, read_schema
from vp_ray.shapeworld.judgement import Opinion, continuous_level, opinions_on, to_level
from vp_ray.shapeworld.measure import Measurement, measure
from vp_ray.shapeworld.scenes import Scene, parse_prompt

_REMEMBERED_IMAGES: Final = 8192
_TIE_LEVELS: Final = 0.25
"""Two images that are nearer than this are a tie for the judge."""


class MeasuredImages:
    """Measurements by content of the image: a group is asked about in several orders, and measured once."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Measurement] = OrderedDict()
        self._lock = threading.Lock()

    def measure(self, data: bytes, number: int) -> Measurement:
        """The measurement of encoded image `number`; raises `RequestError` when it cannot be decoded."""
        key = content_id(data)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = measure(decode_image(data, number))
        with self._lock:
            self._known[key] = found
            while len(self._known) > _REMEMBERED_IMAGES:
                self._known.popitem(last=False)
        return found


def noisy_value(settings: JudgeSettings, quality: float, slot: int, *content: str | int | bytes) -> float:
    """clip(1 + 4 quality + noise + bias of the slot, 1, 5), with noise fixed by seed, slot and content."""
    bias = settings.position_bias[slot] if slot < len(settings.position_bias) else 0.0
    place = min(max(uniform_from(settings.seed, "judge-noise", slot, *content), 1e-12), 1 - 1e-12)
    return min(5.0, max(1.0, continuous_level(quality) + settings.noise * NormalDist().inv_cdf(place) + bias))


def noisy_level(settings: JudgeSettings, quality: float, slot: int, *content: str | int | bytes) -> int:
    """The level nearest to `noisy_value`."""
    return to_level(noisy_value(settings, quality, slot, *content))


class _Mind:
    """What the judge makes of the images of one request, in one answer to it."""

    def __init__(
        self, settings: JudgeSettings, request: JudgeRequest, opinions: list[dict[str, Opinion]], answer: int
    ) -> None:
        self._settings, self._request, self._opinions, self._answer = settings, request, opinions, answer

    def _value(self, slot: int, aspect: str) -> float:
        """1 to 5, not rounded."""
        quality, model = self._opinions[slot][aspect].quality, self._request.model
        content = (self._request.images[slot], self._request.prompt or "", aspect, self._answer)
        if model == "shapeworld-judge":
            return noisy_value(self._settings, quality, slot, *content)
        further = self._settings.models.get(model)
        if further is None:
            return continuous_level(quality)
        own = self._settings.model_copy(update={"noise": further.noise, "position_bias": further.position_bias})
        return noisy_value(own, quality, slot, *content, model)

    def _levels(self) -> dict[str, dict[str, dict[str, Any]]]:
        said: dict[str, dict[str, dict[str, Any]]] = {}
        for slot, (key, fields) in enumerate(self._request.asked.slots):
            said[key] = {}
            for field in fields:
                level = to_level(self._value(slot, field.aspect))
                words = self._opinions[slot][field.aspect].rationale
                values = {"rationale": words, "level": field.choices[level - 1]}
                said[key][field.aspect] = {name: values[name] for name in field.fields}
        return said

    def _choices(self) -> dict[str, dict[str, str]]:
        said = {}
        for field in self._request.asked.choices:
            difference = self._value(0, field.aspect) - self._value(1, field.aspect)
            better = BETTER[1] if abs(difference) < _TIE_LEVELS else BETTER[0] if difference > 0 else BETTER[2]
            words = (f"image_{slot + 1}: {self._opinions[slot][field.aspect].rationale}" for slot in (0, 1))
            values = {"rationale": " ".join(words), "better": better}
            said[field.aspect] = {name: values[name] for name in field.fields}
        return said

    def content(self) -> str:
        """The answer as JSON, in the asked schema."""
        return json.dumps(self._choices() if self._request.asked.choices else self._levels())


def _choice(index: int, content: str | None, refusal: str | None = None, finish_reason: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {"index": index, "message": message, "finish_reason": finish_reason, "logprobs": None}


def one_choice(index: int, content: str, fault: Fault | None, most_tokens: int | None = None) -> dict[str, Any]:
    """A choice of a completion with this content, or with what a fault makes of it."""
    if fault == Fault.REFUSED:
        return _choice(index, None, refusal="I'm sorry, I cannot help with that.")
    if fault == Fault.CONTENT_FILTERED:
        return _choice(index, None, finish_reason="content_filter")
    if fault == Fault.MALFORMED:
        return _choice(index, malform(content))
    if fault == Fault.TRUNCATED:
        return _choice(index, cut_short(content), finish_reason="length")
    if most_tokens is not None and text_tokens(content) > most_tokens:
        return _choice(index, content[: 4 * most_tokens], finish_reason="length")
    return _choice(index, content)


def canned_reply(body: dict[str, Any], request_tokens: int, fault: Fault | None, created: int) -> dict[str, Any]:
    """A `chat.completion` object with the middle level, or a tie, for all that is asked; images are not opened."""
    values = {"rationale": "A canned answer.", "better": BETTER[1]}
    asked = read_schema(body.get("response_format"))
    answer: dict[str, Any] = {
        key: {
            field.aspect: {name: values.get(name, field.choices[len(field.choices) // 2]) for name in field.fields}
            for field in fields
        }
        for key, fields in asked.slots
    }
    answer |= {field.aspect: {name: values[name] for name in field.fields} for field in asked.choices}
    choice = one_choice(0, json.dumps(answer), fault)
    return completion_of(str(body.get("model")), [choice], request_tokens, created, content_id("canned", created))


def reply_to(
    settings: JudgeSettings,
    request: JudgeRequest,
    images: MeasuredImages,
    fault: Fault | None,
    created: int,
    repeat: int = 0,
) -> dict[str, Any]:
    """The `chat.completion` object that answers a request; raises `RequestError` for an image that cannot be decoded.

    `repeat` says how often the same was asked before: each time there is other noise, as among the answers to `n`.
    A prompt outside the grammar is refused, since the judge could not tell what is asked for; where prompt-following
    is not asked, the prompt does not matter.
    """
    seen = [images.measure(data, number + 1) for number, data in enumerate(request.images)]
    scene: Scene | None = None
    refusal: str | None = None
    if "prompt_following" in request.asked.aspects:
        try:
            scene = parse_prompt(request.prompt or "")
        except InputError as error:
            refusal = f"I cannot judge prompt-following: {error}"
    if refusal is not None:
        choices = [_choice(index, None, refusal=refusal) for index in range(request.choices)]
    else:
        opinions = [opinions_on(measurement, scene) for measurement in seen]
        choices = [
            one_choice(
                index,
                _Mind(settings, request, opinions, MAX_CHOICES * repeat + index).content(),
                fault,
                request.max_reply_tokens,
            )
            for index in range(request.choices)
        ]
    said = [choice["message"]["content"] or choice["message"]["refusal"] or "" for choice in choices]
    name = content_id(*request.images, request.prompt or "", request.model, *said)
    return completion_of(request.model, choices, request.request_tokens, created, name)


def completion_of(
    model: str, choices: list[dict[str, Any]], request_tokens: int, created: int, name: str
) -> dict[str, Any]:
    """A `chat.completion` object."""
    said = [choice["message"]["content"] or choice["message"]["refusal"] or "" for choice in choices]
    reply_tokens = sum(map(text_tokens, said))
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": choices,
        "usage": {
            "prompt_tokens": request_tokens,
            "completion_tokens": reply_tokens,
            "total_tokens": request_tokens + reply_tokens,
        },
    }
