"""A VP-Score that answers many requests at once; each request succeeds or fails alone."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from vp_ray.errors import InputError, RewardError, VpRayError
from vp_ray.models.reward import VPScore
from vp_ray.models.reward_inputs import check_batch
from vp_ray.models.rewards import check_scores
from vp_ray.protocols import Pixels, Scores

Request = tuple[Pixels, Sequence[str]]

MAX_PIXELS: Final = 16_000_000
"""Larger pictures are refused before they are decoded."""
MAX_ITEMS: Final = 1024


def score_requests(model: VPScore, requests: Sequence[Request]) -> list[Scores | VpRayError]:
    """For each request its (B, A) scores, or the error that this request alone made; one pass scores all of them."""
    answers: list[Scores | VpRayError | None] = []
    for images, prompts in requests:
        try:
            check_batch(images, prompts)
            answers.append(None)
        except InputError as error:
            answers.append(error)
    good = [request for request, answer in zip(requests, answers, strict=True) if answer is None]
    if good:
        pixels = np.concatenate([model.preparation.fit_images(images) for images, _ in good])
        scores = model.score(pixels, [prompt for _, prompts in good for prompt in prompts])
        parts = iter(np.split(scores, np.cumsum([len(images) for images, _ in good])[:-1]))
        answers = [_finite(next(parts), model) if answer is None else answer for answer in answers]
    return [answer for answer in answers if answer is not None]


def _finite(scores: Scores, model: VPScore) -> Scores | VpRayError:
    try:
        return check_scores(scores, len(scores), model.aspects)
    except RewardError as error:
        return error


def read_items(body: Any) -> list[Request | InputError]:
    """The items of `{"items": [{"image": base64 of a PNG, JPEG or WebP file, "prompt": text}, ...]}`, one request each.

    An item that cannot be read becomes its error; raises `InputError` when the body itself cannot be read.
    """
    items = body.get("items") if isinstance(body, Mapping) else None
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
        raise InputError(f"the body has no list 'items' of 1 to {MAX_ITEMS}", 'Send {"items": [{"image", "prompt"}]}.')
    return [_item(item) for item in items]


def _item(item: Any) -> Request | InputError:
    try:
        if not isinstance(item, Mapping) or not all(isinstance(item.get(key), str) for key in ("image", "prompt")):
            return InputError("an item needs the texts 'image' and 'prompt'", "Give the image as base64.")
        with Image.open(io.BytesIO(base64.b64decode(item["image"], validate=True))) as image:
            if image.width * image.height > MAX_PIXELS:
                return InputError(f"the image has {image.width} x {image.height} pixels", "Scale it down first.")
            return np.asarray(image.convert("RGB"))[None], (item["prompt"],)
    except (binascii.Error, UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        return InputError(f"the image cannot be read ({error})", "Send a PNG, JPEG or WebP file as base64.")


def as_json(model: VPScore, answer: Scores | VpRayError) -> dict[str, Any]:
    """`{"scores": {aspect: number}, "overall": number}`, or `{"error": {"type", "message"}}`."""
    if isinstance(answer, VpRayError):
        return {"error": {"type": type(answer).__name__, "message": str(answer)}}
    named = {aspect: float(value) for aspect, value in zip(model.aspects, answer[0], strict=True)}
    return {"scores": named, "overall": float(model.overall(answer)[0])}
