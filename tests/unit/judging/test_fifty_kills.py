"""`kill -9` at fifty random moments: no answer in the ledger is lost, and only what was under way is paid for again.

Each round forks a process that asks what the ledger lacks, so that a round costs no start of an interpreter.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.unit.judging.conftest import JudgeAt, annotator, make_questions, open_judge, stats
from vp_ray.judging.ledger import answered
from vp_ray.judging.rubric import Rubric
from vp_ray.storage import Folder

REPOSITORY = Path(__file__).parents[3]
KILLS, GROUPS, CONCURRENCY = 50, 100, 4


def ask_rest(url: str, ledger: Folder) -> None:
    """Asks what the ledger lacks."""
    settings, rubric = annotator(concurrency=CONCURRENCY, limits="cap"), Rubric.load("visionprefer")
    done = answered(ledger)
    questions = [q for q in make_questions(GROUPS, settings, rubric) if q.judgement_id not in done]
    with open_judge(settings, url, rubric, ledger) as (judge, _):
        judge(questions)


def kill_often(url: str, ledger: Folder) -> None:
    """Fifty processes that are killed at random moments; after each, what was in the ledger before is still there."""
    rng, before = random.Random(0), set[str]()
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
        before = now


def test_fifty_kills_lose_nothing_and_pay_twice_at_most_for_what_was_under_way(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    url, ledger = judge_at(canned=True, latency_seconds=0.15), Folder.at(tmp_path / "ledger")
    arguments = [sys.executable, "-m", "tests.unit.judging.test_fifty_kills", url, ledger.uri]
    subprocess.run(arguments, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True, timeout=90)
    # Scenes are drawn by chance, so a few groups may be the same, and with them their questions.
    wanted = {question.judgement_id for question in make_questions(GROUPS, annotator(), rubric)}
    assert 0 < len(answered(ledger)) < len(wanted)
    ask_rest(url, ledger)
    assert answered(ledger) == wanted
    assert len(wanted) <= stats(url)["admitted"] <= len(wanted) + KILLS * CONCURRENCY


if __name__ == "__main__":
    kill_often(sys.argv[1], Folder.at(sys.argv[2]))
