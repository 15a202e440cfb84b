"""What requests cost: a dated table of list prices, which an annotator's settings override."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vp_ray.judging.config import CLUSTER, EMBEDDED, ModelSettings

PRICES_AS_OF: Final = "2026-11"


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens."""

    request: float
    reply: float
    cached: float
    batch_share: float = 0.5
    """What a batch costs as a share of this."""

    @property
    def batched(self) -> Price:
        """The price of requests that go in batches."""
        share = self.batch_share
        return Price(self.request * share, self.reply * share, self.cached * share, 1.0)

    def cost_usd(self, request_tokens: int, reply_tokens: int, cached_tokens: int = 0) -> float:
        """What an answer cost; cached tokens are part of the request's."""
        fresh = request_tokens - cached_tokens
        return (fresh * self.request + cached_tokens * self.cached + reply_tokens * self.reply) / 1e6


FREE: Final = Price(0.0, 0.0, 0.0)

_PRICES: Final = {
    "gpt-4o": Price(2.50, 10.00, 1.25),
    "gpt-4o-mini": Price(0.15, 0.60, 0.075),
    "gpt-4.1": Price(2.00, 8.00, 0.50),
    "gpt-4.1-mini": Price(0.40, 1.60, 0.10),
    "gpt-4.1-nano": Price(0.10, 0.40, 0.025),
    "gpt-5": Price(1.25, 10.00, 0.125),
    "gpt-5-mini": Price(0.25, 2.00, 0.025),
    "gpt-5-nano": Price(0.05, 0.40, 0.005),
    "gpt-5.1": Price(1.25, 10.00, 0.125),
    "gpt-5.2": Price(1.75, 14.00, 0.175),
    "o3": Price(2.00, 8.00, 0.50),
    "o4-mini": Price(1.10, 4.40, 0.275),
    "gpt-5.4-nano": Price(0.20, 1.25, 0.02),
    "omni-moderation": FREE,
}


def price_of(settings: ModelSettings) -> Price | None:
    """The price of an annotator: from its settings, 0 for judges that the run starts, from the table, or None.

    A dated name such as `gpt-4o-2024-11-20` has the price of the longest name in the table that begins it.
    """
    own = settings.price
    if own is not None:
        cached = own.cached_usd_per_million_tokens
        request = own.request_usd_per_million_tokens
        share = 0.5 if own.batch_share is None else own.batch_share
        return Price(request, own.reply_usd_per_million_tokens, request if cached is None else cached, share)
    if settings.base_url in (EMBEDDED, CLUSTER):
        return FREE
    known = [
        name
        for name in _PRICES
        if settings.model == name or settings.model.startswith((f"{name}-20", f"{name}-latest"))
    ]
    return _PRICES[max(known, key=len)] if known else None


def price_date(settings: ModelSettings) -> str:
    """Of when the price is that `price_of` gives: the table's month, or `settings` where it is the user's own."""
    return "settings" if settings.price is not None else PRICES_AS_OF
