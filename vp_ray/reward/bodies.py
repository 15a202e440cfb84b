"""Bodies of `POST /v1/score`, as JSON or as a multipart form, as one checked request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vp_ray.reward.config import ServiceLimits
from vp_ray.reward.failures import Kind, ServiceError

_KEYS: Final = ("images", "prompts", "aspects", "model")
_DISPOSITION: Final = re.compile(
    rb'^content-disposition:[^\r\n]*?[; \t]name="([^"\r\n]*)"', re.IGNORECASE | re.MULTILINE
)
_BOUNDARY: Final = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What is asked: B encoded images, one prompt for each, the columns to answer with (all when None), a model."""

    images: tuple[bytes | str, ...]
    """Bytes are a file, text is its base64."""
    prompts: tuple[str, ...]
    aspects: tuple[str, ...] | None
    model: str | None


def read_body(content_type: str, body: bytes, limits: ServiceLimits) -> ScoreRequest:
    """The request in a body; raises `ServiceError` that says what is wrong with it as a whole."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return _from_json(body, limits)
    if kind == "multipart/form-data":
        return _from_form(content_type, body, limits)
    raise ServiceError(
        Kind.UNSUPPORTED_MEDIA_TYPE,
        f"the body is '{kind[:80]}'",
        "Send application/json or multipart/form-data, and say so in Content-Type.",
    )


def _from_json(body: bytes, limits: ServiceLimits) -> ScoreRequest:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = error.args[0] if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise _invalid(f"the body is no JSON ({str(reason)[:200]})") from None
    if not isinstance(values, Mapping):
        raise _invalid("the body is no JSON object")
    unknown = [key for key in values if key not in _KEYS]
    if unknown:
        raise _invalid(f"there is no key '{unknown[0][:80]}'", f"These are known: {', '.join(_KEYS)}.")
    images, prompts = _texts(values, "images"), _texts(values, "prompts")
    if images is None or prompts is None:
        raise _invalid("'images' and 'prompts' are needed", 'Send {"images": [base64], "prompts": [text]}.')
    model = values.get("model")
    if model is not None and not isinstance(model, str):
        raise _invalid("'model' is no text")
    return _checked(images, prompts, _texts(values, "aspects"), model, limits)


def _texts(values: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    found = values.get(key)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise _invalid(f"'{key}' is no list of texts")
    return tuple(found)


def _from_form(content_type: str, body: bytes, limits: ServiceLimits) -> ScoreRequest:
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise _invalid("the form names no boundary")
    fields: dict[str, list[bytes]] = {}
    most = 2 * limits.images + 64
    for count, (name, data) in enumerate(form_parts(body, (match[1] or match[2]).encode("latin-1", "replace"))):
        if name not in _KEYS:
            raise _invalid(f"there is no field '{name[:80]}'", f"These are known: {', '.join(_KEYS)}.")
        if count >= most:
            raise ServiceError(Kind.TOO_LARGE, f"the form has more than {most} parts", "Send several requests.")
        fields.setdefault(name, []).append(data)
    images, prompts = tuple(fields.get("images", ())), _fields(fields, "prompts")
    models = _fields(fields, "model")
    if len(models) > 1:
        raise _invalid("the form names several models", "Send one request a model.")
    aspects = _fields(fields, "aspects") if "aspects" in fields else None
    return _checked(images, prompts, aspects, models[0] if models else None, limits)


def _fields(fields: Mapping[str, Sequence[bytes]], name: str) -> tuple[str, ...]:
    try:
        return tuple(value.decode("utf-8") for value in fields.get(name, ()))
    except UnicodeDecodeError:
        raise _invalid(f"'{name}' is not UTF-8") from None


def form_parts(body: bytes, boundary: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each part of a multipart form (RFC 7578), in order; raises `ServiceError` for others."""
    mark = b"\r\n--" + boundary
    text = b"\r\n" + body
    place = text.find(mark)
    while place >= 0:
        start = place + len(mark)
        if text[start : start + 2] == b"--":
            return
        head = text.find(b"\r\n\r\n", start)
        place = text.find(mark, max(head, start))
        name = _DISPOSITION.search(text, start, head) if head >= 0 else None
        if place < 0 or name is None:
            break
        yield name[1].decode("utf-8", "replace"), text[head + 4 : place]
    raise _invalid("the multipart form is broken or cut off")


def _checked(
    images: tuple[bytes | str, ...],
    prompts: tuple[str, ...],
    aspects: tuple[str, ...] | None,
    model: str | None,
    limits: ServiceLimits,
) -> ScoreRequest:
    if not images:
        raise _invalid("there is no image", "Give at least one in 'images'.")
    if len(images) > limits.images:
        problem = f"the request has {len(images)} images, and {limits.images} are the most"
        raise ServiceError(Kind.TOO_LARGE, problem, "Send several requests.")
    if len(prompts) not in (1, len(images)):
        raise _invalid(f"{len(prompts)} prompts do not fit {len(images)} images", "Give one for all, or one for each.")
    if aspects is not None and not aspects:
        raise _invalid("'aspects' is empty", "Leave it out for all.")
    return ScoreRequest(images, prompts * (len(images) // len(prompts)), aspects, model)


def prompt_failure(prompt: str, limits: ServiceLimits) -> ServiceError | None:
    """Why a prompt is not read, if so."""
    if len(prompt) <= limits.prompt_characters:
        return None
    problem = f"the prompt has {len(prompt)} characters, and {limits.prompt_characters} are the most"
    return ServiceError(Kind.PROMPT_TOO_LONG, problem, "Shorten it.")


def _invalid(problem: str, remedy: str = "See /docs.") -> ServiceError:
    return ServiceError(Kind.INVALID_REQUEST, problem, remedy)
