"""What is sent to an annotator: one user message with rubric, images and prompt, and the schema of the answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from vp_ray.errors import InputError
from vp_ray.ids import content_id
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.image_tokens import image_tokens, text_tokens
from vp_ray.judging.rubric import Rubric

_PART_TOKENS: Final = 12
"""Tokens of the words and marks around each image and around the prompt."""


@dataclass(frozen=True, slots=True)
class Question:
    """One group in one order, to be judged by one annotator under one rubric."""

    judgement_id: str
    prompt_id: str
    prompt: str
    image_ids: tuple[str, ...]
    """In the order shown."""
    images: tuple[bytes, ...]
    """Encoded pictures, in the order shown."""


def judgement_id(annotator: AnnotatorSettings, rubric: Rubric, prompt_id: str, order: Sequence[str]) -> str:
    """Names one answer by what it depends on: annotator, model, rubric, prompt and order."""
    return content_id("judgement", annotator.name, annotator.model, rubric.version, prompt_id, *order)


def answer_schema(rubric: Rubric, images: int) -> dict[str, Any]:
    """The strict JSON schema of an answer about so many images.

    Fixed keys and enums only, since backends disagree on arrays and ranges; the rationale comes before the level,
    so that it can inform it.
    """

    def closed(properties: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    level = {"type": "string", "enum": list(rubric.levels)}
    opinion = closed({"rationale": {"type": "string"}, "level": level})
    picture = closed(dict.fromkeys(rubric.aspects, opinion))
    return closed({f"image_{place}": picture for place in range(1, images + 1)})


def escaped(prompt: str) -> str:
    """A prompt that cannot close the tag it stands in."""
    return prompt.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def fitted(data: bytes, settings: AnnotatorSettings) -> tuple[bytes, int, int]:
    """An image as it is sent, with its width and height: shrunk where it is too large, unchanged where it fits.

    Raises `InputError` for bytes that are no picture.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            kind, (width, height) = opened.format, opened.size
            scale = settings.image_side_pixels / max(width, height)
            if scale >= 1 and kind == settings.image_format.upper():
                opened.verify()
                return data, width, height
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"this is not a readable image ({error})", "Generate or import it again.") from None
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if settings.image_format == "png":
        picture.save(buffer, "PNG", compress_level=1)
    else:
        picture.save(buffer, "JPEG", quality=settings.jpeg_quality)
    return buffer.getvalue(), *picture.size


@dataclass(frozen=True, slots=True)
class Message:
    """A request's messages and how many tokens they are expected to be."""

    messages: list[dict[str, Any]]
    response_format: dict[str, Any]
    tokens: int


def message(question: Question, rubric: Rubric, settings: AnnotatorSettings) -> Message:
    """The request for a question: rubric first, so that it can be cached, then the images, then the prompt as data."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": rubric.text}]
    tokens = text_tokens(rubric.text) + text_tokens(question.prompt) + _PART_TOKENS
    for place, data in enumerate(question.images, start=1):
        sent, width, height = fitted(data, settings)
        url = f"data:image/{settings.image_format};base64,{base64.b64encode(sent).decode()}"
        parts += [
            {"type": "text", "text": f"image_{place}:"},
            {"type": "image_url", "image_url": {"url": url, "detail": settings.detail}},
        ]
        own = settings.image_tokens
        tokens += image_tokens(settings.model, width, height, settings.detail) if own is None else own
        tokens += _PART_TOKENS
    parts.append({"type": "text", "text": f"<prompt>{escaped(question.prompt)}</prompt>"})
    schema = {"name": "judgement", "strict": True, "schema": answer_schema(rubric, len(question.images))}
    return Message(
        messages=[{"role": "user", "content": parts}],
        response_format={"type": "json_schema", "json_schema": schema},
        tokens=tokens,
    )
