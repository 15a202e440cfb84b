"""The cluster's gate: one limit over many callers, a budget that survives its actor, an actor that may die."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import chain, pairwise
from pathlib import Path

import pytest
import ray

from vp_ray.distributed.limiter import ACTOR, NAMESPACE, Books, ClusterLimiter, running_limiter
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.departures import Departures
from vp_ray.judging.gate import HORIZON_SECONDS, Grant, Settled, Wanted
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
            lease = await departures.wait(Wanted(10, 0.0))
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


def test_a_gate_that_dies_is_started_again_with_what_the_ledger_says_was_spent_and_without_a_burst(
    tmp_path: Path,
) -> None:
    ledger = Folder.at(tmp_path)
    ledger.write_bytes("w.jsonl", json.dumps({"judgement_id": "a", "cost_usd": 0.75}).encode() + b"\n")

    async def reserve(limiter: ClusterLimiter, cost: float, count: int = 1) -> list[Grant]:
        return await limiter.reserve("judge", [Wanted(10, cost)] * count)

    with running_limiter([annotator(600)], budget_usd=1.0, ledger=ledger) as books:
        limiter = ClusterLimiter(books)
        (grant,) = asyncio.run(reserve(limiter, 0.2))
        asyncio.run(limiter.settle("judge", Settled(grant.lease, cost_usd=0.2, answered=True)))
        assert asyncio.run(reserve(limiter, 0.2))[0].barrier == "budget"
        ray.kill(ray.get_actor(ACTOR, NAMESPACE), no_restart=False)
        assert asyncio.run(reserve(limiter, 0.3))[0].barrier == "budget"
        grants = [grant for grant in asyncio.run(reserve(limiter, 0.01, 4)) if grant.lease]
        waits = [grant.wait_seconds for grant in grants]
        assert all(b - a >= 0.1 for a, b in pairwise(waits))
        assert len(grants) <= HORIZON_SECONDS / 0.1 + 1


def test_a_gate_that_is_gone_for_good_is_made_anew() -> None:
    with running_limiter([annotator(0)]) as books:
        limiter = ClusterLimiter(books)
        assert limiter.figures()["judge"]["requests"] == 0
        ray.kill(ray.get_actor(ACTOR, NAMESPACE), no_restart=True)
        (grant,) = asyncio.run(limiter.reserve("judge", [Wanted(1, 0.0)]))
        assert grant.lease
        asyncio.run(limiter.settle("judge", Settled(grant.lease)))
