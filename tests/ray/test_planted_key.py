"""A judge gives back the key that it was sent, in every answer and error: no file and no line of the run has it."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.small_runs import small_run
from vp_ray.cli import main
from vp_ray.errors import AnnotatorError
from vp_ray.judging.rubric import Rubric
from vp_ray.pipeline.running import run_job
from vp_ray.pipeline.settings import JobSettings

KEY = "planted-9f8e7d6c5b4a-in-no-known-form"
"""Of no vendor's form: it is known by its variable alone, whose name says nothing either."""
VARIABLE = "JUDGES_WORD"
RUBRIC = Rubric.load("visionprefer")


def answer(text: str) -> dict[str, Any]:
    opinion = {"rationale": text, "level": RUBRIC.levels[2]}
    images = {f"image_{place}": dict.fromkeys(RUBRIC.aspects, opinion) for place in range(1, 5)}
    return completion(json.dumps(images))


def completion(content: str, refusal: str | None = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


@contextmanager
def echoing_judge(status_of_all: int | None = None) -> Iterator[str]:
    """An address that quotes the request's key in rationales, refusals, unreadable replies and errors."""
    turns = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say(200, {"object": "list", "data": []})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            heard = self.headers["Authorization"]
            turn = next(turns) % 5
            if status_of_all or turn >= 3:
                error = {"message": f"Incorrect API key provided: {heard}", "code": "x", "type": heard}
                self._say(status_of_all or (400, 500)[turn - 3], {"error": error})
            else:
                said = (answer(f"as {heard} says"), completion("", f"not for {heard}"), completion(f"no JSON, {heard}"))
                self._say(200, said[turn])

        def _say(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            """Stays quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def job(run: Path, url: str) -> JobSettings:
    annotator = {
        "name": "echo",
        "model": "m",
        "base_url": url,
        "api_key_env": VARIABLE,
        "requests_per_minute": 0,
        "concurrency": 1,
        "max_attempts": 2,
        "price": {"request_usd_per_million_tokens": 1, "reply_usd_per_million_tokens": 1},
    }
    return JobSettings.load(
        {"run": str(run), "annotate": {"annotators": [annotator], "budget_usd": 1.0}, "logging": {"level": "debug"}}
    )


def holding(place: Path, secret: str) -> list[str]:
    """The files below a folder in which the text stands, in their bytes or in what their tables hold."""
    found = []
    for path in place.rglob("*"):
        if path.is_file() and not path.is_symlink():
            text = path.read_bytes().decode(errors="replace")
            if path.suffix == ".parquet":
                text += str(pq.read_table(path).to_pylist()) + str(pq.read_metadata(path).metadata)
            if secret in text:
                found.append(str(path.relative_to(place)))
    return found


def test_no_file_of_a_run_and_nothing_that_is_shown_holds_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    request.getfixturevalue("local_ray")  # now, since the cluster's processes have the key as a run's own have it
    run = small_run(tmp_path / "run", prompts=5)
    with echoing_judge() as url:
        results = run_job(job(tmp_path / "run", url), "annotate", "report")
    rows = run.stage("annotate").read_table("judgements.parquet").to_pylist()
    said = [str(row["reply"]) + str(row["error"]) for row in rows]
    assert len(results["annotate"].manifest.rows) >= 2, "the judge answered in several ways"
    assert any("as Bearer [redacted] says" in text for text in said)
    assert run.stage("report").exists("index.html")
    assert list((tmp_path / "run" / "logs").iterdir())
    assert holding(tmp_path, KEY) == []
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path / "run")])

    refused = small_run(tmp_path / "refused", prompts=2)
    with echoing_judge(401) as url, pytest.raises(AnnotatorError, match="refuses the key") as error:
        run_job(job(tmp_path / "refused", url), "annotate", "annotate")
    assert KEY not in str(error.value)
    assert "[redacted]" in str(error.value)
    assert holding(Path(refused.uri), KEY) == []
    assert holding(Path(os.environ["RAY_TMPDIR"]), KEY) == [], "neither in the logs of Ray's own processes"
    out, err = capfd.readouterr()
    assert KEY not in out + err
