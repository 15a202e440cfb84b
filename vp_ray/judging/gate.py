"""The gate that every request passes: the limits of each account and one budget over all of them.

`Gate` keeps the books of one run and never waits; `Account` holds what runs share. `RateLimiter` is how a judge talks
to them: in process (`LocalLimiter`), or in the one actor of a cluster (`vp_ray.distributed.limiter`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Literal, Protocol

from vp_ray.judging.config import ModelSettings
from vp_ray.judging.daily import Sent
from vp_ray.maths.congestion import Congestion
from vp_ray.maths.limiter import RateLimit

_ASK_AGAIN_SECONDS: Final = 0.05
_GRACE_SECONDS: Final = 60.0
"""A lease ends so long after its request must have been answered: its holder is gone."""

HORIZON_SECONDS: Final = 0.25
"""Nothing is booked further ahead, so that what a server says holds for almost all that is yet to leave."""

Barrier = Literal["", "later", "others", "budget"]
"""What stands in a request's way: nothing; time; requests of others, which will end; or the budget, which stays."""


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


@dataclass(slots=True)
class _Lease:
    gate: Gate
    annotator: str
    held_usd: float
    ends: float


@dataclass(slots=True)
class Account:
    """One key at one provider: its limits and what is under way there, whichever run sent it."""

    limit: RateLimit
    congestion: Congestion
    leases: dict[int, _Lease] = field(default_factory=dict)
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
            lease.gate.held_usd -= lease.held_usd
            lease.gate.spent_usd += lease.held_usd


@dataclass(slots=True)
class _Traffic:
    """What one annotator sent through one gate."""

    passed: int = 0
    tokens: int = 0
    refused: int = 0
    first: float = 0.0
    last: float = 0.0
    last_tokens: int = 0
    estimated: int = 0
    billed: int = 0


