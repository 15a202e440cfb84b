"""Encoded images of a request as pixels, within limits that are checked before a pixel is decoded."""

from __future__ import annotations

import binascii
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vp_ray.reward.config import ServiceLimits
from vp_ray.reward.failures import Kind, ServiceError

FORMATS: Final = ("PNG", "JPEG", "WEBP")
_DATA_URL: Final = re.compile(r"data:image/[a-z+.-]+;base64,")


@dataclass(slots=True)
class _Budget:
    """Pixels that the request may still decode."""

    left: float


def decoded(encoded: Iterable[bytes | str], limits: ServiceLimits) -> Iterator[NDArray[np.uint8] | ServiceError]:
    """For each image, given as a file's bytes or as base64, its (H, W, 3) uint8 RGB pixels or why there are none."""
    budget = _Budget(limits.request_megapixels * 1e6)
    for item in encoded:
        try:
            yield _decoded(item, limits, budget)
        except ServiceError as failure:
            yield failure


def _decoded(item: bytes | str, limits: ServiceLimits, budget: _Budget) -> NDArray[np.uint8]:
    try:
        data = _plain(item) if isinstance(item, str) else item
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.width, image.height, limits, budget)
            pixels: NDArray[np.uint8] = np.asarray(image.convert("RGB"))
            return pixels
    except UnidentifiedImageError:
        raise _unreadable("it is no PNG, JPEG or WebP file") from None
    except Image.DecompressionBombError:
        raise _too_large("the image has more pixels than any reader should decode") from None
    except (binascii.Error, OSError, ValueError, SyntaxError) as error:
        raise _unreadable(str(error) or type(error).__name__) from None


def _plain(text: str) -> bytes:
    match = _DATA_URL.match(text, 0, 64)
    return binascii.a2b_base64(text[match.end() :] if match else text, strict_mode=True)


def _unreadable(reason: str) -> ServiceError:
    problem = f"the image cannot be read ({reason.rstrip('.')})"
    return ServiceError(Kind.UNREADABLE_IMAGE, problem, "Send a whole PNG, JPEG or WebP file.")


def _check_size(width: int, height: int, limits: ServiceLimits, budget: _Budget) -> None:
    size = f"{width} x {height} pixels"
    if max(width, height) > limits.image_side:
        raise _too_large(f"the image has {size}, and {limits.image_side} is the longest side")
    if width * height > limits.image_megapixels * 1e6:
        raise _too_large(f"the image has {size}, and {limits.image_megapixels:g} million are the most")
    if width * height > budget.left:
        raise _too_large(f"the request's images have more than {limits.request_megapixels:g} million pixels together")
    budget.left -= width * height


def _too_large(problem: str) -> ServiceError:
    return ServiceError(Kind.IMAGE_TOO_LARGE, problem, "Scale it down, or send it in a request of its own.")
