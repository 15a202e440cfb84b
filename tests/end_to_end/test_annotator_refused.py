"""An annotator that cannot be used is one sentence and exit code 2, and the same command goes on once it can."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.small_runs import small_run
from vp_ray.cli import main
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.shapeworld.config import JudgeSettings
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


def job_at(path: Path, **annotator: Any) -> str:
    """A job that annotates three groups of rendered images."""
    small_run(path / "run", PROMPTS)
    asked = {"name": "judge", "model": "shapeworld-oracle", "requests_per_minute": 0, **annotator}
    values = {"run": str(path / "run"), "annotate": {"annotators": [asked], "orders": ORDERS}, "report": None}
    (path / "job.yaml").write_text(yaml.safe_dump(values))
    return str(path / "job.yaml")


def run(job: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, list[str]]:
    """Exit code, standard output and the sentences of errors."""
    with pytest.raises(SystemExit) as stop:
        main(["annotate", job])
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
