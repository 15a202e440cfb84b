"""The command `annotate`: what it will cost, what stops it in one sentence, and what it asks again.

An annotator that cannot be used is exit code 2, and the same command goes on once it can.
"""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.small_runs import small_run
from vp_ray.cli import main
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.shapeworld.config import FaultSettings, JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge

PROMPTS, ORDERS = 3, 2


@pytest.fixture(scope="module", autouse=True)
def ray_cluster() -> Iterator[None]:
    """One local cluster for all commands of this module, which use the one that is there."""
    with connect(RaySettings()):
        yield


@pytest.fixture(scope="module")
def guarded_judge() -> Iterator[str]:
    """A judge that lets in only who carries the key `right`."""
    with running_judge(JudgeSettings(api_key="right")) as url:
        yield url


def job_at(path: Path, budget_usd: float | None = None, **annotator: Any) -> str:
    """A job that annotates three groups of rendered images; the same run when it is made again."""
    if not (path / "run").exists():
        small_run(path / "run", PROMPTS)
    asked = {"name": "judge", "model": "shapeworld-oracle", "requests_per_minute": 0, **annotator}
    stage = {"annotators": [asked], "orders": ORDERS, "budget_usd": budget_usd}
    values = {"run": str(path / "run"), "annotate": stage, "report": None}
    (path / "job.yaml").write_text(yaml.safe_dump(values))
    return str(path / "job.yaml")


def run(job: str, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, list[str]]:
    """Exit code, standard output and the sentences of errors."""
    with pytest.raises(SystemExit) as stop:
        main(["annotate", job, *options])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert isinstance(stop.value.code, int)
    return stop.value.code, out, [line for line in err.splitlines() if line.startswith("error: ")]


def test_a_judge_that_does_not_run_is_named_with_its_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        code, _, (sentence,) = run(job_at(tmp_path, base_url=url), capsys)
    assert code == 2
    assert f"the annotator 'judge' does not answer at {url}" in sentence
    assert "Start it or correct its base_url" in sentence
    assert not (tmp_path / "run" / "annotate" / "manifest.json").exists()


def test_a_key_that_is_missing_or_wrong_is_named_and_nothing_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], guarded_judge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_at(tmp_path, base_url=guarded_judge, api_key_env="VP_TEST_JUDGE_KEY")
    monkeypatch.delenv("VP_TEST_JUDGE_KEY", raising=False)
    code, _, (sentence,) = run(job, capsys)
    assert code == 2
    assert "the environment variable VP_TEST_JUDGE_KEY holds no key for the annotator 'judge'" in sentence

    monkeypatch.setenv("VP_TEST_JUDGE_KEY", "wrong")
    code, _, (sentence,) = run(job, capsys)
    assert code == 2
    assert "the annotator 'judge' refuses the key (HTTP 401" in sentence
    assert "Correct the key in VP_TEST_JUDGE_KEY" in sentence
    assert "wrong" not in sentence

    ledger = tmp_path / "run" / "annotate" / "ledger"
    assert not list(ledger.glob("*.jsonl"))


def test_a_model_that_the_judge_does_not_know_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_judge(JudgeSettings()) as url:
        code, _, (sentence,) = run(job_at(tmp_path, base_url=url, model="gpt-nothing"), capsys)
    assert code == 2
    assert "the annotator 'judge' knows no model 'gpt-nothing'" in sentence


def test_an_address_is_corrected_and_the_same_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, (sentence,) = run(job_at(tmp_path, base_url="http://127.0.0.1:9/v1"), capsys)
    assert code == 2
    assert "correct its base_url, then start the run again" in sentence
    with running_judge(JudgeSettings()) as url:
        code, out, _ = run(job_at(tmp_path, base_url=url), capsys)
    assert code == 0
    assert f"{PROMPTS * ORDERS} scored" in out


def test_a_judge_that_comes_back_is_asked_and_answers_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = job_at(tmp_path, base_url=f"http://127.0.0.1:{port}/v1")
    code, _, _ = run(job, capsys)
    assert code == 2
    with running_judge(JudgeSettings(port=port)):
        code, out, errors = run(job, capsys)
    assert (code, errors) == (0, [])
    assert f"{PROMPTS * ORDERS} scored" in out


