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
from vp_ray.shapeworld.judge_requests import JudgeRequest, decode_image, text_tokens
from vp_ray.shapeworld.judge_schema import read_schema
from vp_ray.shapeworld.judgement import Opinion, continuous_level, opinions_on, to_level
from vp_ray.shapeworld.measure import Measurement, measure
from vp_ray.shapeworld.scenes import Scene, parse_prompt

_REMEMBERED_IMAGES: Final = 8192


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


def noisy_level(settings: JudgeSettings, quality: float, slot: int, *content: str | int | bytes) -> int:
    """round(clip(1 + 4 quality + noise + bias of the slot, 1, 5)), with noise fixed by seed, slot and content."""
    bias = settings.position_bias[slot] if slot < len(settings.position_bias) else 0.0
    place = min(max(uniform_from(settings.seed, "judge-noise", slot, *content), 1e-12), 1 - 1e-12)
    return to_level(continuous_level(quality) + settings.noise * NormalDist().inv_cdf(place) + bias)


def _content(settings: JudgeSettings, request: JudgeRequest, opinions: list[dict[str, Opinion]], choice: int) -> str:
    answer: dict[str, dict[str, dict[str, Any]]] = {}
    for slot, (key, fields) in enumerate(request.slots):
        answer[key] = {}
        for field in fields:
            opinion = opinions[slot][field.aspect]
            level = opinion.level
            if request.model == "shapeworld-judge":
                content = (request.images[slot], request.prompt or "", field.aspect, choice)
                level = noisy_level(settings, opinion.quality, slot, *content)
            values = {"rationale": opinion.rationale, "level": field.choices[level - 1]}
            answer[key][field.aspect] = {name: values[name] for name in field.fields}
    return json.dumps(answer)


def _choice(index: int, content: str | None, refusal: str | None = None, finish_reason: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {"index": index, "message": message, "finish_reason": finish_reason, "logprobs": None}


def _one_choice(
    settings: JudgeSettings, request: JudgeRequest, opinions: list[dict[str, Opinion]], index: int, fault: Fault | None
) -> dict[str, Any]:
    if fault == Fault.REFUSED:
        return _choice(index, None, refusal="I'm sorry, I cannot help with judging these images.")
    if fault == Fault.CONTENT_FILTERED:
        return _choice(index, None, finish_reason="content_filter")
    content = _content(settings, request, opinions, index)
    if fault == Fault.MALFORMED:
        return _choice(index, malform(content))
    if fault == Fault.TRUNCATED:
        return _choice(index, cut_short(content), finish_reason="length")
    most = request.max_reply_tokens
    if most is not None and text_tokens(content) > most:
        return _choice(index, content[: 4 * most], finish_reason="length")
    return _choice(index, content)


def canned_reply(body: dict[str, Any], request_tokens: int, fault: Fault | None, created: int) -> dict[str, Any]:
    """A `chat.completion` object with the middle level for everything that the schema asks; images are not opened."""
    values = {"rationale": "A canned answer."}
    answer = {
        key: {
            field.aspect: {name: values.get(name, field.choices[len(field.choices) // 2]) for name in field.fields}
            for field in fields
        }
        for key, fields in read_schema(body.get("response_format"))
    }
    content = json.dumps(answer)
    choice = _choice(0, content)
    if fault == Fault.REFUSED:
        choice = _choice(0, None, refusal="I'm sorry, I cannot help with judging these images.")
    elif fault == Fault.CONTENT_FILTERED:
        choice = _choice(0, None, finish_reason="content_filter")
    elif fault == Fault.MALFORMED:
        choice = _choice(0, malform(content))
    elif fault == Fault.TRUNCATED:
        choice = _choice(0, cut_short(content), finish_reason="length")
    return _completion(str(body.get("model")), [choice], request_tokens, created, content_id("canned", created))


def reply_to(
    settings: JudgeSettings, request: JudgeRequest, images: MeasuredImages, fault: Fault | None, created: int
) -> dict[str, Any]:
    """The `chat.completion` object that answers a request; raises `RequestError` for an image that cannot be decoded.

    A prompt outside the grammar is refused, since the judge could not tell what is asked for; where prompt-following
    is not asked, the prompt does not matter.
    """
    seen = [images.measure(data, number + 1) for number, data in enumerate(request.images)]
    asked = {field.aspect for _, fields in request.slots for field in fields}
    scene: Scene | None = None
    refusal: str | None = None
    if "prompt_following" in asked:
        try:
            scene = parse_prompt(request.prompt or "")
        except InputError as error:
            refusal = f"I cannot judge prompt-following: {error}"
    if refusal is not None:
        choices = [_choice(index, None, refusal=refusal) for index in range(request.choices)]
    else:
        opinions = [opinions_on(measurement, scene) for measurement in seen]
        choices = [_one_choice(settings, request, opinions, index, fault) for index in range(request.choices)]
    said = [choice["message"]["content"] or choice["message"]["refusal"] or "" for choice in choices]
    name = content_id(*request.images, request.prompt or "", request.model, *said)
    return _completion(request.model, choices, request.request_tokens, created, name)


def _completion(
    model: str, choices: list[dict[str, Any]], request_tokens: int, created: int, name: str
) -> dict[str, Any]:
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
