"""Rows accounted for and rows a second under faults, over fault-free, at a judge on loopback that enforces its limits.

Faults: 5 % each of 429, 500, time-out, reset, malformed JSON and truncation, 2 % refusal. A retry costs a request, so
that the throughput cannot be 1: `requests_a_row` tells what each row took. Rounds alternate after a warm-up.
"""

import io
import json
import statistics
import time
import urllib.request
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image
from runs import print_figure

from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.engine import Judge
from vp_ray.judging.gate import Gate, LocalLimiter
from vp_ray.judging.requests import Question
from vp_ray.judging.rubric import Rubric
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge

ROUNDS, ROWS, RATE = 5, 600, 1800
FAULTS = dict.fromkeys(("rate_limited", "server_error", "timeout", "reset", "malformed", "truncated"), 0.05)
RUBRIC = Rubric.load("visionprefer")


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = tuple(picture(seed) for seed in range(4))


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url.replace("/v1", "/stats"), timeout=10) as reply:  # noqa: S310
        found: dict[str, Any] = json.loads(reply.read())
        return found


def measure(faults: dict[str, float], number: int) -> dict[str, Any]:
    """One run of `ROWS` questions at a judge of its own."""
    judge = JudgeSettings.load(
        {
            "canned": True,
            "latency_seconds": 0.5,
            "latency_spread": 0.5,
            "requests_per_minute": RATE,
            "limiter": "gcra",
            "burst_seconds": 2.0,
            "seed": number,
            "faults": {**faults, "timeout_seconds": 60.0},
        }
    )
    questions = [
        Question(f"{number}-{row}", f"p{row}", "a red circle", ("a", "b", "c", "d"), PICTURES) for row in range(ROWS)
    ]
    with running_judge(judge) as url:
        settings = AnnotatorSettings(
            name="judge",
            model="shapeworld-judge",
            base_url=url,
            requests_per_minute=RATE,
            concurrency=96,
            timeout_seconds=4.0,
        )
        with Judge(settings, url, RUBRIC, LocalLimiter(Gate([settings]))) as engine:
            started = time.monotonic()
            rows = engine(questions)
            seconds = time.monotonic() - started
        seen = stats(url)
    statuses = Counter(row["status"] for row in rows)
    retried = [place for place, row in enumerate(rows) if row["attempts"] > 1]
    # Every reply is paid, read or not; time-outs may be.
    paid = seen["answers"].get("200", 0) - ROWS
    return {
        "seconds": seconds,
        "accounted": sum(statuses.values()) / ROWS,
        "requests": seen["requests"] / ROWS,
        "statuses": dict(statuses),
        "median_retried_row": statistics.median(retried) / ROWS if retried else 0.5,
        "paid_again": paid / ROWS,
    }


measure({}, 0)
clean, faulty = [], []
for number in range(1, ROUNDS + 1):
    clean.append(measure({}, number))
    faulty.append(measure({**FAULTS, "refused": 0.02}, number))
speeds = [one["seconds"] / other["seconds"] for one, other in zip(clean, faulty, strict=True)]
print_figure(
    "annotation_rows_accounted", min(run["accounted"] for run in clean + faulty), "ratio", "rows asked", **faulty[-1]
)
print_figure(
    "annotation_fault_speed",
    statistics.median(speeds),
    "ratio",
    "the same without faults",
    requests_a_row=statistics.median(run["requests"] for run in faulty),
    rows_paid_again=statistics.median(run["paid_again"] for run in faulty),
)
