"""How many requests may be under way at a server that refuses none and only gets slower, as vLLM does.

Vegas-like (Brakmo and Peterson 1995): the latency of an idle server is the least that was seen; twice as much means
that requests queue there. The number of requests under way grows while at least 80 % of it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Final

_FIRST: Final = 16.0
"""Few, so that the least latency is that of a server that is hardly used."""
_BATCH: Final = 16
"""Latencies are compared by the median of so many, since single ones scatter."""
_RISE: Final = 2.0
_CUT: Final = 0.25
_WELL_USED: Final = 0.8
_FORGETTING: Final = 1.001
"""The least latency is raised by this a batch, so that it follows a server that has changed."""


@dataclass(slots=True)
class Congestion:
    """The number of requests that may be under way, lowered by a quarter for each episode of risen latency."""

    most: float = 0.0
    """The user's own limit; 0 is none."""
    limit: float = field(init=False)
    episodes: int = 0
    _least: float = float("inf")
    _latencies: list[float] = field(default_factory=list)
    _since: float = float("-inf")
    _most_under_way: int = 0

    def __post_init__(self) -> None:
        self.limit = min(_FIRST, self.most or _FIRST)

    def answered(self, now: float, latency_seconds: float, under_way: int) -> bool:
        """Whether the answer at `now` to a request that left `latency_seconds` ago opened an episode of slowness.

        Answers to requests that left before the last cut say nothing of what it brought and are passed over.
        """
        if now - latency_seconds <= self._since:
            return False
        self._latencies.append(latency_seconds)
        self._most_under_way = max(self._most_under_way, under_way)
        if len(self._latencies) < _BATCH:
            return False
        middle = median(self._latencies)
        used, self._most_under_way = self._most_under_way, 0
        self._latencies.clear()
        self._least = min(middle, self._least * _FORGETTING)
        if middle > _RISE * self._least:
            self.limit = max(1.0, self.limit * (1.0 - _CUT))
            self._since = now
            self.episodes += 1
            return True
        if used >= _WELL_USED * self.limit:
            grown = self.limit + 1.0 if self.episodes else self.limit * 1.5
            self.limit = min(grown, self.most or grown)
        return False
