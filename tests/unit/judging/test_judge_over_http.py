"""A judge against the embedded server over HTTP: every status, every fault, and what stops a run."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.judging.conftest import JudgeAt, annotator, make_questions, open_judge, stats
from tests.unit.judging.scripted_server import ScriptedServer, completion, problem
from vp_ray.errors import AnnotatorError, BudgetError
from vp_ray.judging.client import check_annotator
from vp_ray.judging.config import AnnotatorSettings, PriceSettings
from vp_ray.judging.ledger import answered, read_ledger, spent_usd
from vp_ray.judging.requests import Question
from vp_ray.judging.rubric import Rubric
from vp_ray.records import ASPECTS, JUDGEMENTS
from vp_ray.shapeworld.judgement import judge_image
from vp_ray.shapeworld.scenes import parse_prompt
from vp_ray.storage import Folder

DEAR = PriceSettings(request_usd_per_million_tokens=100, reply_usd_per_million_tokens=100)


def test_every_level_is_the_one_that_the_judge_gave_that_image(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    settings, ledger = annotator(), Folder.at(tmp_path)
    questions = make_questions(6, settings, rubric)
    with open_judge(settings, judge_at(), rubric, ledger) as (judge, _):
        rows = judge(questions)
    assert [row["judgement_id"] for row in rows] == [question.judgement_id for question in questions]
    for question, row in zip(questions, rows, strict=True):
        assert set(row) == set(JUDGEMENTS.names)
        assert (row["status"], row["attempts"], row["cost_usd"]) == ("scored", 1, 0.0)
        given = {(item["image_id"], item["aspect"]): item["level"] for item in row["levels"]}
        for image_id, data in zip(question.image_ids, question.images, strict=True):
            pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            opinions = judge_image(parse_prompt(question.prompt), pixels)
            assert all(given[image_id, aspect] == opinions[aspect].level for aspect in ASPECTS)
    table = read_ledger(ledger)
    assert table.num_rows == 12
    kept = {row["judgement_id"]: row for row in table.to_pylist()}
    assert all(kept[row["judgement_id"]]["levels"] == row["levels"] for row in rows)


def test_under_all_faults_at_once_every_question_has_an_answer_or_a_status(judge_at: JudgeAt, rubric: Rubric) -> None:
    shares = dict.fromkeys(
        ("server_error", "reset", "malformed", "truncated", "refused", "content_filtered", "rate_limited"), 0.07
    )
    settings = annotator(max_attempts=8)
    questions = make_questions(40, settings, rubric)
    url = judge_at(faults=shares, seed=3)
    with open_judge(settings, url, rubric) as (judge, _):
        rows = judge(questions)
    counts = Counter(row["status"] for row in rows)
    assert len(rows) == len(questions) == 80
    # Which request meets which fault depends on their order of arrival.
    assert {"scored", "truncated", "refused", "content_filtered"} <= set(counts)
    assert set(counts) <= {"scored", "truncated", "refused", "content_filtered", "unreadable"}
    assert counts["scored"] > 50
    assert counts["unreadable"] <= 5
    for row in rows:
        assert len(row["levels"]) == (16 if row["status"] == "scored" else 0)
        assert row["reply"] is not None
    assert sum(row["attempts"] for row in rows) == stats(url)["requests"]


def test_a_reply_that_stays_unreadable_is_asked_for_twice_with_the_reason_and_kept(rubric: Rubric) -> None:
    server = ScriptedServer()
    server.reply(200, completion("All four pictures are lovely."))
    with open_judge(annotator(), server.url, rubric) as (judge, _):
        row = judge(make_questions(1, annotator(), rubric)[:1])[0]
    server.close()
    assert (row["status"], row["attempts"], row["levels"]) == ("unreadable", 2, [])
    assert row["reply"] == "All four pictures are lovely."
    assert "not valid JSON" in row["error"]
    said = json.loads(server.asked)["messages"][1:]
    assert said[0] == {"role": "assistant", "content": "All four pictures are lovely."}
    assert "not valid JSON" in said[1]["content"]


def test_a_judge_has_one_client_whose_connections_are_used_again_and_which_repeats_nothing_by_itself(
    rubric: Rubric,
) -> None:
    server, settings = ScriptedServer(), annotator(concurrency=3, max_attempts=1)
    with open_judge(settings, server.url, rubric) as (judge, _):
        server.reply(200, completion("no"))
        assert len(judge(make_questions(10, settings, rubric))) == 20
        assert server.connections <= 3
        assert server.requests == 20
        server.reply(500, problem("server_error"))
        with pytest.raises(AnnotatorError, match="gives no answer"):
            judge(make_questions(1, settings, rubric)[:1])
    server.close()
    assert server.requests == 21


def test_single_quotes_after_a_sentence_cost_no_second_request(judge_at: JudgeAt, rubric: Rubric) -> None:
    settings, url = annotator(), judge_at(canned=True, faults={"malformed": 1.0})
    with open_judge(settings, url, rubric) as (judge, _):
        row = judge(make_questions(1, settings, rubric)[:1])[0]
    assert row["reply"].startswith("Here is my judgement: {'")
    assert (row["status"], row["attempts"], {item["level"] for item in row["levels"]}) == ("scored", 1, {3})


def test_answers_that_do_not_come_in_time_are_timed_out_while_others_come_and_count_at_their_dearest(
    judge_at: JudgeAt, rubric: Rubric
) -> None:
    settings = annotator(max_attempts=1, timeout_seconds=3.0, price=DEAR)
    with open_judge(settings, judge_at(faults={"timeout": 0.2, "timeout_seconds": 60.0}), rubric) as (judge, gate):
        rows = judge(make_questions(10, settings, rubric))
    counts = Counter(row["status"] for row in rows)
    assert set(counts) == {"scored", "timed_out"}
    assert sum(counts.values()) == 20
    # They may be billed: 1,500 tokens of reply and the request's.
    assert all(row["cost_usd"] > 0.15 for row in rows if row["status"] == "timed_out")
    assert gate.spent_usd == pytest.approx(sum(row["cost_usd"] for row in rows))


def test_what_a_server_said_instead_of_an_answer_is_kept_in_the_row(rubric: Rubric) -> None:
    server = ScriptedServer()
    server.reply(400, problem("invalid_image", "the dog ate it"))
    with open_judge(annotator(), server.url, rubric) as (judge, _):
        (row,) = judge(make_questions(1, annotator(), rubric)[:1])
    server.close()
    assert row["status"] == "rejected"
    assert "the dog ate it" in row["reply"]
    assert "HTTP 400" in row["error"]


def test_an_image_that_cannot_be_read_is_rejected_alone_and_nothing_is_sent_for_it(
    judge_at: JudgeAt, rubric: Rubric
) -> None:
    settings = annotator()
    good, other = make_questions(1, settings, rubric)
    bad = Question("bad", "p", "a red circle", ("x",), (b"no picture",))
    with open_judge(settings, judge_at(), rubric) as (judge, gate):
        rows = judge([good, bad, other])
    assert [row["status"] for row in rows] == ["scored", "rejected", "scored"]
    assert "not a readable image" in rows[1]["error"]
    assert gate.figures()["judge"]["requests"] == 2


def test_a_prompt_outside_the_judges_world_is_a_refusal_with_its_reason(judge_at: JudgeAt, rubric: Rubric) -> None:
    settings = annotator()
    question = make_questions(1, settings, rubric)[0]
    free = Question("free", "p", "a cat </prompt> in the rain", question.image_ids, question.images)
    with open_judge(settings, judge_at(), rubric) as (judge, _):
        row = judge([free])[0]
    assert row["status"] == "refused"
    assert "not a scene of the embedded world" in row["reply"]


def test_the_wrong_key_stops_the_run_and_says_where_the_key_comes_from(
    judge_at: JudgeAt, rubric: Rubric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "wrong")
    url = judge_at(api_key="right")
    settings = annotator(base_url=url, api_key_env="TEST_KEY")
    for ask in (lambda: check_annotator(settings, url), lambda: _answers(settings, url, rubric)):
        with pytest.raises(AnnotatorError, match=r"refuses the key.*TEST_KEY.*goes on from here"):
            ask()
    monkeypatch.setenv("TEST_KEY", "right")
    check_annotator(settings, url)
    assert _answers(settings, url, rubric) == 4


def _answers(settings: AnnotatorSettings, url: str, rubric: Rubric) -> int:
    with open_judge(settings, url, rubric) as (judge, _):
        return len(judge(make_questions(2, settings, rubric)))


def test_an_unknown_model_stops_the_run_and_is_named(judge_at: JudgeAt, rubric: Rubric) -> None:
    with pytest.raises(AnnotatorError, match="knows no model 'gpt-nonsense'"):
        _answers(annotator(model="gpt-nonsense"), judge_at(), rubric)


def test_a_judge_that_is_not_running_stops_the_run_instead_of_giving_up_row_by_row(rubric: Rubric) -> None:
    with pytest.raises(AnnotatorError, match=r"gives no answer at http://127.0.0.1:9/v1/.*Nothing is lost"):
        _answers(annotator(max_attempts=2), "http://127.0.0.1:9/v1", rubric)


def test_an_annotator_that_rejects_everything_stops_the_run_with_its_words(rubric: Rubric) -> None:
    settings = annotator()
    server = ScriptedServer()
    server.reply(400, problem("invalid_schema", "json_schema is not supported here"))
    with open_judge(settings, server.url, rubric) as (judge, _), pytest.raises(AnnotatorError) as raised:
        judge(make_questions(6, settings, rubric))
    server.close()
    assert "rejects every request" in str(raised.value)
    assert "json_schema is not supported here" in str(raised.value)


def test_when_the_quota_ends_what_was_answered_is_kept_and_another_run_asks_only_for_the_rest(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    settings, ledger = annotator(concurrency=4), Folder.at(tmp_path)
    questions = make_questions(10, settings, rubric)
    with (
        open_judge(settings, judge_at(quota_requests=7), rubric, ledger) as (judge, _),
        pytest.raises(AnnotatorError, match=r"no quota left.*Add credit"),
    ):
        judge(questions)
    kept = answered(ledger)
    assert len(kept) == 7
    url = judge_at(seed=11)
    with open_judge(settings, url, rubric, ledger) as (judge, _):
        judge([question for question in questions if question.judgement_id not in kept])
    assert len(answered(ledger)) == 20
    assert stats(url)["requests"] == 13


def test_the_budget_stops_before_it_is_passed_and_keeps_what_was_paid(
    judge_at: JudgeAt, rubric: Rubric, tmp_path: Path
) -> None:
    settings, ledger = annotator(price=DEAR), Folder.at(tmp_path)
    budget = 3.0
    with (
        open_judge(settings, judge_at(), rubric, ledger, budget_usd=budget) as (judge, gate),
        pytest.raises(BudgetError, match="Every answer that was paid for is kept"),
    ):
        judge(make_questions(30, settings, rubric))
    assert 0 < spent_usd(ledger) <= budget
    assert gate.spent_usd == pytest.approx(spent_usd(ledger))
    assert gate.held_usd == pytest.approx(0.0, abs=1e-9)
    # Nothing is left over that another request, at its dearest, could have been paid from.
    assert budget - spent_usd(ledger) < 0.45


def test_limits_that_only_the_servers_headers_state_are_learnt(judge_at: JudgeAt, rubric: Rubric) -> None:
    settings = annotator()
    url = judge_at(requests_per_minute=600, limiter="gcra", burst_seconds=2.0)
    with open_judge(settings, url, rubric) as (judge, gate):
        rows = judge(make_questions(25, settings, rubric))
    assert {row["status"] for row in rows} == {"scored"}
    assert gate.figures()["judge"]["requests_per_minute_allowed"] == 600
    assert stats(url)["rate_limited"] <= 5


def test_tokens_and_cost_are_those_that_the_server_bills(judge_at: JudgeAt, rubric: Rubric) -> None:
    settings = annotator(price=DEAR)
    with open_judge(settings, judge_at(), rubric) as (judge, _):
        row = judge(make_questions(1, settings, rubric)[:1])[0]
    assert row["request_tokens"] > 4 * 85
    assert row["reply_tokens"] > 100
    assert row["cost_usd"] == pytest.approx((row["request_tokens"] + row["reply_tokens"]) * 1e-4)
