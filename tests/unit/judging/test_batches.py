"""Judgements through `/v1/batches` of the embedded judge, over real HTTP with the openai client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.unit.judging.batching import DOLLAR, batcher, office, silent
from tests.unit.judging.conftest import JudgeAt, annotator, make_questions, open_judge, stats
from vp_ray.errors import AnnotatorError, BudgetError
from vp_ray.judging.ledger import answered, ledger_rows, read_ledger, spent_usd
from vp_ray.judging.rubric import Rubric
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.storage import Folder

REPOSITORY = Path(__file__).parents[3]


def rows_of(folder: Folder) -> list[dict[str, Any]]:
    return read_ledger(folder / "ledger").to_pylist()


def records(folder: Folder) -> list[dict[str, Any]]:
    batches = folder / "batches"
    return [json.loads(batches.read_bytes(name)) for name in batches.names()]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_batched_rows_equal_live_ones_at_half_the_price(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path, api: str
) -> None:
    url, live = judge_at(), annotator(price=DOLLAR, api=api)
    questions = make_questions(6, live, rubric)
    with open_judge(live, url, rubric) as (judge, _):
        expected = judge(questions)
    folder = Folder.at(tmp_path)
    notes: list[str] = []
    desk, run = office(batcher(api=api), url, questions, folder)
    desk.finish(lambda answers, note: notes.append(f"{answers}: {note}"))
    found = {row["judgement_id"]: row for row in rows_of(folder)}
    for row in expected:
        own = found[row["judgement_id"]]
        assert own["cost_usd"] == pytest.approx(row["cost_usd"] / 2)
        for name in set(row) - {"cost_usd", "latency_seconds", "answered_at"}:
            assert own[name] == ([dict(level) for level in row[name]] if name == "levels" else row[name]), name
        assert own["latency_seconds"] >= 0
    assert dict(run.counts) == {"batches": 3, "requests": 12, "completed": 3, "asked_again": 0}
    assert sorted(len(record["tokens"]) for record in records(folder)) == [2, 5, 5]
    batches = {record["batch_id"] for record in records(folder)}
    assert notes[0].startswith("0: 3 batches under way, ")
    assert notes[-1] == "12: "
    client = openai.OpenAI(base_url=url, api_key="any")
    endpoints = {batch.endpoint for batch in client.batches.list() if batch.id in batches}
    assert endpoints == {"/v1/responses" if api == "responses" else "/v1/chat/completions"}
    assert not [file for file in client.files.list() if file.purpose == "batch"], "uploads are removed when collected"


def test_files_stay_below_the_limit_of_bytes(judge_at: JudgeAt, rubric: Rubric, tmp_path: Path) -> None:
    url = judge_at(batches={"max_megabytes": 0.1, "max_requests": 50})
    settings = batcher(batch={"requests_per_file": 50, "megabytes_per_file": 0.1})
    questions = make_questions(8, settings, rubric)
    desk, run = office(settings, url, questions, Folder.at(tmp_path))
    desk.finish(silent)
    assert {row["status"] for row in rows_of(Folder.at(tmp_path))} == {"scored"}
    assert run.counts["batches"] == run.counts["completed"] > 1


def test_expired_and_failed_requests_are_sent_again_and_then_get_a_status(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    url = judge_at(batches={"expired_lines": 0.4}, faults={"server_error": 0.3})
    settings = batcher(max_attempts=3)
    desk, run = office(settings, url, make_questions(10, settings, rubric), Folder.at(tmp_path))
    desk.finish(silent)
    rows = rows_of(Folder.at(tmp_path))
    counts = Counter(row["status"] for row in rows)
    assert len(rows) == 20
    assert counts["scored"] > 10
    assert set(counts) <= {"scored", "timed_out", "given_up"}
    assert run.counts["expired"] > 0
    assert run.counts["asked_again"] > 0
    assert all(row["attempts"] == 3 for row in rows if row["status"] != "scored")
    assert {row["error"] for row in rows if row["status"] == "timed_out"} <= {"the batch ended as expired"}
    assert all("HTTP 500" in row["error"] for row in rows if row["status"] == "given_up")


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_unreadable_answers_are_asked_again_with_the_error_and_all_is_paid_for(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path, api: str
) -> None:
    url = judge_at(faults={"malformed": 0.5, "refused": 0.1, "truncated": 0.1, "content_filtered": 0.1}, seed=5)
    settings, before = batcher(api=api), stats(url)["requests"]
    desk, run = office(settings, url, make_questions(20, settings, rubric), Folder.at(tmp_path))
    desk.finish(silent)
    rows = rows_of(Folder.at(tmp_path))
    statuses = {"scored", "refused", "truncated", "content_filtered", "unreadable"}
    assert {row["status"] for row in rows} == statuses
    assert stats(url)["requests"] - before == sum(row["attempts"] for row in rows)
    again = [row for row in rows if row["attempts"] == 2]
    assert len(again) == run.counts["asked_again"]
    once = max(row["cost_usd"] for row in rows if row["attempts"] == 1)
    assert max(row["cost_usd"] for row in again) > 1.5 * once
    assert all(row["attempts"] == 2 for row in rows if row["status"] == "unreadable")


def test_a_full_queue_is_waited_for_with_smaller_files(judge_at: JudgeAt, rubric: Rubric, tmp_path: Path) -> None:
    url = judge_at(batches={"queue_tokens": 4000, "seconds": 0.1})
    settings = batcher()
    desk, run = office(settings, url, make_questions(4, settings, rubric), Folder.at(tmp_path))
    desk.finish(silent)
    rows = rows_of(Folder.at(tmp_path))
    assert [row["status"] for row in rows] == ["scored"] * 8
    assert {row["attempts"] for row in rows} == {1}
    assert run.counts["failed"] > 0
    with pytest.raises(AnnotatorError, match=r"batch queue of the annotator 'judge' stays full .*Enqueued token limit"):
        office(
            settings,
            judge_at(batches={"queue_tokens": 10}),
            make_questions(1, settings, rubric),
            Folder.at(tmp_path / "x"),
        )[0].finish(silent)


def test_lines_that_fail_validation_are_rejected_and_the_others_sent_again(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    url = judge_at(batches={"failed_lines": 0.1}, seed=3)
    settings = batcher()
    desk, run = office(settings, url, make_questions(15, settings, rubric), Folder.at(tmp_path))
    desk.finish(silent)
    counts = Counter(row["status"] for row in rows_of(Folder.at(tmp_path)))
    assert set(counts) == {"scored", "rejected"}
    assert counts.total() == 30
    assert run.counts["failed"] > 0
    rejected = [row for row in rows_of(Folder.at(tmp_path)) if row["status"] == "rejected"]
    assert {row["error"] for row in rejected} == {"invalid_request: This line could not be validated."}
    assert {row["cost_usd"] for row in rejected} == {0.0}


def test_a_provider_that_takes_no_batch_stops_the_run_and_nothing_is_lost(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    settings, folder = batcher(), Folder.at(tmp_path)
    questions = make_questions(2, settings, rubric)
    with pytest.raises(AnnotatorError, match=r"takes no batch \(invalid_file: .*take `batch` out"):
        office(settings, judge_at(batches={"failed_batches": 1.0}), questions, folder)[0].finish(silent)
    assert answered(folder / "ledger") == set()
    office(settings, judge_at(), questions, folder)[0].finish(silent)
    assert {row["status"] for row in rows_of(folder)} == {"scored"}


def test_the_budget_counts_what_is_under_way_and_a_larger_one_goes_on(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    url, settings, folder = judge_at(batches={"seconds": 0.2}), batcher(max_reply_tokens=1000), Folder.at(tmp_path)
    questions = make_questions(8, settings, rubric)
    desk, run = office(settings, url, questions, folder, budget_usd=6.0)
    desk.submit()
    assert 0 < sum(record["estimate_usd"] for record in records(folder)) <= 6.0
    sent = len(run.book.under_way())
    assert sent < 16
    with pytest.raises(BudgetError, match="raise the stage's budget_usd"):
        desk.finish(silent)
    kept = len(answered(folder / "ledger"))
    assert sent <= kept < 16
    assert spent_usd(folder / "ledger") <= 6.0
    office(settings, url, questions, folder, budget_usd=100.0)[0].finish(silent)
    assert len(answered(folder / "ledger")) == 16
    assert sum(row["request_tokens"] > 0 for row in ledger_rows(folder / "ledger")) == 16


def test_a_cancelled_batch_gives_what_it_has_and_the_rest_is_sent_again(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    url, settings, folder = judge_at(batches={"seconds": 0.5}), batcher(), Folder.at(tmp_path)
    desk, run = office(settings, url, make_questions(4, settings, rubric), folder)
    desk.submit()
    client = openai.OpenAI(base_url=url, api_key="any")
    for record in records(folder):
        client.batches.cancel(record["batch_id"])
    desk.finish(silent)
    assert run.counts["cancelled"] == 2
    assert Counter(row["status"] for row in rows_of(folder)) == {"scored": 8}


def test_a_batch_whose_id_was_not_written_is_found_by_its_file_or_created_again(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    url, settings, folder = judge_at(batches={"seconds": 0.3}), batcher(), Folder.at(tmp_path)
    questions = make_questions(5, settings, rubric)
    desk, _ = office(settings, url, questions, folder)
    desk.submit()
    sent = records(folder)
    client = openai.OpenAI(base_url=url, api_key="any")
    never = client.files.create(file=("never.jsonl", b"{}"), purpose="batch")
    client.files.delete(never.id)
    for record, file_id in zip(sent, (sent[0]["input_file_id"], never.id), strict=True):
        lost = {**record, "state": "uploaded", "batch_id": None, "input_file_id": file_id}
        (folder / "batches").write_bytes(f"{record['name']}.json", json.dumps(lost).encode())
    office(settings, url, questions, folder)[0].finish(silent)
    by_name = {record["name"]: record for record in records(folder)}
    assert by_name[sent[0]["name"]]["batch_id"] == sent[0]["batch_id"]
    assert sent[1]["name"] not in by_name
    assert Counter(row["status"] for row in rows_of(folder)) == {"scored": 10}


def test_batches_that_ended_with_the_embedded_judge_are_sent_again_and_others_are_asked_for(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    folder, settings = Folder.at(tmp_path), batcher()
    questions = make_questions(3, settings, rubric)
    with running_judge(JudgeSettings.load({"batches": {"seconds": 60}})) as url:
        office(settings, url, questions, folder)[0].submit()
    url = judge_at()
    elsewhere = batcher(base_url=url)
    with pytest.raises(AnnotatorError, match=r"knows no batch .*delete batches/judge-\w+\.json"):
        office(elsewhere, url, questions, folder)[0].finish(silent)
    office(settings, url, questions, folder)[0].finish(silent)
    assert Counter(row["status"] for row in rows_of(folder)) == {"scored": 6}


def test_an_interrupt_leaves_the_batches_running_and_the_next_start_collects_them(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    url, folder = judge_at(batches={"seconds": 1.5}), Folder.at(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.judging.batching", url, folder.uri, "3"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while sum(record["state"] == "open" for record in records(folder)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert b"KeyboardInterrupt" in told
    sent = {record["batch_id"] for record in records(folder)}
    settings = batcher()
    office(settings, url, make_questions(3, settings, rubric), folder)[0].finish(silent)
    assert {record["batch_id"] for record in records(folder)} == sent
    assert Counter(row["status"] for row in rows_of(folder)) == {"scored": 6}
    assert stats(url)["requests"] == 6, "nothing was asked again"


def test_kill_9_at_any_step_of_a_batch_loses_nothing_and_pays_for_nothing_twice(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    url, folder, groups = judge_at(batches={"seconds": 0.6}, faults={"malformed": 0.1}), Folder.at(tmp_path), 10

    def uploaded() -> bool:
        return any(name.endswith(".json") for name in (folder / "batches").names())

    def created() -> bool:
        return sum(record["state"] != "uploaded" for record in records(folder)) > 1

    def collecting() -> bool:
        return len(answered(folder / "ledger")) > 2

    moments: list[Callable[[], bool]] = [uploaded, created, collecting]
    for moment in moments:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.judging.batching", url, folder.uri, str(groups)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        deadline = time.monotonic() + 120
        while not moment() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    settings = batcher()
    questions = make_questions(groups, settings, rubric)
    office(settings, url, questions, folder)[0].finish(silent)
    rows = rows_of(folder)
    assert {row["judgement_id"] for row in rows} == {question.judgement_id for question in questions}
    assert {row["status"] for row in rows} <= {"scored", "unreadable"}
    lines = Counter(row["judgement_id"] for row in ledger_rows(folder / "ledger"))
    assert set(lines.values()) == {1}
    seen = stats(url)
    assert seen["requests"] == sum(row["attempts"] for row in rows), "each request was answered once and is counted"
    assert seen["bodies_judged_again"] == 0
    assert {record["state"] for record in records(folder)} == {"collected"}
