"""Rate limits as providers keep them: a request is let in or told how long to wait, with headers that say so."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vp_ray.shapeworld.config import JudgeSettings


class Limit(Protocol):
    """One limit on some amount; times are seconds of a clock that never goes back."""

    per_minute: int

    def wait_seconds(self, amount: int, now: float) -> float:
        """0 when the amount may come now, else seconds until it may, infinite if it never may; changes nothing."""
        ...

    def take(self, amount: int, now: float) -> None:
        """Counts an amount that was let in."""
        ...

    def remaining(self, now: float) -> int:
        """How much may come now."""
        ...

    def reset_seconds(self, now: float) -> float:
        """Seconds until all of the limit is free again."""
        ...


class SlidingWindow:
    """At most so much in any half-open window; the window is `burst_seconds`, made to hold a whole number."""

    def __init__(self, per_minute: int, burst_seconds: float) -> None:
        self.per_minute = per_minute
        self._capacity = max(1, math.floor(per_minute * burst_seconds / 60))
        self._seconds = self._capacity * 60 / per_minute
        self._taken: deque[tuple[float, int]] = deque()
        self._sum = 0

    def _forget(self, now: float) -> None:
        while self._taken and self._taken[0][0] + self._seconds <= now:
            self._sum -= self._taken.popleft()[1]

    def wait_seconds(self, amount: int, now: float) -> float:
        """Until enough of what was taken has left the window."""
        self._forget(now)
        if amount > self._capacity:
            return math.inf
        surplus = self._sum + amount - self._capacity
        if surplus <= 0:
            return 0.0
        for time, taken in self._taken:
            surplus -= taken
            if surplus <= 0:
                return time + self._seconds - now
        raise AssertionError("the window holds less than its sum")

    def take(self, amount: int, now: float) -> None:
        """Puts the amount into the window."""
        self._taken.append((now, amount))
        self._sum += amount

    def remaining(self, now: float) -> int:
        """What the window still has room for."""
        self._forget(now)
        return self._capacity - self._sum

    def reset_seconds(self, now: float) -> float:
        """Until the newest leaves the window."""
        self._forget(now)
        return self._taken[-1][0] + self._seconds - now if self._taken else 0.0


class Gcra:
    """The generic cell rate algorithm (ITU-T I.371): a bucket of `burst_seconds` of the rate that drains steadily."""

    def __init__(self, per_minute: int, burst_seconds: float) -> None:
        self.per_minute = per_minute
        self._interval = 60.0 / per_minute
        self._burst = max(burst_seconds, self._interval)
        self._arrival = -math.inf
        """The theoretical arrival time: when the bucket will be empty."""

    def wait_seconds(self, amount: int, now: float) -> float:
        """Until the bucket has drained enough to hold the amount."""
        if amount * self._interval > self._burst + 1e-9:
            return math.inf
        wait = max(self._arrival, now) + amount * self._interval - self._burst - now
        return wait if wait > 1e-9 else 0.0

    def take(self, amount: int, now: float) -> None:
        """Fills the bucket by the amount."""
        self._arrival = max(self._arrival, now) + amount * self._interval

    def remaining(self, now: float) -> int:
        """What the bucket still has room for."""
        return math.floor((self._burst - self.reset_seconds(now)) / self._interval + 1e-9)

    def reset_seconds(self, now: float) -> float:
        """Until the bucket is empty."""
        return max(0.0, self._arrival - now)


_LIMITERS: dict[str, Callable[[int, float], Limit]] = {"sliding_window": SlidingWindow, "gcra": Gcra}


@dataclass(frozen=True, slots=True)
class Admission:
    """What the limits say of one request: the limit that stands in its way, how long, and the headers of the reply."""

    blocked_by: str | None
    wait_seconds: float
    headers: dict[str, str]


def duration(seconds: float) -> str:
    """The way providers write times in headers: `120ms`, `1.5s`, `6m0s`."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s"


class RateLimits:
    """The limits on requests and tokens; a request takes of both or of neither."""

    def __init__(self, settings: JudgeSettings) -> None:
        make = _LIMITERS[settings.limiter]
        rates = {"requests": settings.requests_per_minute, "tokens": settings.tokens_per_minute}
        self._limits = {unit: make(rate, settings.burst_seconds) for unit, rate in rates.items() if rate > 0}

    def admit(self, tokens: int, now: float) -> Admission:
        """Lets a request of so many tokens in, or not; what is turned away is not counted."""
        amounts = {"requests": 1, "tokens": tokens}
        waits = {unit: limit.wait_seconds(amounts[unit], now) for unit, limit in self._limits.items()}
        blocked_by = max(waits, key=lambda unit: waits[unit]) if any(waits.values()) else None
        if blocked_by is None:
            for unit, limit in self._limits.items():
                limit.take(amounts[unit], now)
        headers = self.headers(now)
        wait = waits[blocked_by] if blocked_by else 0.0
        if blocked_by and math.isfinite(wait):
            headers["retry-after"] = str(math.ceil(wait))
            headers["retry-after-ms"] = str(math.ceil(wait * 1000))
        return Admission(blocked_by, wait, headers)

    def headers(self, now: float) -> dict[str, str]:
        """The limits, what is left of them and when they are whole again, as providers state them."""
        headers = {}
        for unit, limit in self._limits.items():
            headers[f"x-ratelimit-limit-{unit}"] = str(limit.per_minute)
            headers[f"x-ratelimit-remaining-{unit}"] = str(limit.remaining(now))
            headers[f"x-ratelimit-reset-{unit}"] = duration(limit.reset_seconds(now))
        return headers
