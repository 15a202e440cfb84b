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
from vp_ray.judging.schemas import ALL_AT_ONCE, Asked, answer_schema

_PART_TOKENS: Final = 12
"""Tokens of the words and marks around each image and around the prompt."""


@dataclass(frozen=True, slots=True)
class Question:
    """Images in one order, to be judged by one annotator under one rubric, in one request."""

    judgement_id: str
    prompt_id: str
    prompt: str
    image_ids: tuple[str, ...]
    """In the order shown."""
    images: tuple[bytes, ...]
    """Encoded pictures, in the order shown."""
    asked: Asked = ALL_AT_ONCE
    sample: int = 0
    """Which of several answers to the same request this is."""


def judgement_id(
    annotator: AnnotatorSettings,
    rubric: Rubric,
    prompt_id: str,
    order: Sequence[str],
    asked: Asked = ALL_AT_ONCE,
    sample: int = 0,
) -> str:
    """Names one answer by what it depends on: annotator, model, rubric, prompt, order, what is asked and sample."""
    about = (asked.mode, *asked.aspects, f"apart={asked.apart}", f"prompt={asked.with_prompt}", f"sample={sample}")
    return content_id("judgement", annotator.name, annotator.model, rubric.version, prompt_id, *order, *about)


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
    """The request for a question, with what stays the same in front, so that it can be cached.

    All aspects at once: rubric, images, and the prompt as data. An aspect of its own: task and rules, images, the
    prompt where it is shown, and the aspect's guideline, so that the requests about other aspects of the same images
    begin alike.
    """
    asked = question.asked
    first = rubric.preface(asked.mode) if asked.apart else rubric.text(asked.mode, asked.aspects)
    parts: list[dict[str, Any]] = [_text(first)]
    tokens = 0
    for place, data in enumerate(question.images, start=1):
        sent, width, height = fitted(data, settings)
        url = f"data:image/{settings.image_format};base64,{base64.b64encode(sent).decode()}"
        parts += [
            _text(f"image_{place}:"),
            {"type": "image_url", "image_url": {"url": url, "detail": settings.detail}},
        ]
        own = settings.image_tokens
        tokens += image_tokens(settings.model, width, height, settings.detail) if own is None else own
    if asked.with_prompt:
        parts.append(_text(f"<prompt>{escaped(question.prompt)}</prompt>"))
    if asked.apart:
        parts.append(_text(rubric.guide(asked.aspects)))
    tokens += text_tokens(first) + _PART_TOKENS * len(question.images)
    tokens += text_tokens(question.prompt) + _PART_TOKENS if asked.with_prompt else 0
    tokens += text_tokens(rubric.guide(asked.aspects)) if asked.apart else 0
    schema = answer_schema(rubric, len(question.images), asked)
    return Message(
        messages=[{"role": "user", "content": parts}],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "judgement", "strict": True, "schema": schema},
        },
        tokens=tokens,
    )


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
