"""What runs share: the limits of one key at one provider, and what is under way there."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Protocol

from vp_ray.judging.config import ModelSettings
from vp_ray.maths.congestion import Congestion
from vp_ray.maths.limiter import RateLimit


class Holder(Protocol):
    """Whose money is held back for requests that are under way."""

    held_usd: float
    spent_usd: float


@dataclass(slots=True)
class Lease:
    """One request that may be under way."""

    holder: Holder
    annotator: str
    held_usd: float
    ends: float
    """When its holder must be gone, by the gate's clock."""


@dataclass(slots=True)
class Account:
    """One key at one provider: its limits and what is under way there, whichever run sent it."""

    limit: RateLimit
    congestion: Congestion
    leases: dict[int, Lease] = field(default_factory=dict)
    refused: int = 0
    began: float = field(default_factory=time.time)
    """When it was first used here, in seconds since 1970."""

    @classmethod
    def of(cls, settings: ModelSettings) -> Account:
        """The account as an annotator's settings describe it."""
        limit = RateLimit(
            settings.requests_per_minute,
            settings.tokens_per_minute,
            settings.requests_per_day,
            settings.tokens_per_day,
            learns=settings.limits == "learn",
        )
        return cls(limit, Congestion(settings.total_concurrency))

    def follow(self, settings: ModelSettings) -> None:
        """Takes settings that a later run changed; what was learnt stays."""
        fresh = Account.of(settings).limit
        kept = self.limit
        changed = (fresh.allowed_requests, fresh.allowed_tokens, fresh.learns) != (
            kept.allowed_requests,
            kept.allowed_tokens,
            kept.learns,
        )
        if changed and not (kept.stated and fresh.learns):
            kept.requests.limit, kept.tokens.limit = fresh.allowed_requests, fresh.allowed_tokens
        kept.allowed_requests, kept.allowed_tokens, kept.learns = (
            fresh.allowed_requests,
            fresh.allowed_tokens,
            fresh.learns,
        )
        for window, newer in zip(kept.days, fresh.days, strict=True):
            window.limit = newer.limit
        if self.congestion.most != settings.total_concurrency:
            self.congestion = Congestion(settings.total_concurrency)

    @property
    def is_full(self) -> bool:
        """Whether as many requests are under way as may be: by the user's limit, or by the server's latency.

        Latency counts only at servers that neither state limits nor refuse: there it is the only sign.
        """
        silent = self.limit.learns and not self.limit.stated and not self.refused
        most = self.congestion.limit if silent else self.congestion.most or math.inf
        return len(self.leases) >= most

    def end_overdue(self, now: float) -> None:
        """Ends leases whose holder is gone; what was held for them counts as spent, since it may have been."""
        while self.leases:
            number = next(iter(self.leases))
            if self.leases[number].ends > now:
                return
            lease = self.leases.pop(number)
            lease.holder.held_usd -= lease.held_usd
            lease.holder.spent_usd += lease.held_usd
