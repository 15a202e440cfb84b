"""Axes of charts: round ticks, and values to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from vp_ray.report.formatting import number

_MOST_DIGITS: Final = 3
"""Smaller steps are labelled with a power of ten, since they would not fit."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: what lies at which pixel, and where its ticks stand."""

    low: float
    high: float
    ticks: tuple[float, ...]
    digits: int
    """Digits after the point that tell the ticks apart."""
    first_pixel: float
    last_pixel: float

    def at(self, value: float) -> float:
        """The pixel of a value."""
        return self.first_pixel + (value - self.low) / (self.high - self.low) * (self.last_pixel - self.first_pixel)

    def label(self, value: float) -> str:
        """A tick's text."""
        if self.digits <= _MOST_DIGITS or value == 0:
            return number(value, min(self.digits, _MOST_DIGITS) if value else 0)
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return number(float(mantissa), 1) + f"e{number(int(exponent), 0)}"


def axis(values: list[float], pixels: tuple[float, float], *, count: int = 4, whole: bool = False) -> Axis:
    """An axis over all finite values with about `count` round ticks, widened to reach its outermost ones.

    `whole` keeps the ticks at whole numbers and the ends where the values end. Equal values get some room around them.
    """
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.1
        low, high = (low - room, high + room) if room else (0.0, 1.0)
    step = _round_step((high - low) / count)
    if whole:
        step = max(1.0, math.ceil(step))
        first = math.ceil(low / step)
        ticks = [n * step for n in range(first, math.floor(high / step) + 1)]
        return Axis(low, high, tuple(ticks), 0, *pixels)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [n * step for n in range(first, last + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step * 10**digits, 6) != round(step * 10**digits):
        digits += 1
    return Axis(ticks[0], ticks[-1], tuple(ticks), digits, *pixels)


def _round_step(raw: float) -> float:
    """The nearest of 1, 2, 2.5 and 5 times a power of ten that is not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= raw * (1 - 1e-9))
