"""What an answer's headers say of the server's limits: what they are, and how long to wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final


def stated_limits(headers: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Requests and tokens a minute that the server states as its limits; None where it states none."""

    def number(name: str) -> float | None:
        text = headers.get(name, "")
        return float(text) if text.isdigit() else None

    return number("x-ratelimit-limit-requests"), number("x-ratelimit-limit-tokens")


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Seconds to wait, from retry-after-ms, retry-after (seconds or a date) or the reset of a limit that is used up."""
    milliseconds, after = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", milliseconds):
        return float(milliseconds) / 1000.0
    if re.fullmatch(r"\d+(\.\d+)?", after):
        return float(after)
    if after:
        try:
            return max(0.0, (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds())
        except (TypeError, ValueError):
            return 0.0
    used_up = [kind for kind in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{kind}") == "0"]
    return max((duration_seconds(headers.get(f"x-ratelimit-reset-{kind}", "")) for kind in used_up), default=0.0)


_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_seconds(text: str) -> float:
    """Seconds of a duration as rate-limit headers write it: `120ms`, `1s`, `6m0s`, `1h2m3.5s`; 0 for anything else."""
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", text):
        return 0.0
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
