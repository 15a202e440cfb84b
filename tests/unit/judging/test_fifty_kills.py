"""`kill -9` at fifty random moments: no answer in the ledger is lost, and only what was under way is paid for again.

Each round forks a process that asks what the ledger lacks, so that a round costs no start of an interpreter. What was
paid is what the judge let in: after each kill it must be what came into the ledger, and at most what was under way.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.small_runs import png
from tests.unit.judging.conftest import JudgeAt, annotator, open_judge, stats
from vp_ray.judging.ledger import answered
from vp_ray.judging.requests import Question
from vp_ray.judging.rubric import Rubric
from vp_ray.storage import Folder

REPOSITORY = Path(__file__).parents[3]
KILLS, QUESTIONS, CONCURRENCY = 50, 800, 4


def ask_rest(url: str, ledger: Folder, concurrency: int = CONCURRENCY) -> None:
    """Asks what the ledger lacks."""
    settings, done = annotator(concurrency=concurrency, limits="cap"), answered(ledger)
    picture = png(np.zeros((16, 16, 3), np.uint8))
    names = [f"j{number}" for number in range(QUESTIONS) if f"j{number}" not in done]
    with open_judge(settings, url, Rubric.load("visionprefer"), ledger) as (judge, _):
        judge([Question(name, "p", "a red circle", ("a", "b"), (picture, picture)) for name in names])


def paid(url: str) -> int:
    """Requests that the judge let in, once all that were on their way have come."""
    seen = -1
    while seen != (now := int(stats(url)["admitted"])):
        seen = now
        time.sleep(0.02)
    return seen


def kill_often(url: str, ledger: Folder) -> None:
    """Fifty processes that are killed at random moments; prints how many requests were paid for and not kept."""
    rng, before, lost = random.Random(0), set[str](), 0
    for _ in range(KILLS):
        child = os.fork()
        if child == 0:
            ask_rest(url, ledger)
            os._exit(0)
        time.sleep(rng.uniform(0.05, 0.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        now = answered(ledger)
        assert before <= now
        assert 0 <= paid(url) - len(now) - lost <= CONCURRENCY
        before, lost = now, paid(url) - len(now)
    print(lost)


def test_fifty_kills_lose_nothing_and_pay_twice_at_most_for_what_was_under_way(
    judge_at: JudgeAt, tmp_path: Path
) -> None:
    url, ledger = judge_at(canned=True, latency_seconds=0.15), Folder.at(tmp_path / "ledger")
    arguments = [sys.executable, "-m", "tests.unit.judging.test_fifty_kills", url, ledger.uri]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(arguments, cwd=REPOSITORY, env=environment, check=True, timeout=120, stdout=subprocess.PIPE)
    assert 0 < len(answered(ledger)) < QUESTIONS
    lost = int(done.stdout)
    assert 0 < lost <= KILLS * CONCURRENCY
    ask_rest(url, ledger, concurrency=64)
    assert len(answered(ledger)) == QUESTIONS
    assert stats(url)["admitted"] == QUESTIONS + lost


if __name__ == "__main__":
    kill_often(sys.argv[1], Folder.at(sys.argv[2]))
