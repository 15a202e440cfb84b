"""When amounts may leave so that no server that limits by sliding window or by GCRA refuses one.

A `Pacer` reserves departure times for one resource (requests, or tokens): evenly spaced as in the generic cell rate
algorithm (ITU-T I.371, annex A), and never more than the limit within any `Window`. Idle time saves nothing up; but
what was ready in time and is asked for a little late, as on a busy machine, does not lose its place.

All times are seconds of one clock that never goes back; nothing here reads it or waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

MINUTE: Final = 60.0
"""Limits are per minute."""
DAY: Final = 86400.0
SLACK: Final = 0.004
"""The window is stretched by this share, so that departures a little uneven on their way still fit in it."""


@dataclass(slots=True)
class Window:
    """What may leave within any window of so many seconds; `limit` 0 is no limit."""

    limit: float
    seconds: float
    resolution_seconds: float = 0.0
    """Amounts that leave within so long of each other are kept as one."""
    _sent: deque[tuple[float, float]] = field(default_factory=deque)
    _inside: float = 0.0
    _last: float = float("-inf")

    def earliest(self, start: float, amount: float) -> float:
        """The earliest time, from `start` on, at which `amount` may leave; an amount above the limit leaves alone."""
        if not self.limit:
            return start
        inside, start = self._inside, max(start, self._last)
        for sent_at, sent in self._sent:
            if sent_at + self.seconds > start:
                if inside + amount <= self.limit:
                    break
                start = sent_at + self.seconds
            inside -= sent
        return start

    def book(self, time: float, amount: float) -> None:
        """Counts what leaves at `time`; a negative amount takes back what was booked."""
        if self._sent and time < self._sent[-1][0]:
            self._sent[-1] = (self._sent[-1][0], self._sent[-1][1] + amount)
        else:
            self._sent.append((time + self.resolution_seconds, amount))
        self._inside += amount
        self._last = max(self._last, time) if amount > 0 else self._last
        while self._sent and self._sent[0][0] + self.seconds <= time:
            self._inside -= self._sent.popleft()[1]


@dataclass(slots=True)
class Pacer:
    """Departure times for amounts of one resource; `limit` is what may leave within a minute, 0 for no limit."""

    limit: float
    window_seconds: float = MINUTE * (1.0 + SLACK)
    _next: float = float("-inf")
    _window: Window = field(init=False)

    def __post_init__(self) -> None:
        self._window = Window(self.limit, self.window_seconds)

    def earliest(self, now: float, amount: float) -> float:
        """The earliest time, from `now` on, at which `amount` may leave; an amount above the limit leaves alone."""
        self._window.limit = self.limit
        return self._window.earliest(max(now, self._next), amount)

    def commit(self, start: float, amount: float, pace: float = 1.0, due: float = float("inf")) -> None:
        """Books `amount` at `start`; what follows waits `amount` times the spacing, over `pace` in (0, 1].

        The spacing counts from `due` where that is earlier: when it could have left, had it been asked for in time.
        """
        # Kept without a limit too: a limit that is learnt later holds for what has left before.
        self._window.book(start, amount)
        if self.limit:
            self._next = min(start, max(self._next, due)) + amount * self.window_seconds / (self.limit * pace)

    def give_back(self, now: float, amount: float) -> None:
        """Takes back an amount that was booked and that the server did not count."""
        if self.limit:
            self._window.book(max(now, self._next), -amount)
            self._next -= amount * self.window_seconds / self.limit

    def hold_until(self, time: float) -> None:
        """Lets nothing leave before `time`."""
        self._next = max(self._next, time)
