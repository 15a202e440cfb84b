"""The cluster's gate: one limit over many callers, a budget that survives its actor, an actor that may die."""

from __future__ import annotations

import asyncio
import json
import os
import time
from itertools import chain, pairwise
from pathlib import Path

import pytest
import ray

from vp_ray.distributed.limiter import ACTOR, NAMESPACE, Books, ClusterLimiter, running_limiter
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.departures import Departures
from vp_ray.judging.gate import HORIZON_SECONDS
from vp_ray.judging.grants import Grant, Settled, Wanted
from vp_ray.storage import Folder

pytestmark = pytest.mark.usefixtures("local_ray")


def annotator(rate: int) -> AnnotatorSettings:
    return AnnotatorSettings(name="judge", model="m", base_url="embedded", requests_per_minute=rate)


@ray.remote(num_cpus=0)
def depart(books: Books, count: int) -> list[float]:
    """Wall times at which this caller's requests may leave, one after the other."""

    async def leave() -> list[float]:
        limiter, times = ClusterLimiter(books), []
        departures = Departures(limiter, "judge")
        for _ in range(count):
            lease, _ = await departures.wait(lambda: Wanted(10, 0.0))
            times.append(time.time())
            await limiter.settle("judge", Settled(lease, answered=True))
        return times

    return asyncio.run(leave())


def rate_of(times: list[float]) -> float:
    return 60 * (len(times) - 1) / (times[-1] - times[0])


def test_callers_in_several_processes_and_runs_share_one_limit_and_use_it_up() -> None:
    urls = {"judge": "http://127.0.0.1:9/v1"}
    capped = annotator(1200).model_copy(update={"limits": "cap"})
    with running_limiter([capped], urls=urls) as one, running_limiter([capped], urls=urls) as other:
        callers = [depart.remote(books, 40) for books in (one, one, other)]
        times = sorted(chain.from_iterable(ray.get(callers)))
        figures = ClusterLimiter(one).figures()["judge"]
    assert rate_of(times) <= 1200 * 1.01
    assert figures["requests"] == 80
    assert figures["requests_per_minute_allowed"] == 1200


def kill_gate() -> None:
    ray.kill(ray.get_actor(ACTOR, NAMESPACE), no_restart=False)


def process_of_gate() -> int | None:
    """The number of the gate's process; None while there is none."""
    try:
        number: int = ray.get(ray.get_actor(ACTOR, NAMESPACE).__ray_call__.remote(lambda gate: os.getpid()), timeout=60)
    except ray.exceptions.RayActorError:
        return None
    return number


def replace_gate() -> None:
    """Kills the gate and waits for the one that is started in its place."""
    before = process_of_gate()
    kill_gate()
    while process_of_gate() in (before, None):
        time.sleep(0.05)


async def reserve(limiter: ClusterLimiter, cost: float, count: int = 1) -> list[Grant]:
    return await limiter.reserve("judge", [Wanted(10, cost)] * count)


async def granted(limiter: ClusterLimiter, cost: float, count: int = 1) -> list[Grant]:
    """What is said once it is not that time stands in the way of all."""
    while True:
        grants = await reserve(limiter, cost, count)
        if any(grant.barrier != "later" for grant in grants):
            return grants
        await asyncio.sleep(min(grant.wait_seconds for grant in grants))


def test_a_gate_that_dies_is_started_again_with_what_the_ledger_says_was_spent_and_without_a_burst(
    tmp_path: Path,
) -> None:
    ledger = Folder.at(tmp_path)
    ledger.write_bytes("w.jsonl", json.dumps({"judgement_id": "a", "cost_usd": 0.75}).encode() + b"\n")
    with running_limiter([annotator(600)], budget_usd=1.0, ledger=ledger) as books:
        limiter = ClusterLimiter(books)
        (grant,) = asyncio.run(reserve(limiter, 0.2))
        asyncio.run(limiter.settle("judge", Settled(grant.lease, cost_usd=0.2, answered=True)))
        assert asyncio.run(reserve(limiter, 0.2))[0].barrier == "budget"
        kill_gate()
        assert asyncio.run(reserve(limiter, 0.3))[0].barrier == "budget"
        grants = [grant for grant in asyncio.run(granted(limiter, 0.01, 4)) if grant.lease]
        waits = [grant.wait_seconds for grant in grants]
        assert waits
        assert all(b - a >= 0.1 for a, b in pairwise(waits))
        assert len(grants) <= HORIZON_SECONDS / 0.1 + 1


def test_a_gate_that_dies_learns_from_its_callers_what_is_under_way_and_what_the_server_stated() -> None:
    three = annotator(0).model_copy(update={"total_concurrency": 3})
    with running_limiter([three], budget_usd=1.0) as books:
        one, other = ClusterLimiter(books), ClusterLimiter(books)
        first, second = asyncio.run(granted(one, 0.25, 2))
        assert all((first.lease, second.lease))
        asyncio.run(other.settle("judge", Settled(0, stated_requests=6000, answered=True)))
        replace_gate()
        assert asyncio.run(one.reserve("judge", [])) == []
        third, fourth = asyncio.run(granted(other, 0.0, 2))
        assert third.lease
        assert third.lease not in (first.lease, second.lease)
        assert fourth.barrier == "others", "three are under way, two of them since before the gate died"
        assert other.figures()["judge"]["requests_per_minute_allowed"] == 6000
        asyncio.run(other.settle("judge", Settled(third.lease)))
        (dear,) = asyncio.run(reserve(other, 0.75))
        assert (dear.barrier, dear.left_usd) == ("others", 0.5)
        for lease in (first.lease, second.lease):
            asyncio.run(one.settle("judge", Settled(lease, cost_usd=0.125)))
        (grant,) = asyncio.run(granted(other, 0.75))
        assert grant.lease
        assert grant.left_usd == 0.0


def test_a_gate_that_is_gone_for_good_is_made_anew() -> None:
    with running_limiter([annotator(0)]) as books:
        limiter = ClusterLimiter(books)
        assert limiter.figures()["judge"]["requests"] == 0
        ray.kill(ray.get_actor(ACTOR, NAMESPACE), no_restart=True)
        (grant,) = asyncio.run(limiter.reserve("judge", [Wanted(1, 0.0)]))
        assert grant.lease
        asyncio.run(limiter.settle("judge", Settled(grant.lease)))
