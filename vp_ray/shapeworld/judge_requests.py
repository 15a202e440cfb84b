"""What a chat request asks of the judge: the images, the prompt in its tags, and the schema of the answer."""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from xml.sax.saxutils import unescape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vp_ray.shapeworld.config import JudgeModelSettings
from vp_ray.shapeworld.judge_errors import RequestError
from vp_ray.shapeworld.judge_schema import AskedFor, read_schema

MODELS: Final = ("shapeworld-judge", "shapeworld-oracle")
"""The noisy judge and the noise-free one."""

MAX_IMAGE_BYTES: Final = 8 * 1024 * 1024
MAX_IMAGE_SIDE: Final = 4096
MAX_CHOICES: Final = 16
IMAGE_TOKENS: Final = 85

_PROMPT: Final = re.compile(r"<prompt>(.*?)</prompt>", re.DOTALL)
_DATA_URL: Final = re.compile(r"data:image/(?:png|jpeg|jpg);base64,(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """One request, understood. The images are still encoded."""

    model: str
    prompt: str | None
    images: tuple[bytes, ...]
    asked: AskedFor
    """What the answer holds."""
    choices: int
    """How many answers are wanted."""
    request_tokens: int
    max_reply_tokens: int | None


def text_tokens(text: str) -> int:
    """Tokens of a text, at four characters each."""
    return math.ceil(len(text) / 4)


def _parts(messages: Any) -> tuple[list[str], list[str]]:
    """All texts and the URLs of all images of a message list, in their order."""
    texts: list[str] = []
    urls: list[str] = []
    if not isinstance(messages, list) or not messages:
        raise RequestError("'messages' must be a list that is not empty", "invalid_messages", "messages")
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content or []:
            match part:
                case {"type": "text", "text": str(text)}:
                    texts.append(text)
                case {"type": "image_url", "image_url": {"url": str(url)}}:
                    urls.append(url)
                case _:
                    raise RequestError("A content part is neither text nor image_url", "invalid_content", "messages")
    return texts, urls


def _image_bytes(url: str, number: int) -> bytes:
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise RequestError(
            f"Image {number} is not a data URL of a PNG or JPEG image; the judge fetches nothing",
            "invalid_image_url",
            "messages",
        )
    if len(match[1]) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise RequestError(f"Image {number} is larger than {MAX_IMAGE_BYTES} bytes", "image_too_large", "messages")
    try:
        return base64.b64decode(match[1], validate=True)
    except binascii.Error:
        raise RequestError(f"Image {number} is not valid base64", "invalid_image", "messages") from None


def decode_image(data: bytes, number: int) -> NDArray[np.uint8]:
    """(H, W, 3) pixels of PNG or JPEG bytes; raises `RequestError` for what is broken or too large to decode."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if max(image.size) > MAX_IMAGE_SIDE:
                raise RequestError(
                    f"Image {number} has {image.width} x {image.height} pixels, more than {MAX_IMAGE_SIDE} a side",
                    "image_too_large",
                    "messages",
                )
            return np.asarray(image.convert("RGB"), np.uint8)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise RequestError(f"Image {number} cannot be decoded", "invalid_image", "messages") from None


def _count(body: dict[str, Any], name: str, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise RequestError(f"'{name}' must be a whole number of 1 to {most}", "invalid_value", name)
    return value


def sent_tokens(body: dict[str, Any]) -> int:
    """Tokens of a request's texts and images; raises `RequestError` for messages that cannot be read."""
    texts, urls = _parts(body.get("messages"))
    return sum(map(text_tokens, texts)) + IMAGE_TOKENS * len(urls)


def reserved_tokens(body: Any) -> int:
    """What a request counts for against the limit: its own tokens and the most that it lets the reply have.

    Raises `RequestError` for messages that cannot be read.
    """
    if not isinstance(body, dict):
        raise RequestError("The body is not a JSON object", "invalid_json")
    reply = _count(body, "max_completion_tokens", 1 << 20) or _count(body, "max_tokens", 1 << 20) or 0
    return sent_tokens(body) + reply


def _marked(texts: list[str]) -> list[str]:
    return [match[1] for text in texts for match in _PROMPT.finditer(text)]


def prompts_in(body: dict[str, Any]) -> list[str]:
    """The escaped prompts that stand in tags in the texts of a request."""
    return _marked(_parts(body.get("messages"))[0])


def _image_tokens(data: bytes, number: int, patch_pixels: int | None) -> int:
    """Tokens of an encoded image: a constant, or one for each square of `patch_pixels`."""
    if patch_pixels is None:
        return IMAGE_TOKENS
    height, width, _ = decode_image(data, number).shape
    return math.ceil(width / patch_pixels) * math.ceil(height / patch_pixels)


def read_request(body: Any, further: Mapping[str, JudgeModelSettings] = MappingProxyType({})) -> JudgeRequest:
    """The request that a JSON body makes of the judge's own or `further` models; raises `RequestError` for what the
    judge cannot answer."""
    if not isinstance(body, dict):
        raise RequestError("The body is not a JSON object", "invalid_json")
    model = body.get("model")
    known = (*MODELS, *further)
    if model not in known:
        raise RequestError(f"The model '{model}' does not exist: {', '.join(known)}", "model_not_found", "model", 404)
    if body.get("stream"):
        raise RequestError("The judge does not stream", "unsupported_value", "stream")
    texts, urls = _parts(body.get("messages"))
    asked = read_schema(body.get("response_format"))
    if asked.images != len(urls):
        raise RequestError(
            f"The message has {len(urls)} images and the schema asks for {asked.images}", "images_mismatch", "messages"
        )
    marked = _marked(texts)
    if not marked and "prompt_following" in asked.aspects:
        raise RequestError("No text part holds <prompt>...</prompt>", "prompt_missing", "messages")
    images = tuple(_image_bytes(url, number + 1) for number, url in enumerate(urls))
    patch = further[model].patch_pixels if model in further else None
    return JudgeRequest(
        model=str(model),
        prompt=unescape(marked[-1]) if marked else None,
        images=images,
        asked=asked,
        choices=_count(body, "n", MAX_CHOICES) or 1,
        request_tokens=sum(map(text_tokens, texts))
        + sum(_image_tokens(data, number + 1, patch) for number, data in enumerate(images)),
        max_reply_tokens=_count(body, "max_completion_tokens", 1 << 20) or _count(body, "max_tokens", 1 << 20),
    )
