"""Shards over Ray Data actors: each result once, dead actors replaced, errors that come back whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ray.shard_workers import Obedient
from vp_ray.distributed.config import PoolSettings
from vp_ray.distributed.shards import run_shards
from vp_ray.errors import BudgetError, CheckpointError

TWO = PoolSettings(min_actors=2, max_actors=2, threads_per_actor=3)

pytestmark = pytest.mark.usefixtures("local_ray")


def run(
    folder: Path,
    shards: list[dict[str, Any]],
    told: Callable[[dict[str, Any]], None],
    pool: PoolSettings = TWO,
    **more: int,
) -> None:
    run_shards(shards, Obedient, {"folder": str(folder)}, pool, "test shards", told, **more)


def test_every_shard_gives_one_result_while_others_still_work_and_an_actor_that_dies_loses_none(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []
    times: list[float] = []

    def told(result: dict[str, Any]) -> None:
        results.append(result)
        times.append(time.monotonic())

    shards = [{"number": n, "then": "die once" if n in (3, 11) else "wait"} for n in range(24)]
    run(tmp_path, shards, told)
    assert sorted(result["number"] for result in results) == list(range(24))
    assert results[0]["nested"] == {"a": [1, None]}
    assert {result["threads"] for result in results} == {"3"}
    assert times[-1] - times[0] > 1.0
    calls = {int(path.name): path.stat().st_size for path in tmp_path.iterdir()}
    assert calls[3] >= 2
    assert calls[11] >= 2
    # A dead actor's process held at most its own queue of two.
    assert sum(calls.values()) <= 24 + 2 * 3


def test_an_error_with_a_remedy_comes_back_as_it_was_and_stops_its_actor(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []
    shards = [{"number": n, "then": "budget" if n == 5 else "wait"} for n in range(60)]
    with pytest.raises(BudgetError) as raised:
        run(tmp_path, shards, results.append)
    assert str(raised.value) == "shard 5: too dear. Pay more."
    done = {result["number"] for result in results}
    assert 5 not in done
    assert {int(path.name) for path in tmp_path.iterdir()} == done | {5}
    assert len(done) < 59


def test_when_the_grace_is_over_the_other_actors_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vp_ray.distributed.shards._GRACE_SECONDS", -1.0)
    shards = [{"number": n, "then": "budget" if n == 1 else "wait long"} for n in range(200)]
    with pytest.raises(BudgetError):
        run(tmp_path, shards, lambda _: None)
    time.sleep(2.0)
    called = len(list(tmp_path.iterdir()))
    time.sleep(2.5)
    assert len(list(tmp_path.iterdir())) == called < 200


def test_an_error_while_the_worker_is_made_comes_back_too(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing: there is no such model\. Train it first"):
        run_shards([{"number": 1}], Obedient, {"folder": "missing"}, PoolSettings(), "test shards", lambda _: None)


def test_any_other_exception_keeps_its_type_and_the_workers_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match=r"shard_workers.py(.|\n)*a bug"):
        run(tmp_path, [{"number": n, "then": "crash"} for n in range(3)], lambda _: None)


def test_an_actor_works_on_several_shards_at_once_when_told_so(tmp_path: Path) -> None:
    times: list[float] = []
    shards = [{"number": n, "then": "wait long"} for n in range(24)]
    run(tmp_path, shards, lambda _: times.append(time.monotonic()), PoolSettings(), concurrent_shards=8)
    assert len(times) == 24
    # One after the other they would take 23 s from the first to the last.
    assert times[-1] - times[0] < 15.0


def test_no_shards_are_no_work_and_need_no_actors(tmp_path: Path) -> None:
    run(tmp_path, [], lambda _: pytest.fail("there is no result"))