@dataclass(slots=True)
class Gate:
    """The books of one run: departure times of its requests, money spent and money held back.

    `accounts` holds what runs share, by the names in `account_of`; without them each annotator is an account.
    """

    annotators: Sequence[ModelSettings]
    budget_usd: float | None = None
    spent_usd: float = 0.0
    clock: Callable[[], float] = time.monotonic
    accounts: dict[str, Account] = field(default_factory=dict)
    account_of: Mapping[str, str] = field(default_factory=dict)
    grace_seconds: float = _GRACE_SECONDS
    quiet_seconds: float = 0.0
    """So long nothing leaves by accounts that are new here: where a gate died, others may still leave by its grants."""
    numbers: count[int] = field(default_factory=lambda: count(1))
    held_usd: float = 0.0
    _account: dict[str, Account] = field(init=False)
    _traffic: dict[str, _Traffic] = field(init=False)
    _timeout: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self._account = {}
        for settings in self.annotators:
            name = self.account_of.get(settings.name, settings.name)
            if name in self.accounts:
                self.accounts[name].follow(settings)
            else:
                self.accounts[name] = Account.of(settings)
                self.accounts[name].limit.requests.hold_until(self.clock() + self.quiet_seconds)
            self._account[settings.name] = self.accounts[name]
        self._traffic = {settings.name: _Traffic() for settings in self.annotators}
        self._timeout = {settings.name: settings.timeout_seconds for settings in self.annotators}

    def reserve(self, annotator: str, wanted: Sequence[Wanted]) -> list[Grant]:
        """What is said to each request, in order.

        Nothing is booked for one that could take the money spent past the budget, nor for one that can only once
        others are settled: it is worth asking again then.
        """
        account, traffic = self._account[annotator], self._traffic[annotator]
        grants = []
        for request in wanted:
            now = self.clock()
            account.end_overdue(now)
            left = math.inf if self.budget_usd is None else self.budget_usd - self.spent_usd
            if request.cost_usd > left - self.held_usd:
                barrier: Barrier = "budget" if request.cost_usd > left else "others"
                grants.append(Grant(0, _ASK_AGAIN_SECONDS, barrier, left - self.held_usd))
                continue
            if account.is_full:
                grants.append(Grant(wait_seconds=_ASK_AGAIN_SECONDS, barrier="others"))
                continue
            start = account.limit.reserve(now, request.tokens, HORIZON_SECONDS, request.waited_seconds)
            if start - now > HORIZON_SECONDS:
                grants.append(Grant(wait_seconds=start - now - HORIZON_SECONDS, barrier="later"))
                continue
            lease = next(self.numbers)
            ends = start + self._timeout[annotator] + self.grace_seconds
            account.leases[lease] = _Lease(self, annotator, request.cost_usd, ends)
            self.held_usd += request.cost_usd
            traffic.first = traffic.first if traffic.passed else start
            traffic.last, traffic.last_tokens = start, request.tokens
            traffic.passed += 1
            traffic.tokens += request.tokens
            grants.append(Grant(lease, start - now, left_usd=left - self.held_usd))
        return grants

    def settle(self, annotator: str, settled: Settled) -> None:
        """Books what a request cost, learns from its reply, and slows down when it was refused."""
        account, now = self._account[annotator], self.clock()
        lease = account.leases.pop(settled.lease, None)
        if lease is not None:
            self.held_usd = max(0.0, self.held_usd - lease.held_usd)
        self.spent_usd += settled.cost_usd
        account.limit.learn(settled.stated_requests, settled.stated_tokens)
        if settled.answered:
            account.limit.answered()
            account.congestion.answered(now, settled.age_seconds, len(account.leases) + 1)
        if settled.refused:
            account.refused += 1
            self._traffic[annotator].refused += 1
            account.limit.refused(now, now - settled.age_seconds, settled.retry_after_seconds)
        if settled.turned_away:
            account.limit.turned_away(now, settled.tokens)
        if settled.billed_tokens is not None:
            self._traffic[annotator].estimated += settled.estimated_tokens
            self._traffic[annotator].billed += settled.billed_tokens

    def recall(self, sent: Sequence[Sent]) -> None:
        """Counts what was sent before an account was used here against its limits of the day."""
        now, wall = self.clock(), time.time()
        for one in sent:
            account = self._account.get(one.annotator)
            if account is not None and one.answered_at < account.began:
                account.limit.count_today(now - (wall - one.answered_at), one.requests, one.tokens)

    def close(self) -> None:
        """Ends all leases of this run."""
        for account in self._account.values():
            for number in [number for number, lease in account.leases.items() if lease.gate is self]:
                del account.leases[number]

    def figures(self) -> dict[str, Any]:
        """For each annotator: requests that passed, those refused by rate, and the share of the allowed rate used."""
        return {name: self._figures(name) for name in self._account}

    def _figures(self, name: str) -> Mapping[str, Any]:
        account, traffic = self._account[name], self._traffic[name]
        allowed, allowed_tokens = account.limit.requests.limit, account.limit.tokens.limit
        seconds = traffic.last - traffic.first
        shares = []
        if traffic.passed > 1 and seconds > 0:
            amounts = ((traffic.passed - 1, allowed), (traffic.tokens - traffic.last_tokens, allowed_tokens))
            shares = [amount * 60.0 / seconds / limit for amount, limit in amounts if limit]
        return {
            "requests": traffic.passed,
            "refused_by_rate": traffic.refused,
            "episodes": account.limit.throttle.episodes,
            "requests_per_minute_allowed": allowed or None,
            "tokens_per_minute_allowed": allowed_tokens or None,
            "share_of_rate_used": max(shares, default=None),
            "billed_over_estimated": traffic.billed / traffic.estimated if traffic.estimated else None,
        }


class LocalLimiter:
    """A gate in this process, shared by the threads and event loops that use it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._lock = threading.Lock()

    async def reserve(self, annotator: str, wanted: Sequence[Wanted]) -> list[Grant]:
        """What the gate says to each request, in order."""
        with self._lock:
            return self._gate.reserve(annotator, wanted)

    async def settle(self, annotator: str, settled: Settled) -> None:
        """Reports what became of a request."""
        with self._lock:
            self._gate.settle(annotator, settled)

    def figures(self) -> dict[str, Any]:
        """The gate's figures for each annotator."""
        with self._lock:
            return self._gate.figures()
