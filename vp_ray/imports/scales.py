"""Ratings of other scales as levels of 1 to 5, and times in whatever form."""

from __future__ import annotations

import datetime
import math
from typing import Any


def level_on(value: float, low: float, high: float) -> float:
    """1 for `low`, 5 for `high` and in proportion between; raises `ValueError` for what is not on the scale."""
    if not math.isfinite(value) or not low - 1e-6 <= value <= high + 1e-6:
        raise ValueError(f"the rating {value} is not between {low:g} and {high:g}; set import.scale")
    return 1 + 4 * (value - low) / (high - low)


def seconds_of(value: Any) -> float | None:
    """Seconds since 1970 of a number, a date or its text in ISO 8601 (UTC unless it says otherwise); None of nothing.

    Raises `ValueError` for a text that is neither.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            value = datetime.datetime.fromisoformat(value)
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=value.tzinfo or datetime.UTC).timestamp()
    return float(value)
