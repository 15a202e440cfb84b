"""A gate against servers of both kinds in simulated time: use of the limit and refusals, whatever the first guess.

Clients send when the gate says, requests travel for a random time, replies take lognormal time and state the limits.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import pytest

from tests.unit.judging.conftest import annotator
from vp_ray.judging.gate import HORIZON_SECONDS, Gate
from vp_ray.judging.grants import Settled, Wanted
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_limits import RateLimits

SECONDS, START_SECONDS = 185.0, 5.0
TRAVEL_SECONDS = 0.15


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def simulate(gate: Gate, server: RateLimits, clock: Clock, tokens: int, restart_at: float = np.inf) -> tuple[int, int]:
    """Requests that the server let in after the slow start, and all that it refused."""
    rng = np.random.default_rng(0)
    events: list[tuple[float, int, str, float, int]] = []
    number = passed = refused = 0
    retry_after = 0.0

    def push(time: float, kind: str, left: float = 0.0, lease: int = 0) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (time, number, kind, left, lease))

    for _ in range(8):
        push(rng.uniform(0, 0.05), "ask")
    while events:
        clock.now, _, kind, left, lease = heapq.heappop(events)
        if clock.now > SECONDS:
            break
        if clock.now > restart_at:
            restart_at, gate = np.inf, Gate(gate.annotators, clock=clock, quiet_seconds=HORIZON_SECONDS)
        if kind == "ask":
            (grant,) = gate.reserve("judge", [Wanted(tokens, 0.0)])
            leaves = clock.now + grant.wait_seconds
            push(leaves, "ask")
            if grant.lease:
                push(leaves + rng.uniform(0.002, TRAVEL_SECONDS), "arrive", leaves, grant.lease)
            continue
        if kind == "arrive":
            admission = server.admit(tokens, clock.now)
            passed += admission.blocked_by is None and clock.now >= START_SECONDS
            refused += admission.blocked_by is not None
            retry_after = admission.wait_seconds or retry_after
            seconds = 2.0 * rng.lognormal(0, 0.5) if admission.blocked_by is None else 0.01
            push(clock.now + seconds, "answer" if admission.blocked_by is None else "refusal", left, lease)
            continue
        limits = {unit: limit.per_minute for unit, limit in server._limits.items()}
        settled = Settled(
            lease,
            age_seconds=clock.now - left,
            answered=kind == "answer",
            refused=kind == "refusal",
            retry_after_seconds=retry_after if kind == "refusal" else 0.0,
            stated_requests=limits.get("requests"),
            stated_tokens=limits.get("tokens"),
        )
        gate.settle("judge", settled)
    return passed, refused


@pytest.mark.parametrize("guess", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("limiter", "burst_seconds"), [("sliding_window", 60.0), ("gcra", 1.0)])
@pytest.mark.parametrize(("rate", "tokens"), [(600, 0), (3000, 0), (0, 1_000_000)])
def test_three_minutes_use_99_percent_of_the_limit_and_at_most_one_in_a_thousand_is_refused(
    guess: float, limiter: str, burst_seconds: float, rate: int, tokens: int
) -> None:
    amount = 2000 if tokens else 0
    server = RateLimits(
        JudgeSettings(
            requests_per_minute=rate,
            tokens_per_minute=tokens,
            limiter=limiter,  # type: ignore[arg-type]
            burst_seconds=burst_seconds,
        )
    )
    clock = Clock()
    settings = annotator(requests_per_minute=int(rate * guess), tokens_per_minute=int(tokens * guess))
    passed, refused = simulate(Gate([settings], clock=clock), server, clock, amount)
    allowed = (SECONDS - START_SECONDS) / 60 * (rate or tokens / amount)
    assert passed / allowed >= 0.99
    assert refused / (passed + refused) <= 0.001


@pytest.mark.parametrize(("limiter", "burst_seconds"), [("sliding_window", 60.0), ("gcra", 1.0)])
def test_a_gate_that_starts_anew_in_the_middle_sends_no_burst(limiter: str, burst_seconds: float) -> None:
    server = RateLimits(
        JudgeSettings(requests_per_minute=600, limiter=limiter, burst_seconds=burst_seconds)  # type: ignore[arg-type]
    )
    clock = Clock()
    gate = Gate([annotator(requests_per_minute=600)], clock=clock)
    passed, refused = simulate(gate, server, clock, 0, restart_at=90.0)
    assert refused == 0
    assert passed >= 0.97 * 1800
