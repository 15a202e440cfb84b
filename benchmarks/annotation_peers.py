"""The share of the allowed rate that peers use, and their share of 429s, beside ours: the same limit, side by side.

Six clients run at the same time, each at a judge of its own on loopback that lets in 600 requests a minute, three under
a sliding window and three under GCRA, and answers after a lognormal time around 2 s: the annotate stage with eight
actors; `ray.data.llm`'s HTTP processor with five actors of `qps=2`, so that together they are at the limit; and a plain
asyncio script with a token bucket that starts full, as textbooks have it, and waits as Retry-After says. All send the
same requests and try again what is refused. What servers let in counts for three minutes from 10 s after the first
request on.
"""

import asyncio
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import ray
from ray.data.llm import HttpRequestProcessorConfig, build_processor

from judged import SECONDS, SERVERS, pictures, share, small_run, watched
from runs import print_figure
from vp_ray.annotate.config import AnnotateSettings
from vp_ray.annotate.job import run
from vp_ray.judging.config import AnnotatorSettings
from vp_ray.judging.requests import Question, message
from vp_ray.judging.rubric import Rubric
from vp_ray.shapeworld.config import JudgeSettings
from vp_ray.shapeworld.judge_server import running_judge
from vp_ray.storage import RunFolder

RATE = 600
REQUESTS = RATE * (SECONDS + 35) // 60
MODEL = "shapeworld-judge"
PICTURES = pictures(64, 32)


def body(number: int) -> dict[str, Any]:
    """The request that our stage would send."""
    settings = AnnotatorSettings(name="judge", model=MODEL, base_url="http://127.0.0.1", image_side_pixels=32)
    shown = tuple(PICTURES[(4 * number + place) % 64] for place in range(4))
    question = Question(f"{number}", f"p{number}", f"a red circle {number}", ("a", "b", "c", "d"), shown)
    made = message(question, Rubric.load("visionprefer"), settings)
    return {
        "model": MODEL,
        "messages": made.messages,
        "response_format": made.response_format,
        "max_completion_tokens": 1500,
    }


def ours(folder: RunFolder, urls: dict[str, str]) -> None:
    """The annotate stage, with an annotator for each server."""
    annotators = [
        {
            "name": server,
            "model": MODEL,
            "base_url": url,
            "requests_per_minute": RATE,
            "concurrency": 32,
            "image_side_pixels": 32,
        }
        for server, url in urls.items()
    ]
    pool = {"min_actors": 8, "max_actors": 8, "cpus_per_actor": 1}
    run(
        AnnotateSettings.load({"annotators": annotators, "orders": 4, "requests_per_shard": 8, "actors": pool}),
        folder,
        None,
    )


def ray_data_llm(url: str, ended: threading.Event) -> None:
    """`ray.data.llm`, until it is done or three minutes are over."""
    config = HttpRequestProcessorConfig(
        url=f"{url}/chat/completions", qps=RATE // 60 // 5, concurrency=5, batch_size=64, max_retries=8
    )
    process = build_processor(config, preprocess=lambda row: {"payload": body(row["id"])}, postprocess=lambda row: row)
    for _ in process(ray.data.range(REQUESTS, override_num_blocks=40)).iter_rows():
        if ended.is_set():
            return


class TokenBucket:
    """As many tokens as requests are allowed in a minute, full at first and filled up steadily."""

    def __init__(self, per_minute: int) -> None:
        self._capacity = self._tokens = float(per_minute)
        self._filled_at = asyncio.get_running_loop().time()

    async def take(self) -> None:
        """Returns when a token was there."""
        while True:
            now = asyncio.get_running_loop().time()
            self._tokens = min(self._capacity, self._tokens + (now - self._filled_at) * self._capacity / 60)
            self._filled_at = now
            if self._tokens >= 1:
                self._tokens -= 1
                return
            await asyncio.sleep((1 - self._tokens) * 60 / self._capacity)


async def token_bucket(url: str, ended: threading.Event) -> None:
    """A script with a token bucket, 300 requests at once, until it is done or three minutes are over."""
    bucket, slots = TokenBucket(RATE), asyncio.Semaphore(300)
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)

    async def one(number: int) -> None:
        async with slots:
            asked = body(number)
            while not ended.is_set():
                await bucket.take()
                try:
                    await client.chat.completions.create(model=MODEL, messages=(), extra_body=asked)
                except openai.RateLimitError as error:
                    await asyncio.sleep(float(error.response.headers.get("retry-after", "1")))
                else:
                    return

    async with client:
        await asyncio.gather(*(one(number) for number in range(REQUESTS)))


CLIENTS = ("ours", "ray_data_llm", "token_bucket")

ray.init("local", num_cpus=24, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
try:
    with ExitStack() as stack:
        urls = {
            (client, server): stack.enter_context(
                running_judge(
                    JudgeSettings(
                        canned=True,
                        latency_seconds=2.0,
                        latency_spread=0.5,
                        requests_per_minute=RATE,
                        limiter=server,
                        burst_seconds=burst,
                    )
                )
            )
            for client in CLIENTS
            for server, burst in SERVERS.items()
        }
        folder = small_run(Path(stack.enter_context(tempfile.TemporaryDirectory())), REQUESTS // 4, PICTURES)
        threads = stack.enter_context(ThreadPoolExecutor(5))
        ended = threading.Event()
        with watched(list(urls.values())) as samples:
            running = [threads.submit(ours, folder, {server: urls["ours", server] for server in SERVERS})]
            for server in SERVERS:
                running.append(threads.submit(ray_data_llm, urls["ray_data_llm", server], ended))
                running.append(threads.submit(asyncio.run, token_bucket(urls["token_bucket", server], ended)))
            while not all(seen and seen[-1][1]["admitted"] for seen in samples.values()):
                ended.wait(1.0)
            ended.wait(SECONDS + 15)
            ended.set()
        print("three minutes are over", file=sys.stderr, flush=True)
        figures: dict[str, dict[str, float]] = {client: {} for client in CLIENTS}
        for (client, server), url in urls.items():
            seen = samples[url]
            last = seen[-1][1]
            figures[client][server] = share(seen, "admitted", RATE)
            figures[client][f"{server}_429_share"] = last["rate_limited"] / last["requests"]
        for client in CLIENTS:
            own = figures[client]
            name = "annotation_rate_ours_beside_peers" if client == "ours" else f"annotation_rate_{client}"
            worst = min(own[server] for server in SERVERS)
            print_figure(name, worst, "share of the allowed rate", "the server's limit", **own)
finally:
    ray.shutdown()
