"""The gate that every request passes: the limits of each account and one budget over all of them.

`Gate` keeps the books of one run and never waits; an `Account` holds what runs share. A `RateLimiter` is how a judge
talks to them: in process (`LocalLimiter`), or in the one actor of a cluster (`vp_ray.distributed.limiter`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from vp_ray.judging.accounts import Account, Lease
from vp_ray.judging.config import ModelSettings
from vp_ray.judging.daily import Sent
from vp_ray.judging.grants import Barrier, Grant, Settled, Stated, Wanted

_ASK_AGAIN_SECONDS: Final = 0.05
_GRACE_SECONDS: Final = 60.0
"""A lease ends so long after its request must have been answered: its holder is gone."""

HORIZON_SECONDS: Final = 0.25
"""Nothing is booked further ahead, so that what a server says holds for almost all that is yet to leave."""


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
            account.leases[lease] = Lease(self, annotator, request.cost_usd, ends)
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

    def adopt(self, annotator: str, under_way: Mapping[int, float], stated: Stated) -> None:
        """Takes over what a gate that died had let through: leases with the money held for them, and the limits that
        the server had stated."""
        account, ends = self._account[annotator], self.clock() + self._timeout[annotator] + self.grace_seconds
        account.limit.learn(*stated)
        for number, held_usd in under_way.items():
            if number not in account.leases:
                account.leases[number] = Lease(self, annotator, held_usd, ends)
                self.held_usd += held_usd

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
            for number in [number for number, lease in account.leases.items() if lease.holder is self]:
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
