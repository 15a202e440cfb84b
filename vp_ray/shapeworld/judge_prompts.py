"""What the judge says of prompts: a moderation by a list of words, and a polish that takes out what is wrong."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from xml.sax.saxutils import unescape

from vp_ray.ids import content_id
from vp_ray.shapeworld.judge_errors import RequestError
from vp_ray.shapeworld.judge_faults import Fault
from vp_ray.shapeworld.judge_replies import completion_of, one_choice
from vp_ray.shapeworld.judge_requests import MODELS, prompts_in, sent_tokens, text_tokens

MODERATION_MODELS: Final = ("shapeworld-moderation", "omni-moderation-latest")

_FLAGGED: Final = {
    "violence/graphic": ("gore", "mutilated", "dismembered"),
    "violence": ("bloody", "massacre", "murder"),
    "sexual": ("nude", "explicit"),
    "hate": ("subhuman",),
}
_CATEGORIES: Final = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm"),
    *("self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic"),
)
_BIASED: Final = ("typical", "normal-looking", "exotic")
_UNSAFE: Final = ("scary", "cruel")
_REPEATED: Final = re.compile(r"\b(\w+)( \1\b)+", re.IGNORECASE)
_POLISHED: Final = ("bias", "inconsistency", "unsafe", "prompt")
_REFUSED: Final = "unspeakable"


def _words(text: str) -> list[str]:
    return re.findall(r"[\w-]+", text.lower())


def moderation_of(body: Any) -> dict[str, Any]:
    """The answer to a body of `/v1/moderations`; raises `RequestError` for what is none."""
    if not isinstance(body, dict):
        raise RequestError("The body is not a JSON object", "invalid_json")
    model, asked = body.get("model") or MODERATION_MODELS[0], body.get("input")
    if model not in MODERATION_MODELS:
        raise RequestError(f"The model '{model}' does not exist", "model_not_found", "model", 404)
    texts = [asked] if isinstance(asked, str) else asked
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise RequestError("'input' must be a text or a list of texts", "invalid_value", "input")
    results = [_moderated(text) for text in texts]
    return {"id": f"modr-{content_id(*texts)}", "model": model, "results": results}


def _moderated(text: str) -> dict[str, Any]:
    words = set(_words(text))
    found = {name: any(word in words for word in _FLAGGED.get(name, ())) for name in _CATEGORIES}
    return {
        "flagged": any(found.values()),
        "categories": found,
        "category_scores": {name: 0.98 if there else 0.01 for name, there in found.items()},
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }


def moderation_tokens(body: Any) -> int:
    """What a body of `/v1/moderations` counts for against the limit on tokens."""
    return text_tokens(json.dumps(body.get("input") if isinstance(body, dict) else ""))


def asks_for_polish(body: Any) -> bool:
    """Whether a chat request wants a prompt made better and not images judged, by its schema."""
    wrapper = (body.get("response_format") or {}).get("json_schema") if isinstance(body, dict) else None
    schema = wrapper.get("schema") if isinstance(wrapper, dict) else None
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return isinstance(properties, dict) and set(properties) == set(_POLISHED)


def polish_reply(body: dict[str, Any], fault: Fault | None, created: int) -> dict[str, Any]:
    """The `chat.completion` object with a polished prompt; raises `RequestError` for a request without a prompt.

    Words that are biased or unsafe are left out, and words that stand twice are said once. A prompt with a certain word
    is refused.
    """
    if body.get("model") not in MODELS:
        raise RequestError(f"The model '{body.get('model')}' does not exist", "model_not_found", "model", 404)
    marked = prompts_in(body)
    if not marked:
        raise RequestError("No text part holds <prompt>...</prompt>", "prompt_missing", "messages")
    prompt = unescape(marked[-1])
    if _REFUSED in _words(prompt):
        fault = Fault.REFUSED
    single = _REPEATED.sub(r"\1", prompt)
    words = set(_words(prompt))
    kept = [word for word in single.split() if word.lower().strip(".,") not in (*_BIASED, *_UNSAFE)]
    answer = {
        "bias": "yes" if words & set(_BIASED) else "no",
        "inconsistency": "yes" if single != prompt else "no",
        "unsafe": "yes" if words & set(_UNSAFE) else "no",
        "prompt": " ".join(kept),
    }
    choice = one_choice(0, json.dumps(answer), fault)
    return completion_of(str(body["model"]), [choice], sent_tokens(body), created, content_id("polish", prompt))
