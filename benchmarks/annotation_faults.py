"""Rows accounted for and rows a second under faults, over fault-free, at a judge on loopback that enforces its limits.

Faults: 5 % each of 429, 500, time-out, reset, malformed JSON and truncation, 2 % refusal, drawn for every request, so
that retries meet them too. The judge's limit does not count its 429s; every other retry costs a request of it. Its
malformed replies are a sentence and single quotes: they are read as they are written and counted in `read_as_written`;
were they asked again, 0.79 would be the most. Rounds alternate after a warm-up; a run is long enough that its last
rows, which wait for time-outs, hardly count, and the limit is one that a single core keeps up with.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from typing import Any

from judged import pictures, stats
from runs import print_figure
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.engine import Judge
from vp_ray.judging.gate import Gate, LocalLimiter
from vp_ray.judging.requests import Question
from vp_ray.judging.rubric import Rubric
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge

FAULTS = dict.fromkeys(("rate_limited", "server_error", "timeout", "reset", "malformed", "truncated"), 0.05)
LATENCY_SECONDS, TIMEOUT_SECONDS = 0.25, 2.5
RUBRIC = Rubric.load("visionprefer")


PICTURES = tuple(pictures(4, 32))


def measure(faults: dict[str, float], number: int, rows: int, rate: int) -> dict[str, Any]:
    """One run of so many questions at a judge of its own that lets in `rate` requests a minute."""
    judge = JudgeSettings.load(
        {
            "canned": True,
            "latency_seconds": LATENCY_SECONDS,
            "latency_spread": 0.5,
            "requests_per_minute": rate,
            "limiter": "gcra",
            "burst_seconds": 1.0,
            "seed": number,
            "faults": {**faults, "timeout_seconds": 60.0},
        }
    )
    questions = [
        Question(f"{number}-{row}", f"p{row}", "a red circle", ("a", "b", "c", "d"), PICTURES) for row in range(rows)
    ]
    with running_judge(judge) as url:
        settings = AnnotatorSettings(
            name="judge",
            model="shapeworld-judge",
            base_url=url,
            requests_per_minute=rate,
            concurrency=max(64, rate // 40),
            timeout_seconds=TIMEOUT_SECONDS,
        )
        gate = Gate([settings])
        with Judge(settings, url, RUBRIC, LocalLimiter(gate)) as engine:
            started, began = time.monotonic(), time.time()
            answers = engine(questions)
            seconds = time.monotonic() - started
        seen = stats(url)
    statuses = Counter(row["status"] for row in answers)
    # When retried rows were answered, as a share of the run: 0.5 on average where retries are not kept for its end.
    retried = [(row["answered_at"] - began) / seconds for row in answers if row["attempts"] > 1]
    by_rate = gate.figures()["judge"]["refused_by_rate"]
    unusable = sum(row["status"] == "unreadable" for row in answers)
    found = {
        "seconds": seconds,
        "accounted": sum(statuses.values()) / rows,
        "requests_a_row": seen["requests"] / rows,
        "admitted_a_row": seen["admitted"] / rows,
        "refused_by_rate": by_rate,
        "rate_used": seen["admitted"] / (rate / 60 * seconds),
        "statuses": dict(statuses),
        "read_as_written": seen["faults"].get("malformed", 0) - 2 * unusable,
        "retries_answered_at": statistics.mean(retried) if retried else None,
        # Every reply is paid, read or not.
        "paid_beyond_one_each": seen["answers"].get("200", 0) / rows - 1,
    }
    print(found, file=sys.stderr, flush=True)
    return found


def median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


parser = argparse.ArgumentParser(description="Throughput under faults over fault-free throughput.")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--rows", type=int, default=9000, help="rows of each run")
parser.add_argument("--rate", type=int, default=3600, help="requests a minute that the judge lets in")
chosen = parser.parse_args()

measure({}, 0, chosen.rows // 10, chosen.rate)
clean, faulty = [], []
for number in range(1, chosen.rounds + 1):
    clean.append(measure({}, number, chosen.rows, chosen.rate))
    faulty.append(measure({**FAULTS, "refused": 0.02}, number, chosen.rows, chosen.rate))
speeds = [one["seconds"] / other["seconds"] for one, other in zip(clean, faulty, strict=True)]
print_figure(
    "annotation_rows_accounted",
    min(run["accounted"] for run in clean + faulty),
    "ratio",
    "rows asked",
    rows=chosen.rows,
    statuses=faulty[-1]["statuses"],
)
print_figure(
    "annotation_fault_speed",
    statistics.median(speeds),
    "ratio",
    "the same without faults",
    worst=min(speeds),
    seconds=median(faulty, "seconds"),
    requests_a_row=median(faulty, "requests_a_row"),
    admitted_a_row=median(faulty, "admitted_a_row"),
    rate_used=median(faulty, "rate_used"),
    rate_used_without_faults=median(clean, "rate_used"),
    retries_answered_at=median(faulty, "retries_answered_at"),
    read_as_written=median(faulty, "read_as_written"),
    paid_beyond_one_each=median(faulty, "paid_beyond_one_each"),
)