DEAR = {"request_usd_per_million_tokens": 100, "reply_usd_per_million_tokens": 100}


def test_an_estimate_says_requests_dollars_and_hours_and_asks_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_at(tmp_path, base_url="http://127.0.0.1:9/v1", price=DEAR)
    code, out, _ = run(job, capsys, "--estimate", "--tier", "1/0")
    assert code == 0
    header, row = (line.split("  ") for line in out.splitlines())
    assert [cell.strip() for cell in header if cell] == [
        *("annotator", "requests", "request tokens", "reply tokens", "US dollars", "hours")
    ]
    name, requests, sent, replied, dollars, hours = (cell.strip() for cell in row if cell)
    assert (name, requests, hours) == ("judge", str(PROMPTS * ORDERS), f"{PROMPTS * ORDERS / 60:.2f}")
    tokens = sum(int(count.replace(",", "")) for count in (sent, replied))
    assert float(dollars) == pytest.approx(tokens * 1e-4, abs=0.01)
    assert not (tmp_path / "run" / "annotate" / "manifest.json").exists()
    code, _, (sentence,) = run(job, capsys, "--tier", "1/0")
    assert code == 2
    assert "--tier has no effect without --estimate" in sentence


def test_a_budget_stops_before_it_is_passed_says_what_is_left_and_a_larger_one_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = tmp_path / "run" / "annotate" / "ledger"
    with running_judge(JudgeSettings()) as url:
        asked = {"base_url": url, "price": DEAR, "concurrency": 1, "max_reply_tokens": 600}
        code, _, (sentence,) = run(job_at(tmp_path, budget_usd=0.6, **asked), capsys)
        assert code != 0
        assert "raise the stage's budget_usd and start the run again" in sentence
        rows = [json.loads(line) for path in ledger.glob("*.jsonl") for line in path.read_text().splitlines()]
        spent = sum(row["cost_usd"] for row in rows)
        assert 0 < len(rows) < PROMPTS * ORDERS
        assert spent <= 0.6
        assert f"of which {0.6 - spent:.2f} US dollars are left" in sentence
        code, out, _ = run(job_at(tmp_path, budget_usd=10.0, **asked), capsys)
        assert code == 0
        assert f"{PROMPTS * ORDERS} scored" in out
        assert stats(url)["requests"] == PROMPTS * ORDERS


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url.replace("/v1", "/stats"), timeout=10) as reply:  # noqa: S310
        return json.loads(reply.read())


def test_what_was_refused_is_listed_and_asked_again_on_request_and_nothing_else_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = tmp_path / "run" / "annotate" / "dead_letters.jsonl"
    with running_judge(JudgeSettings(faults=FaultSettings(refused=0.5), seed=1)) as url:
        code, out, _ = run(job_at(tmp_path, base_url=url), capsys)
        assert code == 0
        dead = [json.loads(line) for line in letters.read_text().splitlines()]
        assert 0 < len(dead) < PROMPTS * ORDERS
        assert {(letter["status"], letter["reply"]) for letter in dead} == {
            ("refused", "I'm sorry, I cannot help with that.")
        }
        assert f"{len(dead)} refused" in out
        before = stats(url)["requests"]
        code, out, _ = run(job_at(tmp_path, base_url=url), capsys)
        assert (code, stats(url)["requests"]) == (0, before), "a finished stage asks nothing"
    with running_judge(JudgeSettings()) as url:
        code, out, _ = run(job_at(tmp_path, base_url=url), capsys, "--retry", "refused,unreadable")
        assert code == 0
        assert f"{len(dead)} judgements are asked again" in out
        assert f"{PROMPTS * ORDERS} scored" in out
        assert stats(url)["requests"] == len(dead)
    assert letters.read_text() == ""
    code, _, (sentence,) = run(job_at(tmp_path), capsys, "--retry", "scored")
    assert code == 2
    assert "'scored' cannot be asked again" in sentence
