"""What judges and the gate say to each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Barrier = Literal["", "later", "others", "budget"]
"""What stands in a request's way: nothing; time; requests of others, which will end; or the budget, which stays."""

Stated = tuple[float | None, float | None]
"""Requests and tokens a minute that a server states as its limits."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one request asks of the gate."""

    tokens: int
    """Tokens that it and its reply are expected to be."""
    cost_usd: float
    """The most that it can cost; held back from the budget until it is settled."""
    waited_seconds: float = 0.0
    """How long it has been ready to leave."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the gate says to one request."""

    lease: int = 0
    """Names the place that was booked; 0 where none was."""
    wait_seconds: float = 0.0
    """Until the request may leave, or until it is worth asking again."""
    barrier: Barrier = ""
    left_usd: float = math.inf
    """What is left of the budget, in-flight requests counted as spent."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one request that passed the gate."""

    lease: int
    cost_usd: float = 0.0
    """What it cost."""
    tokens: int = 0
    """What it was booked for."""
    age_seconds: float = 0.0
    """How long ago it left."""
    answered: bool = False
    """Whether the server gave an answer."""
    refused: bool = False
    """Whether the server answered 429 because of its rate."""
    turned_away: bool = False
    """Whether the server answered 429 although its limits were not reached."""
    retry_after_seconds: float = 0.0
    """How long the server asks to wait."""
    stated_requests: float | None = None
    """Requests a minute that the server states as its limit."""
    stated_tokens: float | None = None
    """Tokens a minute that the server states as its limit."""
    estimated_tokens: int = 0
    """What its request was estimated at by the package's tables."""
    billed_tokens: int | None = None
    """What the server counted for its request."""


class RateLimiter(Protocol):
    """What a judge needs of a gate, near or far."""

    async def reserve(self, annotator: str, wanted: Sequence[Wanted]) -> list[Grant]:
        """What the gate says to each request, in order."""
        ...

    async def settle(self, annotator: str, settled: Settled) -> None:
        """Reports what became of a request."""
        ...
