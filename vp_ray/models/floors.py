"""Scorers that know nothing of the prompt; a reward model that does not beat them has learnt nothing of use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from vp_ray.maths.pictures import sharpness
from vp_ray.pictures import decode_image

FLOORS: Final[Mapping[str, Callable[[bytes], float]]] = {
    "sharpness": lambda data: sharpness(decode_image(data)),
    "file_bytes": lambda data: float(len(data)),
}
"""By name a number of an encoded image."""
