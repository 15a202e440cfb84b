"""A run belongs to one process: on a disk, and on a real S3 endpoint, where nothing but objects can say so."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from vp_ray.errors import StorageError
from vp_ray.locking import BEAT_SECONDS, LOCK, locked
from vp_ray.storage import RunFolder

BEAT, SLOW_BEAT = 0.2, 1.0
"""Seconds; slow where a busy machine must not miss beats."""


def _hold(path: str, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with locked(RunFolder.at(path)):
        ready.set()
        done.wait(30)


def test_a_second_process_on_the_same_run_is_refused(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready, done))
    other.start()
    assert ready.wait(60)
    with pytest.raises(StorageError, match="another process"), locked(RunFolder.at(tmp_path)):
        pass
    done.set()
    other.join(30)
    with locked(RunFolder.at(tmp_path)):
        pass


def test_on_an_object_store_a_second_run_is_refused_while_the_first_one_lives(bucket: str) -> None:
    run = RunFolder.at(f"{bucket}/held")
    with (
        locked(run, SLOW_BEAT),
        pytest.raises(StorageError, match=r"another process works on this run \(process \d+ on "),
        locked(run, SLOW_BEAT),
    ):
        pass
    assert not run.exists(LOCK)
    with locked(run, BEAT):
        assert run.exists(LOCK)


def test_a_lock_whose_holder_is_gone_is_taken_over_after_some_missed_beats(bucket: str) -> None:
    run = RunFolder.at(f"{bucket}/left")
    run.write_json(LOCK, {"owner": "gone", "host": "elsewhere", "process": 1, "beat": 7})
    with locked(run, BEAT):
        assert run.read_json(LOCK)["owner"] != "gone"


def test_a_lock_of_this_machine_whose_process_was_killed_is_taken_over_at_once(bucket: str) -> None:
    run = RunFolder.at(f"{bucket}/killed")
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(run.uri, ready, done))
    other.start()
    assert ready.wait(60)
    with pytest.raises(StorageError, match=f"process {other.pid} on "), locked(run):
        pass
    other.kill()
    other.join()
    started = time.monotonic()
    with locked(run):
        assert time.monotonic() - started < BEAT_SECONDS


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background"])
def test_who_finds_anothers_name_in_the_lock_stops(bucket: str, handler: Any) -> None:
    run = RunFolder.at(f"{bucket}/lost")
    before = signal.signal(signal.SIGINT, handler)

    def work() -> None:
        with locked(run, BEAT):
            run.write_json(LOCK, {"owner": "rival", "host": "elsewhere", "process": 9, "beat": 1})
            time.sleep(60)

    try:
        with pytest.raises(StorageError, match=r"process 9 on elsewhere"):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.read_json(LOCK)["owner"] == "rival"
