"""`kill -9` in the middle: every answer that was there stays, and only what was under way is asked again."""

from __future__ import annotations

import os
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
GROUPS, CONCURRENCY = 30, 4


def test_after_kill_9_no_answer_in_the_ledger_is_paid_for_twice(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    url, ledger = judge_at(latency_seconds=0.2), Folder.at(tmp_path / "ledger")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.judging.asking_process", url, ledger.uri, str(GROUPS)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    deadline = time.monotonic() + 120
    while len(answered(ledger)) < 15 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = answered(ledger)
    assert 15 <= len(kept) < 2 * GROUPS

    settings = annotator(concurrency=CONCURRENCY)
    questions = make_questions(GROUPS, settings, rubric)
    with open_judge(settings, url, rubric, ledger) as (judge, _):
        rows = judge([question for question in questions if question.judgement_id not in kept])
    assert {row["status"] for row in rows} == {"scored"}
    assert answered(ledger) == {question.judgement_id for question in questions}
    seen = stats(url)
    assert seen["bodies_judged"] == 2 * GROUPS
    assert seen["bodies_judged_again"] <= CONCURRENCY
