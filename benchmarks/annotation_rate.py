"""The share of the allowed rate that the annotate stage uses over three minutes, and the share of answers that are 429.

Eight actors on two simulated nodes; judges on loopback enforce limits, state them in headers and answer the same level
for everything after a lognormal time around 2 s. The first guess of the limit is half of it, right, or double; a full
bucket at once is refused by both kinds of server. What servers let in is counted by themselves, for three minutes from
10 s after the first request on; `worst_from_start` counts from the first request. Settings that two cores can serve
side by side run together, each with a judge of its own. Arguments choose settings: `600 --guesses 2.0 --servers gcra`.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from judged import SECONDS, SERVERS, pictures, refused_at, share, small_run, stats, watched
from runs import print_figure
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.job import run
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge

GUESSES = (0.5, 1.0, 2.0)
RATES = {"600": (600, 0), "3000": (3000, 0), "tokens": (0, 1_000_000)}
TOGETHER = {"600": 3, "tokens": 6, "3000": 1}
"""How many settings are run at once: 50 requests a second at most."""
REPLY_TOKENS = 1500


def measure(name: str, settings: list[tuple[float, str]]) -> list[dict[str, Any]]:
    """One run with an annotator and a judge for each (guess, kind of server)."""
    requests, tokens = RATES[name]
    rate = requests or tokens // (REPLY_TOKENS + 900)
    with ExitStack() as stack:
        urls, annotators = [], []
        for guess, server in settings:
            limits = {"requests_per_minute": requests, "tokens_per_minute": tokens, "limiter": server}
            judge = JudgeSettings(
                canned=True, latency_seconds=2.0, latency_spread=0.5, burst_seconds=SERVERS[server], **limits
            )
            urls.append(stack.enter_context(running_judge(judge)))
            annotators.append(
                {
                    "name": f"{server}-{guess}",
                    "model": "shapeworld-judge",
                    "base_url": urls[-1],
                    "requests_per_minute": int(requests * guess),
                    "tokens_per_minute": int(tokens * guess),
                    "max_reply_tokens": REPLY_TOKENS,
                    "concurrency": 32,
                    "image_side_pixels": 32,
                }
            )
        path = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = small_run(path, rate * (SECONDS + 35) // 240, pictures(64, 32))
        stage = AnnotateSettings.load(
            {
                "annotators": annotators,
                "orders": 4,
                "requests_per_shard": 8,
                "actors": {"min_actors": 8, "max_actors": 8, "cpus_per_actor": 1},
            }
        )
        print(f"{name}: {len(settings)} settings for {SECONDS + 35} s", file=sys.stderr, flush=True)
        with watched(urls) as samples:
            run(stage, folder, None)
        found = []
        for url, (guess, server) in zip(urls, settings, strict=True):
            kind, limit = ("admitted", requests) if requests else ("tokens_admitted", tokens)
            last = stats(url)
            found.append(
                {
                    "setting": f"{name} {server} guess {guess}",
                    "share": share(samples[url], kind, limit),
                    "from_start": share(samples[url], kind, limit, 0),
                    "refused": last["rate_limited"] / last["requests"],
                }
            )
            print({**found[-1], "refused_at": refused_at(samples[url])}, file=sys.stderr, flush=True)
        return found


parser = argparse.ArgumentParser(description="Share of the allowed rate that the annotate stage uses.")
parser.add_argument("rates", nargs="*", default=list(RATES), help="limits to measure: 600, 3000, tokens")
parser.add_argument("--guesses", nargs="+", type=float, default=GUESSES, help="first guesses, as shares of the limit")
parser.add_argument("--servers", nargs="+", choices=SERVERS, default=tuple(SERVERS), help="how the judge keeps limits")
chosen = parser.parse_args()

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
for _ in range(2):
    cluster.add_node(num_cpus=4)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
try:
    figures = []
    combinations = list(product(chosen.guesses, chosen.servers))
    for name in chosen.rates:
        for start in range(0, len(combinations), TOGETHER[name]):
            figures += measure(name, combinations[start : start + TOGETHER[name]])
    worst = min(figures, key=lambda figure: figure["share"])
    print_figure(
        "annotation_rate",
        worst["share"],
        "share of the allowed rate",
        "the server's limit",
        worst=worst["setting"],
        worst_from_start=min(figure["from_start"] for figure in figures),
        settings=len(figures),
    )
    refused = max(figures, key=lambda figure: figure["refused"])
    print_figure(
        "annotation_429_share", refused["refused"], "share of answers", "none refused", worst=refused["setting"]
    )
finally:
    ray.shutdown()
    cluster.shutdown()
