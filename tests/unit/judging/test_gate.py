"""The gate's books under a clock that is set by hand."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.judging.conftest import annotator
from vp_ray.errors import AnnotatorError, BudgetError
from vp_ray.judging.accounts import Account
from vp_ray.judging.daily import sent_within_a_day
from vp_ray.judging.departures import Departures
from vp_ray.judging.gate import HORIZON_SECONDS, Gate, LocalLimiter
from vp_ray.judging.grants import Settled, Wanted
from vp_ray.storage import Folder


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def started(gate: Gate, name: str = "judge") -> Gate:
    """A gate whose annotator has answered once, which ends the slow start."""
    gate.settle(name, Settled(0, answered=True))
    return gate


def waits(gate: Gate, wanted: list[Wanted], name: str = "judge") -> list[float]:
    return [grant.wait_seconds for grant in gate.reserve(name, wanted)]


def send(gate: Gate, clock: Clock, count: int, tokens: int = 0) -> None:
    """Sends so many requests, each as soon as the gate says."""
    while count:
        (grant,) = gate.reserve("judge", [Wanted(tokens, 0)])
        clock.now += grant.wait_seconds
        count -= grant.lease > 0


def gate_at(budget_usd: float | None = None, **changes: Any) -> tuple[Gate, Clock]:
    clock = Clock()
    return Gate([annotator(**changes)], budget_usd, clock=clock), clock


def test_requests_of_one_annotator_share_its_limit_and_those_of_another_do_not() -> None:
    clock = Clock()
    gate = Gate([annotator(name="a", requests_per_minute=60), annotator(name="b", requests_per_minute=60)], clock=clock)
    first, second = waits(started(gate, "a"), [Wanted(0, 0)] * 2, "a")
    assert first == 0.0
    assert second == pytest.approx(1.0 - HORIZON_SECONDS, rel=0.01)
    assert waits(gate, [Wanted(0, 0)], "b") == [0.0]


def test_runs_that_use_one_account_share_its_limit() -> None:
    clock, accounts = Clock(), {}
    settings = annotator(requests_per_minute=60)
    gates = [Gate([settings], clock=clock, accounts=accounts, account_of={"judge": "key"}) for _ in range(2)]
    started(gates[0])
    assert [waits(gate, [Wanted(0, 0)])[0] for gate in gates] == pytest.approx([0.0, 1.0 - HORIZON_SECONDS], rel=0.01)


def test_a_later_run_with_another_cap_is_followed_and_what_was_learnt_stays() -> None:
    accounts: dict[str, Account] = {}
    for allowed in (600, 60):
        settings = annotator(requests_per_minute=allowed, limits="cap")
        gate = Gate([settings], accounts=accounts, account_of={"judge": "key"})
    assert gate.figures()["judge"]["requests_per_minute_allowed"] == 60
    gate.settle("judge", Settled(0, stated_requests=30))
    again = Gate([annotator(requests_per_minute=500)], accounts=accounts, account_of={"judge": "key"})
    assert again.figures()["judge"]["requests_per_minute_allowed"] == 30


def test_the_budget_counts_money_spent_and_money_held_back() -> None:
    gate, _ = gate_at(budget_usd=1.0)
    grants = gate.reserve("judge", [Wanted(0, 0.4)] * 3)
    assert [grant.barrier for grant in grants] == ["", "", "others"]
    gate.settle("judge", Settled(grants[0].lease, cost_usd=0.1))
    third, fourth = gate.reserve("judge", [Wanted(0, 0.4)] * 2)
    assert (third.barrier, fourth.barrier) == ("", "others")
    for lease in (grants[1].lease, third.lease):
        gate.settle("judge", Settled(lease, cost_usd=0.4))
    dear, cheap = gate.reserve("judge", [Wanted(0, 0.4), Wanted(0, 0.05)])
    assert (dear.barrier, cheap.barrier) == ("budget", "")
    assert dear.left_usd == pytest.approx(0.1)
    assert gate.spent_usd == pytest.approx(0.9)
    assert gate.held_usd == pytest.approx(0.05)


def test_the_share_of_the_rate_used_is_one_for_a_client_that_always_asks_and_half_for_one_that_sleeps_as_long() -> None:
    gate, clock = gate_at(requests_per_minute=600, limits="cap")
    send(started(gate), clock, 1000)
    assert gate.figures()["judge"]["share_of_rate_used"] == pytest.approx(1.0, abs=0.005)
    clock.now += 100.0
    send(gate, clock, 1)
    assert gate.figures()["judge"]["share_of_rate_used"] == pytest.approx(0.5, abs=0.005)


def test_the_share_is_that_of_the_limit_that_binds() -> None:
    gate, clock = gate_at(requests_per_minute=6000, tokens_per_minute=60_000, limits="cap")
    send(started(gate), clock, 100, tokens=1000)
    assert gate.figures()["judge"]["share_of_rate_used"] == pytest.approx(1.0, abs=0.005)


def test_a_refusal_holds_everyone_back_as_long_as_the_server_asks() -> None:
    gate, clock = gate_at(requests_per_minute=600)
    (grant,) = gate.reserve("judge", [Wanted(0, 0)])
    clock.now += 1.0
    gate.settle("judge", Settled(grant.lease, age_seconds=1.0, refused=True, retry_after_seconds=5.0))
    assert waits(gate, [Wanted(0, 0)]) == [5.0 - HORIZON_SECONDS]
    figures = gate.figures()["judge"]
    assert (figures["refused_by_rate"], figures["episodes"]) == (1, 1)


def test_no_more_requests_are_under_way_than_the_user_allows_and_a_lost_one_counts_until_its_lease_ends() -> None:
    gate, clock = gate_at(total_concurrency=2, budget_usd=1.0)
    first, _, third = gate.reserve("judge", [Wanted(0, 0.1)] * 3)
    assert third.barrier == "others"
    gate.settle("judge", Settled(first.lease))
    assert [grant.barrier for grant in gate.reserve("judge", [Wanted(0, 0.1)] * 2)] == ["", "others"]
    clock.now += 20.0 + gate.grace_seconds + 1.0
    assert gate.reserve("judge", [Wanted(0, 0.1)])[0].barrier == ""
    assert gate.spent_usd == pytest.approx(0.2)


def test_at_a_server_that_only_gets_slower_fewer_requests_are_under_way() -> None:
    gate, clock = gate_at()
    most = 0
    for _ in range(60):
        leases = [grant.lease for grant in gate.reserve("judge", [Wanted(0, 0)] * 100) if grant.lease]
        most = max(most, len(leases))
        seconds = max(1.0, len(leases) / 10)  # ten at a time, the others queue
        clock.now += seconds
        for lease in leases:
            gate.settle("judge", Settled(lease, age_seconds=seconds, answered=True))
    assert most > 20
    assert len(leases) <= 48
    stating, _ = gate_at()
    stating.settle("judge", Settled(0, stated_requests=10**6, answered=True))
    assert all(grant.lease for grant in stating.reserve("judge", [Wanted(0, 0)] * 100))


def test_departures_leave_in_order_at_the_pace_of_the_gate() -> None:
    async def leave() -> list[float]:
        gate = Gate([annotator(requests_per_minute=3000, limits="cap")])
        departures, loop = Departures(LocalLimiter(started(gate)), "judge"), asyncio.get_running_loop()
        times: list[float] = []

        async def one() -> None:
            await departures.wait(lambda: Wanted(0, 0))
            times.append(loop.time())

        await asyncio.gather(*(one() for _ in range(50)))
        return times

    times = asyncio.run(leave())
    assert 0.95 <= times[-1] - times[0] <= 3.0


def test_a_request_that_waited_is_booked_for_what_is_known_when_it_leaves() -> None:
    async def leave() -> tuple[int, int]:
        limiter = LocalLimiter(started(Gate([annotator(tokens_per_minute=6000, limits="cap")])))
        departures, estimate = Departures(limiter, "judge"), 40
        waiting = [asyncio.create_task(departures.wait(lambda: Wanted(estimate, 0))) for _ in range(2)]
        _, first = await waiting[0]
        estimate = 20  # the first reply tells that requests are half of what was thought
        _, second = await waiting[1]
        return first.tokens, second.tokens

    assert asyncio.run(leave()) == (40, 20)


def test_a_stop_ends_all_waiting_at_once() -> None:
    async def stopped() -> list[BaseException | None]:
        gate = Gate([annotator(requests_per_minute=1)])
        departures = Departures(LocalLimiter(gate), "judge")
        waiting = [asyncio.create_task(departures.wait(lambda: Wanted(0, 0))) for _ in range(4)]
        await asyncio.sleep(0.05)
        departures.stop(AnnotatorError("stop"))
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), timeout=5)
        return [outcome if isinstance(outcome, BaseException) else None for outcome in outcomes]

    first, *others = asyncio.run(stopped())
    assert first is None
    assert all(isinstance(other, AnnotatorError) for other in others)


def test_a_request_that_could_pass_the_budget_never_leaves() -> None:
    async def leave() -> None:
        await Departures(LocalLimiter(Gate([annotator()], budget_usd=0.5)), "judge").wait(lambda: Wanted(0, 0.6))

    with pytest.raises(BudgetError, match=r"could pass the budget.*budget_usd"):
        asyncio.run(leave())


def test_a_request_for_which_there_is_room_once_others_are_settled_waits_for_them() -> None:
    async def leave() -> float:
        gate = Gate([annotator()], budget_usd=1.0)
        limiter = LocalLimiter(gate)
        departures, loop = Departures(limiter, "judge"), asyncio.get_running_loop()
        lease, _ = await departures.wait(lambda: Wanted(0, 0.7))
        waiting, began = asyncio.create_task(departures.wait(lambda: Wanted(0, 0.7))), loop.time()
        await asyncio.sleep(0.3)
        await limiter.settle("judge", Settled(lease, cost_usd=0.1))
        await waiting
        return loop.time() - began

    assert 0.3 <= asyncio.run(leave()) <= 5.0


def test_money_held_for_an_actor_that_died_does_not_make_others_wait_for_ever() -> None:
    async def leave() -> None:
        gate = Gate([annotator(timeout_seconds=0.2)], budget_usd=1.0, grace_seconds=0.1)
        departures = Departures(LocalLimiter(gate), "judge")
        await departures.wait(lambda: Wanted(0, 0.7))
        await departures.wait(lambda: Wanted(0, 0.7))

    with pytest.raises(BudgetError):
        asyncio.run(leave())


def test_what_a_ledger_says_was_sent_today_counts_against_the_limits_of_the_day(tmp_path: Path) -> None:
    now, hour = time.time(), 3600.0
    rows = [
        {"judgement_id": f"{age}", "annotator": "judge", "status": "scored", "answered_at": now - age * hour}
        | {"attempts": 2, "request_tokens": 900, "reply_tokens": 100}
        for age in (30, 20, 1)
    ]
    ledger = Folder.at(tmp_path)
    ledger.write_bytes("w.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    sent = sent_within_a_day(ledger, now)
    assert [(one.requests, one.tokens) for one in sent] == [(2, 1000), (2, 1000)]
    gate, _ = gate_at(requests_per_minute=0, requests_per_day=5)
    gate.recall(sent)
    first, second = started(gate).reserve("judge", [Wanted(0, 0)] * 2)
    assert first.lease
    # The two of twenty hours ago make room in four.
    assert second.wait_seconds == pytest.approx(4 * hour, abs=0.2 * hour)


def test_the_gate_tells_how_bills_compare_with_estimates() -> None:
    gate, _ = gate_at()
    assert gate.figures()["judge"]["billed_over_estimated"] is None
    for billed in (1300, 1100, None):
        gate.settle("judge", Settled(0, estimated_tokens=1000, billed_tokens=billed))
    assert gate.figures()["judge"]["billed_over_estimated"] == pytest.approx(1.2)
