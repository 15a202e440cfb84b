"""Scores of image files, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vp_ray.errors import InputError
from vp_ray.models.reward import VPScore

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of a file; raises `InputError` when it is missing, broken or too large."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"the image has {image.width} x {image.height} pixels", "Scale it down first.", str(path)
                )
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise InputError("there is no such file", "Give the path of an image.", str(path)) from None
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InputError(
            f"this cannot be read as an image ({error})", "Give a PNG, JPEG or WebP file.", str(path)
        ) from None


def score_files(scorer: VPScore, paths: Sequence[Path], prompt: str) -> list[dict[str, Any]]:
    """One row a file: its name, a score an aspect, and overall."""
    rows = []
    for path in paths:
        scores = scorer.score(read_image(path)[None], [prompt])[0]
        named = {aspect: float(value) for aspect, value in zip(scorer.aspects, scores, strict=True)}
        rows.append({"image": str(path), **named, "overall": float(scorer.overall(scores[None])[0])})
    return rows
