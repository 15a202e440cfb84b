"""Groups of Ray Train workers: every rank runs, lost ranks are replaced, errors come back whole."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.ray import rank_functions
from vp_ray.distributed.config import WorkerSettings
from vp_ray.distributed.train import run_workers
from vp_ray.errors import ClusterError, NumericsError
from vp_ray.storage import Folder

# The address of S3 is in the environment before Ray's processes take theirs.
pytestmark = pytest.mark.usefixtures("bucket", "local_ray")


def lives(folder: Path, ranks: int = 2) -> list[int]:
    return [len((folder / f"lives-{rank}").read_text()) for rank in range(ranks)]


def test_every_rank_runs_with_its_group_and_threads_and_ctrl_c_stays_pythons(tmp_path: Path, bucket: str) -> None:
    polls: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    workers = WorkerSettings(num_workers=2, threads_per_worker=3)
    config = {"folder": str(tmp_path), "word": "hello"}
    storage = Folder.at(f"{bucket}/stage")
    run_workers(rank_functions.add_up, config, workers, "test", storage.uri, lambda: polls.append(1))
    assert [(tmp_path / f"rank-{rank}").read_text() for rank in (0, 1)] == ["3.0 3 cpu hello"] * 2
    assert polls
    assert signal.getsignal(signal.SIGINT) is before
    assert storage.folders() == storage.listed() == []


def test_an_error_with_a_remedy_comes_back_whole_and_is_not_tried_again(tmp_path: Path) -> None:
    workers = WorkerSettings(num_workers=2, max_failures=3)
    with pytest.raises(NumericsError) as caught:
        run_workers(rank_functions.fail_with_a_remedy, {"folder": str(tmp_path)}, workers, "test", str(tmp_path / "n"))
    assert str(caught.value) == "update 7: the ratio is 2. Lower the learning rate."
    assert lives(tmp_path) == [1, 1]


def test_another_error_is_told_with_its_traceback_once_the_restarts_are_used_up(tmp_path: Path) -> None:
    workers = WorkerSettings(num_workers=1, max_failures=1)
    with pytest.raises(ClusterError, match="nothing to divide by"):
        run_workers(rank_functions.fail, {"folder": str(tmp_path)}, workers, "test", str(tmp_path / "n"))
    assert lives(tmp_path, ranks=1) == [2]


def test_a_killed_rank_is_replaced_and_the_work_is_done(tmp_path: Path) -> None:
    workers = WorkerSettings(num_workers=2, max_failures=1)
    config = {"folder": str(tmp_path), "word": "again"}
    run_workers(rank_functions.die_once, config, workers, "test", str(tmp_path / "n"))
    assert [(tmp_path / f"rank-{rank}").read_text() for rank in (0, 1)] == ["3.0 1 cpu again"] * 2
    assert lives(tmp_path) == [2, 2]


def test_a_training_whose_controller_is_killed_is_started_again(tmp_path: Path) -> None:
    workers = WorkerSettings(num_workers=1, max_failures=1)
    config = {"folder": str(tmp_path), "word": "anew"}
    run_workers(rank_functions.lose_the_controller_once, config, workers, "test", str(tmp_path / "n"))
    assert (tmp_path / "rank-0").read_text() == "1.0 1 cpu anew"
    assert lives(tmp_path, ranks=1) == [2]
